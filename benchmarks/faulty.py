"""The project's ClientApp with faults: what `stress.py` lets the workers run.

Beside the run folder `<out>` lies `<out>.fault.json`: a kind of fault, and for each round the clients that
have it. Faults of the worker (`die`, `hang`) happen at a client's first attempt only, before or after its
work; faults of the client happen whenever it is asked.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from flwr.app import Array, ArrayRecord, Context, Message, MessageType, RecordDict

from clients.app import app as honest
from clients.app import train_together as honest_together
from clients.runtime import runtime
from fedkd.protocol import CONFIG, METRICS, SERVER_ROUND, TRAIN_LOSS
from fedkd.seeds import rng

HANG_SECONDS = 600


def fault_file(out: Path) -> Path:
    """Where the faults of a run are written down."""
    return out.with_name(f"{out.name}.fault.json")


@lru_cache
def _faults(out: str) -> dict[str, Any]:
    faults: dict[str, Any] = json.loads(fault_file(Path(out)).read_text())
    return faults


def app(message: Message, context: Context) -> Message:
    """The honest reply, or none, or another."""
    fault = _fault(message, context)
    if fault is None:
        return honest(message, context)
    fault.strike(before=True)
    reply = honest(message, context)
    fault.strike(before=False)
    return _spoilt(fault.kind, reply, message)


def train_together(asked: Sequence[tuple[Message, Context]]) -> list[Message | Exception]:
    """The same for a cohort that is trained as one stacked network."""
    faults = [_fault(message, context) for message, context in asked]
    for fault in faults:
        if fault is not None:
            fault.strike(before=True)
    answers = honest_together(asked)
    for k, fault in enumerate(faults):
        reply = answers[k]
        if fault is not None and isinstance(reply, Message):
            fault.strike(before=False)
            try:
                answers[k] = _spoilt(fault.kind, reply, asked[k][0])
            except ValueError as error:
                answers[k] = error
    return answers


class Fault(NamedTuple):
    """What happens to a client in a round, and where this is noted."""

    kind: str
    out: str
    number: int
    client: int

    def strike(self, before: bool) -> None:
        """Kill or hang the worker, once, before the client's work or after it."""
        early = rng(self.number, "stress", self.client).random() < 0.5
        if self.kind in ("die", "hang") and (early or not before):
            _strike(self.kind, self.out, self.number, self.client)


def _fault(message: Message, context: Context) -> Fault | None:
    client = int(context.node_config["partition-id"])
    number = int(message.content.config_records[CONFIG].get(SERVER_ROUND, 0))  # type: ignore[arg-type]
    out = str(runtime(message.content).config["out"])
    faults = _faults(out)
    struck = client in faults["clients"].get(str(number), [])
    training = message.metadata.message_type == MessageType.TRAIN
    return Fault(faults["kind"], out, number, client) if struck and training else None


def _strike(kind: str, out: str, number: int, client: int) -> None:
    mark = Path(f"{out}.{kind}-{number}-{client}")
    if mark.exists():
        return
    mark.touch()
    if kind == "hang":
        time.sleep(HANG_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _spoilt(kind: str, reply: Message, message: Message) -> Message:
    content = reply.content
    if kind == "raise":
        raise ValueError("a fault that was asked for")
    if kind == "nothing":
        return Message(RecordDict(), reply_to=message)
    if kind in ("nan", "inf"):
        content.metric_records[METRICS][TRAIN_LOSS] = float(kind)
    for record in content.array_records.values():
        _spoil(kind, record)
    return reply


def _spoil(kind: str, record: ArrayRecord) -> None:
    name, array = next(iter(record.items()))
    values = array.numpy().copy()
    if kind in ("nan", "inf"):
        values.reshape(-1)[0] = float(kind)
        record[name] = Array(values)
    if kind == "shape":
        record[name] = Array(values[..., :-1])
