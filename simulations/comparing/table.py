"""The table: a row a group, a cell a figure with its interval, the best marked where intervals allow it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from fedkd.fairness import null_floor
from fedkd.fairness.metrics import Floats
from simulations.comparing import bootstrap
from simulations.comparing.bootstrap import Statistic
from simulations.comparing.groups import LOCAL, Group, local_runs
from simulations.comparing.runs import MIX, Run

BENIGN = "benign"
"""The source of the figures over benign clients alone; it has values where any run has bad ones."""

Repeats = dict[tuple[str, int], pd.Series]
"""One value a client, by repeat."""


class Column(NamedTuple):
    """A figure of the table.

    of: the values by client that it is computed from, see `SOURCES`
    better: 1 where high is good, -1 where low is, 0 where it is no merit
    """

    key: str
    heading: str
    of: str
    statistic: Statistic
    better: Literal[-1, 0, 1] = 0


SECTIONS: dict[str, tuple[Column, ...]] = {
    "Accuracy of clients": (
        Column("mean", "mean", "accuracy", bootstrap.mean, 1),
        Column("worst10", "worst tenth", "accuracy", bootstrap.worst10, 1),
        Column("null_worst10", "its null floor", "floor", bootstrap.mean),
    ),
    "Accuracy of benign clients": (
        Column("benign_mean", "mean", BENIGN, bootstrap.mean, 1),
        Column("benign_worst10", "worst tenth", BENIGN, bootstrap.worst10, 1),
        Column("benign_std", "deviation", BENIGN, bootstrap.std, -1),
    ),
    "Accuracy under each client's label mix": (
        Column("mix_mean", "mean", MIX, bootstrap.mean, 1),
        Column("mix_worst10", "worst tenth", MIX, bootstrap.worst10, 1),
    ),
    "Gain over the same client's local-only model": (
        Column("gain_mean", "mean", "gain", bootstrap.mean, 1),
        Column("gain_worst10", "worst tenth", "gain", bootstrap.worst10, 1),
        Column("harmed", "share harmed", "gain", bootstrap.below_zero, -1),
    ),
    "The same gain, under each client's label mix": (
        Column("mix_gain_mean", "mean", "mix_gain", bootstrap.mean, 1),
        Column("mix_gain_worst10", "worst tenth", "mix_gain", bootstrap.worst10, 1),
        Column("mix_harmed", "share harmed", "mix_gain", bootstrap.below_zero, -1),
    ),
    "Evenness and cost": (
        Column("std", "deviation", "accuracy", bootstrap.std, -1),
        Column("jain", "Jain", "accuracy", bootstrap.jain, 1),
        Column("rounds_to_95", "rounds to 0.95", "rounds_to_95", bootstrap.mean),
        Column("bytes", "bytes", "bytes", bootstrap.mean),
        Column("seconds", "seconds", "seconds", bootstrap.mean),
    ),
}
COLUMNS = {column.key: column for columns in SECTIONS.values() for column in columns}


@dataclass(frozen=True)
class Cell:
    """A figure: the mean over repeats of each repeat's figure, and its 95 % interval.

    best: whether it is better than every other group's, each paired difference's interval being off 0; a gain
        must so also be better than none
    """

    value: float
    low: float
    high: float
    best: bool = False


@dataclass(frozen=True)
class Table:
    """cells: by label, then by column key; a figure that a group does not have is not there."""

    groups: Sequence[Group]
    cells: dict[str, dict[str, Cell]]
    gains: dict[str, Repeats]

    def columns(self) -> dict[str, list[Column]]:
        """The columns that any group has a figure in, by section."""
        found = {
            name: [column for column in columns if any(column.key in row for row in self.cells.values())]
            for name, columns in SECTIONS.items()
        }
        return {name: columns for name, columns in found.items() if columns}


def tabulate(groups: Sequence[Group]) -> Table:
    """All figures of all groups."""
    alone = local_runs(groups)
    values = {each.label: _values(each, alone) for each in groups}
    if not any(run.bad for each in groups for run in each.runs):
        values = {label: found | {BENIGN: {}} for label, found in values.items()}
    cells: dict[str, dict[str, Cell]] = {label: {} for label in values}
    for key, column in COLUMNS.items():
        having = {label: found[column.of] for label, found in values.items() if found[column.of]}
        best = _best(column, having)
        for label, repeats in having.items():
            cells[label][key] = _cell(column, repeats, label == best)
    reference = [each.label for each in groups if alone and each.method == LOCAL]
    for label in reference:  # its gain over itself is what the others' must beat, and no news
        cells[label] = {key: cell for key, cell in cells[label].items() if COLUMNS[key].of not in GAINS}
    gains = {label: found["gain"] for label, found in values.items() if found["gain"]}
    return Table(groups, cells, {label: gain for label, gain in gains.items() if label not in reference})


def _cell(column: Column, repeats: Repeats, best: bool) -> Cell:
    arrays = [series.to_numpy(float) for series in repeats.values()]
    drawn = bootstrap.draws([array[None] for array in arrays], column.statistic)[0]
    value = float(bootstrap.estimate(arrays, column.statistic))
    return Cell(value, *bootstrap.interval(drawn), best=best)


def _values(each: Group, alone: dict[tuple[str, int], Run]) -> dict[str, Repeats]:
    """By source, the values of each repeat that has any."""
    gains = {name: {run.repeat: _gain(run, alone, of) for run in each.runs} for name, of in GAINS.items()}
    plain = {name: {run.repeat: of(run) for run in each.runs} for name, of in SOURCES.items()}
    return {
        name: {repeat: series for repeat, series in repeats.items() if not series.empty}
        for name, repeats in (plain | gains).items()
    }


def _scalar(of: Callable[[Run], float]) -> Callable[[Run], pd.Series]:
    return lambda run: pd.Series([of(run)])


def _floor(run: Run) -> float:
    sizes = run.clients["num_examples"]
    pooled = float(np.average(run.clients["accuracy"], weights=sizes))
    return null_floor(min(pooled, 1.0), sizes, seed=run.seeds[0])


SOURCES: dict[str, Callable[[Run], pd.Series]] = {
    "accuracy": lambda run: run.clients["accuracy"],
    BENIGN: lambda run: run.clients["accuracy"].drop(list(run.bad), errors="ignore"),
    MIX: lambda run: run.clients[MIX].dropna(),
    "floor": _scalar(_floor),
    "rounds_to_95": _scalar(lambda run: run.rounds_to_95),
    "bytes": _scalar(lambda run: run.bytes),
    "seconds": _scalar(lambda run: run.seconds),
}
GAINS = {"gain": "accuracy", "mix_gain": MIX}


def _gain(run: Run, alone: dict[tuple[str, int], Run], of: str) -> pd.Series:
    """What each client has beyond its local-only model of the same seeds; empty without such a run."""
    local = alone.get(run.repeat)
    if local is None:
        return pd.Series(dtype=float)
    return (run.clients[of] - local.clients[of]).dropna()


def _best(column: Column, having: dict[str, Repeats]) -> str | None:
    """The label of the group that is better than every other one beyond chance."""
    if not column.better or len(having) < 2:
        return None
    level = {
        label: column.better
        * bootstrap.estimate([s.to_numpy(float) for s in repeats.values()], column.statistic)
        for label, repeats in having.items()
    }
    best = max(level, key=lambda label: float(level[label]))
    rivals = [repeats for label, repeats in having.items() if label != best]
    return best if all(_beats(column, having[best], repeats) for repeats in rivals) else None


def _beats(column: Column, ours: Repeats, theirs: Repeats) -> bool:
    """Whether the interval of the paired difference, same seeds and clients, lies on the good side of 0."""
    pairs: list[Floats] = []
    for repeat in sorted(ours.keys() & theirs.keys()):
        both = pd.concat([ours[repeat], theirs[repeat]], axis=1, join="inner").to_numpy(float).T
        if both.size:
            pairs.append(both)
    if not pairs:
        return False
    first, second = bootstrap.draws(pairs, column.statistic)
    return bootstrap.interval(column.better * (first - second))[0] > 0
