"""Figures of one run, or of several runs side by side, as PNG files that are readable at 900 pixels.

Every figure says under its title which model it judges, at which stage, on which split, and over whom.
A run is judged by the model each client would use: its own where it has one, else the global model, before
local training. Lines carry the name of what they show as `gid`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedkd.fairness.metrics import Floats, gini, lorenz, mean, profile, worst
from simulations.canvas import (
    BEST,
    MEAN,
    MUTED,
    PALETTE,
    STYLE,
    WORST,
    colours,
    draw,
    fit_levels,
    legend_below,
    name_ends,
    new_figure,
    save,
)

Run = tuple[pd.DataFrame, pd.DataFrame]
"""The frames of `clients.parquet` and `rounds.csv`."""


_CHOSEN = "the model each client would use, before local training, own test split"


class Series(NamedTuple):
    """Accuracies `(K,)` of the same clients under one model, and how to draw them."""

    label: str
    accuracy: Floats
    colour: str
    dash: str = "-"
    marker: str = "o"


def write_figures(folder: Path, clients: pd.DataFrame, rounds: pd.DataFrame, about: str) -> list[Path]:
    """Accuracy over rounds, fairness profile and Lorenz curve of one run; none where nobody was evaluated.

    about: what the run is, such as "fedavg on fashion_mini, dirichlet, seed 1"
    """
    rows = used(clients)
    if rows.empty or _evaluated(rounds).empty:
        return []
    models = last_accuracies(clients)
    over = f"own test split, round {rows['round'].max()}, {_count(models)}"
    return save(
        folder,
        rounds=rounds_figure(clients, rounds, about),
        profile=profile_figure(models, about, over),
        lorenz=lorenz_figure(models, about, over),
    )


def write_comparison(folder: Path, runs: Mapping[str, Run], about: str) -> list[Path]:
    """The same three for several runs, by label; runs in which nobody was evaluated are left out."""
    runs = {
        label: run for label, run in runs.items() if not used(run[0]).empty and not _evaluated(run[1]).empty
    }
    if not runs:
        return []
    last = [_last_round(used(clients))["accuracy"].to_numpy(float) for clients, _ in runs.values()]
    series = [Series(*each) for each in zip(runs, last, colours(len(runs)), strict=True)]
    over = f"{_CHOSEN}, last round, {_count(series)}"
    return save(
        folder,
        compare_rounds=compared_rounds_figure(runs, about),
        compare_profile=profile_figure(series, about, over),
        compare_lorenz=lorenz_figure(series, about, over),
    )


def used(clients: pd.DataFrame) -> pd.DataFrame:
    """The test rows, before local training, of the model that each client would use."""
    rows = clients[(clients["split"] == "test") & (clients["stage"] == "before")]
    personal_first = rows.sort_values("model", ascending=False, kind="stable")
    return personal_first.drop_duplicates(["round", "client"]).sort_values(["round", "client"])


def last_accuracies(clients: pd.DataFrame) -> list[Series]:
    """Test accuracies of the last evaluated round, by model and stage; only where every client has one."""
    tests = clients[(clients["split"] == "test") & (clients["round"] == used(clients)["round"].max())]
    models = sorted(tests["model"].unique(), reverse=True)
    return [
        Series(
            f"{model} model, {stage} local training",
            group.sort_values("client")["accuracy"].to_numpy(float),
            PALETTE[models.index(model)],
            {"before": "-", "after": "--"}[stage],
        )
        for (model, stage), group in sorted(tests.groupby(["model", "stage"]), reverse=True)
        if group["client"].nunique() == tests["client"].nunique()
    ]


@matplotlib.rc_context(STYLE)
def rounds_figure(clients: pd.DataFrame, rounds: pd.DataFrame, about: str) -> Figure:
    """Mean, median, worst and best tenth over the rounds, and the worst tenth of equal clients."""
    rows, rounds = used(clients), _evaluated(rounds)
    median = rows.groupby("round")["accuracy"].median()
    models = " or ".join(sorted(rows["model"].unique(), reverse=True))
    over = f"{models} model before local training, own test split, over {rows['client'].nunique()} clients"
    figure, (axes,) = new_figure("Accuracy over rounds", about, over)
    x = rounds["round"]
    axes.fill_between(x, rounds["worst10"], rounds["best10"], color=MEAN, alpha=0.08, linewidth=0)
    if "null_worst10" in rounds:
        draw(axes, x, rounds["null_worst10"], "worst tenth if all equal", MUTED, linestyle=":", linewidth=1.6)
    draw(axes, x, rounds["best10"], "best tenth", BEST)
    draw(axes, median.index, median, "median", MEAN, linestyle="--", linewidth=1.4)
    draw(axes, x, rounds["worst10"], "worst tenth", WORST)
    draw(axes, x, rounds["mean"], "mean", MEAN, linewidth=2.8)
    _finish_rounds([axes])
    return figure


@matplotlib.rc_context(STYLE)
def compared_rounds_figure(runs: Mapping[str, Run], about: str) -> Figure:
    """Mean, and worst tenth, of each run over the rounds, side by side."""
    figure, panels = new_figure("Accuracy over rounds", about, _CHOSEN, panels=2, sharey=True)
    for axes, column, title in zip(panels, ("mean", "worst10"), ("mean", "worst tenth"), strict=True):
        for (label, (_, rounds)), colour in zip(runs.items(), colours(len(runs)), strict=True):
            done = _evaluated(rounds)
            draw(axes, done["round"], done[column], label, colour)
        axes.set_title(f"{title} of clients", loc="left", fontsize=12)
    _finish_rounds(panels)
    return figure


@matplotlib.rc_context(STYLE)
def profile_figure(series: Sequence[Series], about: str, over: str) -> Figure:
    """Accuracy of each client, from worst to best, one line for each of `series`."""
    figure, (axes,) = new_figure(
        "Fairness profile: every client, from worst to best", about, over, len(series)
    )
    for label, accuracy, colour, dash, marker in series:
        share = 100 * (np.arange(accuracy.size) + 0.5) / accuracy.size
        drawn = draw(axes, share, profile(accuracy), label, colour, linestyle=dash, marker=marker)
        drawn.set_label(f"{label}: mean {mean(accuracy):.3f}, worst tenth {worst(accuracy):.3f}")
    axes.axvspan(0, 10, color=WORST, alpha=0.07, linewidth=0)
    axes.text(0.8, 1.01, "worst tenth", transform=axes.get_xaxis_transform(), fontsize=10, color=WORST)
    axes.set(xlim=(0, 100), xlabel="clients, worst first (%)", ylabel="accuracy")
    fit_levels([axes])
    legend_below(figure, len(series))
    return figure


@matplotlib.rc_context(STYLE)
def lorenz_figure(series: Sequence[Series], about: str, over: str) -> Figure:
    """Lorenz curves with Gini coefficients and, enlarged, how far each lies below the even line."""
    title = "Lorenz curve: how evenly accuracy is shared"
    figure, (curve, below) = new_figure(title, about, over, len(series), panels=2)
    curve.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=":", gid="even")
    for label, accuracy, colour, dash, _ in series:
        clients, held = (100 * share for share in lorenz(accuracy))
        curve.plot(clients, held, color=colour, linestyle=dash, gid=label)
        drawn = below.plot(clients, clients - held, color=colour, linestyle=dash, gid=label)[0]
        drawn.set_label(f"{label}: Gini {gini(accuracy):.3f}")
    curve.set(xlim=(0, 100), ylim=(0, 100), ylabel="share of all accuracy (%)")
    below.set(xlim=(0, 100), ylabel="points below the even line")
    below.set_ylim(0, max(1.0, below.get_ylim()[1]))
    for axes in (curve, below):
        axes.set_xlabel("clients, worst first (%)")
    legend_below(figure, len(series))
    return figure


def _finish_rounds(panels: Sequence[Axes]) -> None:
    fit_levels(panels)
    panels[0].set_ylabel("accuracy")
    for axes in panels:
        axes.set_xlabel("round")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=8))
        name_ends(axes)


def _count(series: Sequence[Series]) -> str:
    sizes = sorted({each.accuracy.size for each in series})
    return f"{sizes[0]} clients" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} clients"


def _last_round(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["round"] == rows["round"].max()]


def _evaluated(rounds: pd.DataFrame) -> pd.DataFrame:
    return rounds[rounds["mean"].notna()] if "mean" in rounds else rounds.iloc[:0]
