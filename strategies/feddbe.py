"""FedDBE's server: FedAvg that learns the clients' mean feature once and tells it from then on.

Zhang et al., NeurIPS 2023, arXiv 2311.14975; the client's part stands in `clients.feddbe`.
"""

import math
from collections.abc import Iterable, Mapping

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from fedkd.protocol import FEATURE_MEAN
from fedkd.training.program import Params
from strategies.carrying import Carrying, answers, mean, take
from strategies.fitting import misfit


class FedDBE(Carrying):
    """FedAvg with the global mean feature, the weighted mean over the first round's clients."""

    known: Params | None = None

    def carried(self) -> Mapping[str, Params]:
        return {FEATURE_MEAN: self.known} if self.known else {}

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        width = math.prod(self.server.trainer.network.shapes[-2])
        return None if self.known else misfit(content, {FEATURE_MEAN: {"mean": (width,)}})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        if replies and self.known is None:
            self.known = mean(take(replies, FEATURE_MEAN), self.weights(replies))
        return super().aggregate_train(server_round, replies)

    def state_dict(self) -> dict[str, Tensor]:
        return self.known or {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.known = dict(state) or None
