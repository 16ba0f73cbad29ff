"""What is in the content of a message: its size, its shapes, the work that was done, and what is wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MessageType, RecordDict

from clients.arrays import NUMPY_STYPE, as_ndarray, nbytes
from fedkd.protocol import NUM_EXAMPLES, SAMPLES_TRAINED, SETUP
from simulations.flower_private import CLIENT_RAISED, message_from, metadata_of


def sizes(content: RecordDict) -> Counter[str]:
    """Bytes by record name."""
    records = content.array_records
    return Counter({name: sum(map(nbytes, record.values())) for name, record in records.items()})


def samples(content: RecordDict) -> float:
    """Samples trained on, as the client tells; from clients that do not, one pass over their examples."""
    for metrics in content.metric_records.values():
        for key in (SAMPLES_TRAINED, NUM_EXAMPLES):
            if key in metrics:
                return float(metrics[key])  # type: ignore[arg-type]
    return 0.0


def shapes(messages: Sequence[Message]) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays sent to everyone, which uploads of the same record and name must have."""
    if not messages or not messages[0].metadata.message_type.startswith(MessageType.TRAIN):
        return {}
    records: Mapping[str, ArrayRecord] = messages[0].content.array_records
    return {f"{name}/{key}": tuple(a.shape) for name, record in records.items() for key, a in record.items()}


def problem(content: RecordDict, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What is wrong with a reply, in a few words: nothing in it, shapes, or values that are not finite."""
    if not content:
        return "the reply is empty"
    for name, record in content.array_records.items():
        for key, array in record.items():
            wanted = shapes.get(f"{name}/{key}")
            if wanted is not None and tuple(array.shape) != wanted:
                return f"'{key}' has shape {tuple(array.shape)}, {wanted} was sent"
            values = as_ndarray(array) if array.stype == NUMPY_STYPE else np.empty(0)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return f"'{key}' holds values that are not finite"
    for metrics in content.metric_records.values():
        for key, value in metrics.items():
            if not np.isfinite(value).all():
                return f"metric '{key}' is not finite"
    return None


def as_error(reply: Message, reason: str) -> Message:
    """The reply with its content replaced by an error, as if the client had failed."""
    return message_from(metadata_of(reply), None, Error(CLIENT_RAISED, reason))


def attach(messages: Sequence[Message], setup: ConfigRecord) -> None:
    """Put the configuration into each message, for clients that start without one."""
    for content in {id(message.content): message.content for message in messages}.values():
        content[SETUP] = setup
