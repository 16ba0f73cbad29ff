"""A strategy around a strategy: what it does not change is the inner one's, state and second exchange too."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from fedkd.models.staged import StagedModel
from fedkd.robust.multipliers import State
from strategies.server import Server, ServerSide

_INNER = "strategy."


class Around(Strategy, ServerSide):
    """Hands everything on to `strategy`.

    prefix: of the names of its own state, a flat dict of arrays and numbers, in a checkpoint
    """

    prefix: ClassVar[str]

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self._state: State = {}

    @property
    def _inner(self) -> ServerSide:
        """The inner strategy, or one that does nothing in its place where it is Flower's own."""
        return self.strategy if isinstance(self.strategy, ServerSide) else ServerSide()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        self.strategy.summary()

    def attach(self, server: Server) -> None:
        super().attach(server)
        self._inner.attach(server)

    def check_networks(self, networks: Sequence[StagedModel]) -> None:
        self._inner.check_networks(networks)

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        return self._inner.refuse(asked, content)

    def follow_up(self, server_round: int, grid: Grid) -> Iterable[Message]:
        return self._inner.follow_up(server_round, grid)

    def heard(self, server_round: int, replies: Iterable[Message]) -> None:
        self._inner.heard(server_round, replies)

    def report(self) -> list[dict[str, Any]]:
        return self._inner.report()

    def state_dict(self) -> dict[str, Tensor]:
        own = {self.prefix + name: torch.as_tensor(np.asarray(value)) for name, value in self._state.items()}
        return own | {_INNER + name: tensor for name, tensor in self._inner.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        own, inner = (
            {k.removeprefix(p): v for k, v in state.items() if k.startswith(p)} for p in (self.prefix, _INNER)
        )
        self._state = {name: v.numpy().copy() if v.ndim else v.item() for name, v in own.items()}
        self._inner.load_state_dict(inner)


def innermost(strategy: Strategy) -> Any:
    """The strategy itself, without those that stand around it."""
    while isinstance(strategy, Around):
        strategy = strategy.strategy
    return strategy
