"""FedKD's server: it puts the mentees' compressed changes together.

Wu et al., Nature Communications 2022, arXiv 2108.13323. The energy that a client's factors must hold grows
over the run, T(t) = T_start + (T_end - T_start) t / rounds: changes are of low rank early, and details count
late. Departure: the mentee comes down whole. The authors compress the averaged change too, which a client
that was absent in the round before could not use.
"""

import math
from collections.abc import Container, Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedkd.errors import ConfigError
from fedkd.personalization.lowrank import restore
from fedkd.protocol import ENERGY, UPDATE
from strategies.carrying import Carrying, answers, take
from strategies.fedd2s_records import record_of, tensors_of
from strategies.fitting import Layout, Shape, layout_of, misfit


class FedKD(Carrying):
    """FedAvg of models that arrive as factors of their changes.

    rounds: of the run
    energy_start, energy_end: share of the energy that the factors hold at least
    flower: of Flower's FedAvg
    """

    averages_models = False
    """Its replies hold no arrays, so weightings that look at updates are refused."""

    def __init__(
        self, rounds: int, energy_start: float = 0.95, energy_end: float = 0.98, **flower: Any
    ) -> None:
        super().__init__(**flower)
        for key, value in (("energy_start", energy_start), ("energy_end", energy_end)):
            if not 0 < value <= 1:
                raise ConfigError(f"method.strategy.{key}={value}: a number above 0, up to 1, is needed")
        self.rounds, self.energy = rounds, (energy_start, energy_end)

    def energy_at(self, server_round: int) -> float:
        """T(t)."""
        start, end = self.energy
        return start + (end - start) * min(1.0, server_round / self.rounds)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._sent = tensors_of(arrays)
        config[ENERGY] = self.energy_at(server_round)
        return super().configure_train(server_round, arrays, config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config[ENERGY] = self.energy_at(server_round)
        return super().configure_evaluate(server_round, arrays, config, grid)

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        wanted = layout_of(self._sent)
        return misfit(content, {UPDATE: factored(wanted, content.array_records.get(UPDATE, {}))})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        for reply, sent in zip(replies, take(replies, UPDATE), strict=True):
            change = restore(sent, self._sent)
            models = {name: value + change[name] for name, value in self._sent.items()}
            reply.content[self.arrayrecord_key] = record_of(models)
        return super().aggregate_train(server_round, replies)


def factored(layout: Layout, sent: Container[str]) -> Layout:
    """The layout of a change in which what is not `sent` whole comes in factors of one rank each."""
    wanted: dict[str, Shape] = {}
    for name, shape in layout.items():
        rank = f"rank of {name}"
        if name in sent or len(shape) < 2:
            wanted[name] = shape
        else:
            columns = math.prod(size for size in shape[1:] if isinstance(size, int))
            wanted |= {f"{name}/u": (shape[0], rank), f"{name}/s": (rank,), f"{name}/v": (rank, columns)}
    return wanted
