"""Numbers that change with the round: any scalar of a configuration may be one of these instead.

`at(value, round)` reads a plain number and a schedule alike, so a method never asks which it was given.
Rounds count from 1; `f(0)` is the start of every schedule.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from fedkd.errors import ConfigError


class Schedule(ABC):
    """A number for every round; a pure function of it."""

    @abstractmethod
    def __call__(self, server_round: int) -> float:
        """The value in this round."""


Value = float | Schedule
"""A number, or a number for every round."""


def at(value: Value, server_round: int) -> float:
    """`value` in this round: itself where it is a number."""
    return value(server_round) if isinstance(value, Schedule) else value


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value in every round."""

    value: float

    def __call__(self, server_round: int) -> float:
        return self.value


@dataclass(frozen=True)
class _Ramp(Schedule):
    start: float
    stop: float
    rounds: int

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds={self.rounds} of a schedule: a whole number from 1 is needed")

    def _way(self, server_round: int) -> float:
        return min(max(server_round / self.rounds, 0.0), 1.0)


@dataclass(frozen=True)
class Linear(_Ramp):
    """From `start` before round 1 in equal steps to `stop` in round `rounds`, then `stop`."""

    def __call__(self, server_round: int) -> float:
        way = self._way(server_round)
        return self.stop if way == 1.0 else self.start + (self.stop - self.start) * way


@dataclass(frozen=True)
class Cosine(_Ramp):
    """From `start` to `stop` in round `rounds` along half a cosine, flat at both ends."""

    def __call__(self, server_round: int) -> float:
        way = self._way(server_round)
        if way == 1.0:
            return self.stop
        return self.stop + (self.start - self.stop) * (1.0 + math.cos(math.pi * way)) / 2.0


@dataclass(frozen=True)
class Delayed(Schedule):
    """0 before round `first`, then `value` of the round."""

    value: Value
    first: int

    def __call__(self, server_round: int) -> float:
        return at(self.value, server_round) if server_round >= self.first else 0.0


@dataclass(frozen=True)
class Step(Schedule):
    """`values[0]` first, `values[i]` from round `rounds[i - 1]` on."""

    values: Sequence[float]
    rounds: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.rounds) + 1 or list(self.rounds) != sorted(set(self.rounds)):
            raise ConfigError(
                f"values={list(self.values)}, rounds={list(self.rounds)} of a step schedule: "
                "increasing rounds and one value more than rounds are needed"
            )

    def __call__(self, server_round: int) -> float:
        return self.values[sum(server_round >= r for r in self.rounds)]


@dataclass(frozen=True)
class Exponential(Schedule):
    """`start * factor ** round`, held at `floor` where it would pass below."""

    start: float
    factor: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.factor <= 0:
            raise ConfigError(f"factor={self.factor} of an exponential schedule: a positive number is needed")

    def __call__(self, server_round: int) -> float:
        return max(self.start * self.factor**server_round, self.floor)
