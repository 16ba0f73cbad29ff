"""ClientApps for the engine's tests: workers import them by path."""

import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
offset = np.zeros(1)


def setup(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
    """Take what the driver put into the object store."""
    global offset
    offset = arrays["offset"]
    return config


@app.train()
def train(message: Message, context: Context) -> Message:
    """Stock Flower idiom: plain arrays, written to in place; the state counts the calls."""
    client = int(context.node_config["partition-id"])
    record = message.content["arrays"]
    assert isinstance(record, ArrayRecord)
    values = record.to_numpy_ndarrays()
    values[0] += client + offset[0]
    calls = context.state.setdefault("calls", MetricRecord({"n": 0}))
    calls["n"] += 1
    context.state["personal"] = ArrayRecord({"w": Array(values[0] * calls["n"])})
    metrics = MetricRecord({"num-examples": client + 1, "calls": calls["n"], "pid": os.getpid()})
    return Message(RecordDict({"arrays": ArrayRecord(values), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Look at the state without changing it, and spoil what was received."""
    seen = context.state["calls"]["n"] if "calls" in context.state else 0
    message.content["config"]["server-round"] = -1
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "seen": seen})}), reply_to=message)


@app.query("fail")
def fail(message: Message, context: Context) -> Message:
    """Client 1 changes its state and raises."""
    context.state["calls"] = MetricRecord({"n": 99})
    if context.node_config["partition-id"] == 1:
        raise ValueError("no data")
    return Message(RecordDict(), reply_to=message)


def exhaust(library: str) -> None:
    """Ask this library for more memory than the process may have."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    _ = torch.zeros(1 << 28) if library == "torch" else np.zeros(1 << 28)


@app.query("fault")
def fault(message: Message, context: Context) -> Message:
    """The chosen client kills, hangs or exhausts its worker, `times` times; tells its count of calls."""
    config = message.content["config"]
    calls = context.state.setdefault("calls", MetricRecord({"n": 0}))
    calls["n"] += 1
    if context.node_config["partition-id"] == config["client"]:
        marks = Path(str(config["folder"]))
        number = len(list(marks.iterdir()))
        if number < int(config["times"]):
            (marks / str(number)).touch()
            if config["kind"] == "hang":
                time.sleep(60)
            if config["kind"] in ("numpy", "torch"):
                exhaust(str(config["kind"]))
            os.kill(os.getpid(), signal.SIGKILL)
    return Message(RecordDict({"metrics": MetricRecord({"calls": calls["n"]})}), reply_to=message)


class Made:
    """An app that is built from a node, with what `setup` returned."""

    def __init__(self, factor: float, resources: Mapping[str, Any]) -> None:
        self.product = factor * resources["base"]

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer with the product."""
        return Message(RecordDict({"config": ConfigRecord({"product": self.product})}), reply_to=message)


def broken_setup(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """A program that cannot start."""
    raise FileNotFoundError("train.idx is missing")
