"""The comparison's figures, each as PNG for the eye and PDF for papers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedkd.fairness.metrics import Floats
from simulations.canvas import (
    COLUMN,
    MUTED,
    STYLE,
    WORST,
    Look,
    draw,
    legend_below,
    looks,
    name_ends,
    new_figure,
)
from simulations.comparing.groups import Group
from simulations.comparing.runs import COSTS
from simulations.comparing.table import Repeats, Table
from simulations.figures import Series, profile_figure

JUDGED = "the model each client would use, before local training, own test split"
AT_ENDS = 20
"""Up to so many letters a name stands at the end of its line, else in a legend."""


def write_plots(folder: Path, table: Table, about: str) -> list[Path]:
    """Write all figures there are values for; their paths."""
    look = dict(zip(table.cells, looks(len(table.cells)), strict=True))
    series = [
        Series(each.label, ordered([run.clients["accuracy"] for run in each.runs]), *look[each.label])
        for each in table.groups
    ]
    figures = {
        "tradeoff": tradeoff_figure(table, about, look),
        "curves": curves_figure(table.groups, about, look),
        "profiles": profile_figure(series, about, f"{JUDGED}, mean over repeats"),
    }
    figures["cost"] = cost_figure(table.groups, about, look)
    if table.gains:
        figures["gain"] = gain_figure(table.gains, about, look)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150, facecolor="white")
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    return [folder / f"{name}.{kind}" for name in figures for kind in ("png", "pdf")]


def pareto(mean: Sequence[float], worst: Sequence[float]) -> list[int]:
    """Positions of the points that no other one beats in both, by ascending `mean`."""
    points = np.array([mean, worst])
    front = [
        place
        for place, own in enumerate(points.T)
        if not any((other >= own).all() and (other > own).any() for other in points.T)
    ]
    return sorted(front, key=lambda place: mean[place])


@matplotlib.rc_context(STYLE)
def tradeoff_figure(table: Table, about: str, look: Mapping[str, Look]) -> Figure:
    """Average against worst tenth with intervals, the Pareto front, and where equal clients would lie."""
    over = "own test split; lines: 95 % intervals; small: single repeats; ticks: worst tenth of equal clients"
    figure, (axes,) = new_figure("Average against worst-off clients", about, over, len(table.groups))
    cells = [table.cells[each.label] for each in table.groups]
    x, y = ([row[key].value for row in cells] for key in ("mean", "worst10"))
    front = pareto(x, y)
    axes.plot([x[k] for k in front], [y[k] for k in front], color=MUTED, linestyle=":", gid="Pareto front")
    for each, row in zip(table.groups, cells, strict=True):
        own, mean, worst = look[each.label].colour, row["mean"], row["worst10"]
        last = [run.curve.loc[run.round] for run in each.runs]
        axes.hlines(worst.value, mean.low, mean.high, color=own, linewidth=1.2)
        axes.vlines(mean.value, worst.low, worst.high, color=own, linewidth=1.2)
        axes.scatter([r["mean"] for r in last], [r["worst10"] for r in last], s=16, color=own, alpha=0.4)
        axes.plot(mean.value, row["null_worst10"].value, marker="_", markersize=14, color=own, alpha=0.7)
        told = f"{each.label}: mean {mean.value:.3f}, worst tenth {worst.value:.3f}"
        shape = look[each.label].marker
        axes.plot(mean.value, worst.value, marker=shape, markersize=9, color=own, linestyle="", label=told)
    axes.set(xlabel="mean accuracy of clients", ylabel="accuracy of the worst tenth")
    axes.margins(0.08)
    legend_below(figure, len(table.groups))
    return figure


@matplotlib.rc_context(STYLE)
def curves_figure(groups: Sequence[Group], about: str, look: Mapping[str, Look]) -> Figure:
    """Mean, and worst tenth, over the rounds: averaged over repeats, the band from lowest to highest."""
    over = f"{JUDGED}; bands: lowest to highest repeat"
    pale = 0.15 if len(groups) <= COLUMN else 0.04
    at_ends = len(groups) <= COLUMN and max(len(each.label) for each in groups) <= AT_ENDS
    figure, panels = new_figure("Accuracy over rounds", about, over, 0 if at_ends else len(groups), 2, True)
    for axes, column, title in zip(panels, ("mean", "worst10"), ("mean", "worst tenth"), strict=True):
        for each in groups:
            repeats = repeated(each, column)
            x, low, high = repeats.index.to_numpy(), repeats.min(axis=1), repeats.max(axis=1)
            axes.fill_between(x, low, high, color=look[each.label].colour, alpha=pale, linewidth=0)
            drawn = line_of(axes, x, repeats.mean(axis=1), each.label, look)
            if axes is panels[0]:
                drawn.set_label(each.label)
        axes.set_title(f"{title} of clients", loc="left", fontsize=12)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=8))
    panels[0].set_ylabel("accuracy")
    if at_ends:
        for axes in panels:
            name_ends(axes)
    else:
        legend_below(figure, len(groups))
    return figure


@matplotlib.rc_context(STYLE)
def cost_figure(groups: Sequence[Group], about: str, look: Mapping[str, Look]) -> Figure:
    """Mean accuracy against what had been spent by then: bytes, seconds, simulated seconds where told."""
    keys = costs(groups)
    figure, panels = new_figure(
        "Cost against accuracy", about, f"{JUDGED}; mean over repeats", len(groups), len(keys), True
    )
    for axes, key in zip(panels, keys, strict=True):
        for each in groups:
            x, y = (repeated(each, column).mean(axis=1) for column in (key, "mean"))
            drawn = line_of(axes, x, y, each.label, look)
            if axes is panels[0]:
                drawn.set_label(each.label)
        axes.set_xlabel(COSTS[key], fontsize=10)
        axes.set_xlim(left=0)
    panels[0].set_ylabel("mean accuracy of clients")
    legend_below(figure, len(groups))
    return figure


def line_of(axes: Axes, x: Any, y: Any, label: str, look: Mapping[str, Look]) -> Line2D:
    """A row's line in the row's look."""
    colour, dash, marker = look[label]
    return draw(axes, x, y, label, colour, linestyle=dash, marker=marker)


def costs(groups: Sequence[Group]) -> list[str]:
    """The costs that every run has told."""
    curves = [run.curve for each in groups for run in each.runs]
    return [key for key in COSTS if all(curve[key].notna().any() for curve in curves)]


def repeated(each: Group, column: str) -> pd.DataFrame:
    """A column of the curve by round, one of each repeat, over the rounds they have in common."""
    return pd.concat([run.curve[column] for run in each.runs], axis=1, join="inner")


@matplotlib.rc_context(STYLE)
def gain_figure(gains: Mapping[str, Repeats], about: str, look: Mapping[str, Look]) -> Figure:
    """What each client has beyond its own local-only model, from the greatest loss to the greatest gain."""
    over = (
        "accuracy on the own test split, minus that of the same client's local-only model; mean over repeats"
    )
    figure, (axes,) = new_figure("Gain over training alone, client by client", about, over, len(gains))
    for label, repeats in gains.items():
        values = ordered(list(repeats.values()))
        share = 100 * (np.arange(values.size) + 0.5) / values.size
        harmed = np.mean([(each < 0).mean() for each in repeats.values()])
        drawn = line_of(axes, share, values, label, look)
        drawn.set_label(f"{label}: mean {values.mean():+.3f}, {harmed:.0%} of clients harmed")
    low, high = axes.get_ylim()
    axes.axhline(0, color=MUTED, linewidth=1.2)
    axes.axhspan(min(low, 0), 0, color=WORST, alpha=0.06, linewidth=0)
    axes.set(xlim=(0, 100), ylim=(min(low, 0), max(high, 0)))
    axes.set(xlabel="clients, greatest loss first (%)", ylabel="gain in accuracy")
    legend_below(figure, len(gains))
    return figure


def ordered(repeats: Sequence[pd.Series]) -> Floats:
    """The values from lowest to highest, averaged over repeats; as many as the largest repeat has."""
    size = max(map(len, repeats))
    share = (np.arange(size) + 0.5) / size
    each = [np.sort(values.to_numpy(float)) for values in repeats]
    return np.mean([np.interp(share, (np.arange(v.size) + 0.5) / v.size, v) for v in each], axis=0)
