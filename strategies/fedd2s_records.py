"""FedD2S's messages: what the server puts into them, and what it takes out of the replies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from torch import Tensor

from fedkd.models.staged import StagedModel
from fedkd.personalization.global_head import Upload
from fedkd.personalization.heads import block_of, mean_by_name
from fedkd.protocol import (
    ALONE,
    CUT,
    HARM_MARGIN,
    HARMED,
    HEAD,
    LABEL_COUNTS,
    PROTOCOL,
    REPRESENTATIONS,
    SEND_BLOCKS,
    SOFT_LABELS,
    VAL_ACCURACY,
)
from fedkd.training.program import Params
from strategies.fitting import Layout, layout_of

SHARES = (ALONE, HARMED, HARM_MARGIN, VAL_ACCURACY)
"""Metrics in which every client counts the same: shares of clients, and means over them."""


def record_of(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Tensors as a record to be sent."""
    return ArrayRecord({name: Array(tensor.detach().numpy()) for name, tensor in tensors.items()})


def tensors_of(record: ArrayRecord) -> Params:
    """A received record as tensors of their own."""
    return {name: torch.from_numpy(_own(array)) for name, array in record.items()}


def _own(array: Array) -> np.ndarray:
    """The values, copied once: `numpy()` hands out a fresh copy, or the memory that the array itself has."""
    values = array.numpy()
    return values.copy() if values is getattr(array, "ndarray", None) else values


def below(arrays: ArrayRecord, cut: int) -> ArrayRecord:
    """The arrays of the blocks below the cut, not copied."""
    return ArrayRecord({name: array for name, array in arrays.items() if block_of(name) < cut})


def metrics_of(reply: Message) -> MetricRecord:
    """The reply's one record of metrics."""
    return next(iter(reply.content.metric_records.values()))


def weight_of(reply: Message, key: str) -> float:
    """How much a reply's client counts."""
    return float(metrics_of(reply)[key])  # type: ignore[arg-type]


def mean_arrays(replies: Sequence[Message], name: str, key: str) -> ArrayRecord:
    """The weighted mean of a record, each array over those who sent it."""
    parts = [(tensors_of(reply.content.array_records[name]), weight_of(reply, key)) for reply in replies]
    return record_of(mean_by_name(parts))


def upload_of(reply: Message, client: int, weight: float) -> Upload:
    """What a reply tells about its client's representations, in float32."""
    records = reply.content.array_records
    sent = tensors_of(records[REPRESENTATIONS])
    p = tensors_of(records[SOFT_LABELS])["p"].float() if SOFT_LABELS in records else None
    head = tensors_of(records[HEAD]) if HEAD in records else {}
    return Upload(client, weight, sent["ids"], sent["z"].float(), sent["y"], p, head, sent["z"].dtype)


def layouts(told: Mapping[str, Any], network: StagedModel, num_classes: int) -> dict[str, Layout]:
    """What a client must send beside a body, by what it was told; features and soft labels row for row."""
    cut, protocol = int(told[CUT]), told[PROTOCOL]
    whole = protocol != "representations"
    blocks = range(cut, network.num_blocks if whole else int(told.get(SEND_BLOCKS, cut)))
    weights = layout_of(network.state_dict()).items()
    wanted: dict[str, Layout] = {}
    if blocks:
        wanted[HEAD] = {name: shape for name, shape in weights if block_of(name) in blocks}
    if protocol == "generator":
        return wanted | {LABEL_COUNTS: {"counts": (num_classes,)}}
    wanted[REPRESENTATIONS] = {"ids": ("n",), "z": ("n", *network.shapes[cut - 1]), "y": ("n",)}
    if not whole:
        wanted[SOFT_LABELS] = {"p": ("n", num_classes)}
    return wanted


def accuracies(replies: Mapping[int, Message]) -> dict[int, float]:
    """The validation accuracy of those who told it, by place."""
    metrics = {place: metrics_of(reply) for place, reply in replies.items()}
    return {k: float(told[VAL_ACCURACY]) for k, told in metrics.items() if VAL_ACCURACY in told}  # type: ignore[arg-type]


def overall(replies: Sequence[Message]) -> MetricRecord:
    """The plain means of what counts every client the same; these are taken out of the replies."""
    records = [metrics_of(reply) for reply in replies]
    told = {name: [float(record.pop(name)) for record in records if name in record] for name in SHARES}  # type: ignore[arg-type]
    return MetricRecord({name: sum(values) / len(values) for name, values in told.items() if values})
