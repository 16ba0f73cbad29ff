"""FedMD's server: it averages what clients say of public samples.

D. Li and Wang 2019, arXiv 1910.03581; the client's part stands in `clients.fedmd`. The mean is weighted by
`num-examples`; the paper's plain mean is `weighting=uniform`. Public samples themselves never travel:
everybody has them, and the server names those of the round.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.protocol import PUBLIC_LOGITS, PUBLIC_NOISE
from fedkd.training.program import Params
from strategies.carrying import Carrying, answers, mean, take
from strategies.fitting import misfit
from strategies.local import Local
from strategies.server import Server


class FedMD(Carrying, Local):
    """Consensus of logits on public samples drawn each round.

    public_samples: how many are drawn, at most all there are
    flower: of Flower's FedAvg
    """

    def __init__(self, public_samples: int = 500, **flower: Any) -> None:
        super().__init__(**flower)
        if public_samples < 1:
            raise ConfigError(
                f"method.strategy.public_samples={public_samples}: a whole number from 1 is needed"
            )
        self.public_samples = public_samples
        self.consensus: Params = {}

    def attach(self, server: Server) -> None:
        super().attach(server)
        wanted = server.trainer.network.input_shape
        shape = wanted if server.public is None else tuple(server.public.x.shape[1:])
        if server.public is None and server.trainer.network.dtype != torch.float32:
            raise ConfigError("public=null: noise is no text; public=NAME of a data set of text is needed")
        if shape != wanted:
            raise ConfigError(f"public: its samples have shape {shape}, and the clients' have {wanted}")

    def drawn(self, server_round: int) -> Tensor:
        """Which public samples the clients of this round are asked about."""
        public, chance = self.server.public, self.server.rng("public samples", server_round)
        size = PUBLIC_NOISE if public is None else len(public)
        return torch.randperm(size, generator=chance)[: self.public_samples]

    def carried(self) -> Mapping[str, Params]:
        return {PUBLIC_LOGITS: {"ask": self.asked, **self.consensus}}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.asked = self.drawn(server_round)
        return super().configure_train(server_round, arrays, config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.asked = self.drawn(server_round)
        return super().configure_evaluate(server_round, arrays, config, grid)

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        return misfit(content, {PUBLIC_LOGITS: {"logits": (len(self.asked), self.server.num_classes)}})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        if replies:
            said = mean(take(replies, PUBLIC_LOGITS), self.weights(replies))["logits"]
            self.consensus = {"digest": self.drawn(server_round), "consensus": said}
        return super().aggregate_train(server_round, replies)

    def state_dict(self) -> dict[str, Tensor]:
        return self.consensus

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.consensus = dict(state)
