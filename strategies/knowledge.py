"""Servers of methods in which no weights travel: one row a class, for FD and FedProto."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.protocol import CLASS_LOGITS, PROTOTYPES
from fedkd.training.program import Params
from strategies.carrying import Carrying, answers, take
from strategies.fitting import misfit
from strategies.local import Local


class ClassKnowledge(Carrying, Local):
    """The mean of the clients' rows, class by class, over the clients that hold the class.

    FD: Jeong et al. 2018, arXiv 1811.11479 (every holder counts the same). FedProto: Tan et al. 2022, arXiv
    2105.00243 (holders count by their samples of the class; their code counts them the same). Where
    `weighting=` rewrites `num-examples`, a client's rows count by what it made of its samples. A class that
    no client of the round holds keeps its row; one that nobody ever held has none.

    kind: name of the record: class_logits, or prototypes
    by_counts: whether a client counts by its number of samples of the class
    flower: of Flower's FedAvg
    """

    def __init__(
        self,
        kind: Literal["class_logits", "prototypes"] = CLASS_LOGITS,
        by_counts: bool = False,
        **flower: Any,
    ) -> None:
        super().__init__(**flower)
        if kind not in (CLASS_LOGITS, PROTOTYPES):
            raise ConfigError(f"method.strategy.kind={kind}: one of {CLASS_LOGITS}, {PROTOTYPES} is needed")
        self.kind = kind
        self.by_counts = by_counts
        self.rows: Params = {}

    def check_networks(self, networks: Sequence[StagedModel]) -> None:
        widths = [math.prod(network.shapes[-2]) for network in networks] if self.kind == PROTOTYPES else []
        if len(set(widths)) > 1:
            raise ConfigError(
                f"model.per_client: {self.kind} need models of one feature width before the last block, and "
                f"these have {', '.join(map(str, widths))}"
            )

    def carried(self) -> Mapping[str, Params]:
        return {self.kind: self.rows} if self.rows else {}

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        classes = self.server.num_classes
        logits = self.kind == CLASS_LOGITS
        width = classes if logits else math.prod(self.server.trainer.network.shapes[-2])
        return misfit(content, {self.kind: {"table": (classes, width), "counts": (classes,)}})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        uploads = take(replies, self.kind)
        if uploads:
            tables = torch.stack([upload["table"] for upload in uploads])
            counts = torch.stack([upload["counts"] for upload in uploads]).to(tables.dtype)
            # What the weighting made of each sample: 1 where the method's own weights are left.
            factor = torch.tensor(self.weights(replies)) / counts.sum(1)
            self.learn(tables, counts, factor, server_round)
        return super().aggregate_train(server_round, replies)

    def learn(self, tables: Tensor, counts: Tensor, factor: Tensor, server_round: int) -> None:
        """New rows from the clients' tables (K, M, d) and counts (K, M), client k counting factor (K,)."""
        shares = factor[:, None] * (counts if self.by_counts else (counts > 0).to(counts.dtype))
        total = shares.sum(0)
        mean = torch.einsum("km,kmd->md", shares, tables) / total.clamp_min(1e-30)[:, None]
        held = total > 0
        if self.rows:
            mean = torch.where(held[:, None], mean, self.rows["table"])
            held = held | self.rows["seen"]
        self.rows = {"table": mean, "seen": held}

    def state_dict(self) -> dict[str, Tensor]:
        return self.rows

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.rows = dict(state)
