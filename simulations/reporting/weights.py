"""How much each client counted: the weighting's multipliers over the rounds."""

from typing import Any

import numpy as np
import pandas as pd

from simulations.canvas import PALETTE
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, beside, chart, numbers
from simulations.reporting.people import order, rows_axis
from simulations.reporting.plot import BAR, EVEN, figure, heat, round_axis


def section(run: RunFolder) -> Section | None:
    """Weights relative to the method's own, by client and round; and against accuracy at the end."""
    if run.multipliers.empty or not run.evaluated:
        return None
    ratio = relative(run.multipliers)
    table = ratio.unstack("round").reindex(order(run)).dropna(how="all")
    if table.empty:
        return None
    told = run.describe(table.index.to_numpy())
    top = min(max(float(np.nanmax(np.abs(np.log2(table.to_numpy().clip(1e-6))))), 0.1), 4.0)
    cells = _cells(table, told, top, "%{y}<br>round %{x}: %{customdata:.3f} times its usual weight")
    height = int(min(max(300, 16 * len(told) + 110), 800))
    drawn = figure([cells], x=_rounds(table), y=rows_axis(table.index, told, run.who), height=height)
    weighting = run.config["choices"].get("weighting", "")
    says = (
        f"weighting={weighting}: each participant's weight relative to what it would be without; 1 is "
        "unchanged. Rows as above, best off first. Beside it the mean over the rounds against accuracy in "
        "the end: who counted more?"
    )
    body = beside(chart("weights-chart", drawn), chart("weights-accuracy-chart", _against(run, table)))
    return Section("weights", "Client weights", says, body, wide=True)


def classes_section(run: RunFolder) -> Section | None:
    """What each class counts in training, by round."""
    told = run.class_multipliers
    if told.empty or not run.evaluated:
        return None
    table = told.pivot(index="class", columns="round", values="gain").sort_index(ascending=False)
    names = [run.class_names[int(label)] for label in table.index]
    top = min(max(float(np.nanmax(np.abs(np.log2(table.to_numpy().clip(1e-6))))), 0.1), 4.0)
    cells = _cells(table, names, top, "class %{y}<br>round %{x}: %{customdata:.3f} times its usual weight")
    height = int(min(max(280, 18 * len(names) + 110), 800))
    drawn = figure(
        [cells], x=_rounds(table), y={"title": "class", "type": "category", "showgrid": False}, height=height
    )
    says = "How much the samples of each class count in the next round's training; 1 is unchanged."
    return Section("class-weights", "Class weights", says, chart("class-weights-chart", drawn))


def _rounds(table: pd.DataFrame) -> dict[str, Any]:
    return {**round_axis([int(number) for number in table.columns]), "showgrid": False}


def _cells(table: pd.DataFrame, rows: list[str], top: float, hover: str) -> dict[str, Any]:
    """Factors `(rows, rounds)` as colours, on a logarithmic scale from 2^-top to 2^top."""
    ticks = [-top, -top / 2, 0, top / 2, top]
    bar = {"title": {"text": "weight", "font": {"size": 12}}, "tickvals": ticks}
    return heat(
        [numbers(np.log2(row.clip(1e-6))) for row in table.to_numpy()],
        x=[int(number) for number in table.columns],
        y=rows,
        customdata=[numbers(row) for row in table.to_numpy()],
        colorscale=EVEN,
        zmin=-top,
        zmax=top,
        colorbar={**BAR, **bar, "ticktext": [f"× {2**tick:.2f}" for tick in ticks]},
        hovertemplate=f"{hover}<extra></extra>",
    )


def relative(multipliers: pd.DataFrame) -> pd.Series:
    """weight / base by (client, round), as shares of their round's sums; left out where there is none."""
    told = multipliers.dropna(subset=["weight"])
    shares = told.groupby("round")[["weight", "base"]].transform(lambda part: part / part.sum())
    ratio = shares["weight"] / shares["base"]
    return ratio.set_axis(pd.MultiIndex.from_frame(told[["client", "round"]]))


def _against(run: RunFolder, table: pd.DataFrame) -> dict[str, object]:
    """Mean weight over the run against accuracy in the last round."""
    weight = table.mean(axis=1)
    accuracy = run.last["accuracy"].reindex(weight.index)
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(accuracy),
        "y": numbers(weight),
        "text": run.describe(weight.index.to_numpy()),
        "marker": {"size": 8, "color": PALETTE[4], "opacity": 0.7},
        "hovertemplate": "%{text}<br>accuracy %{x:.3f}, weight × %{y:.2f}<extra></extra>",
    }
    return figure(
        [points], x="accuracy in the last round", y="mean relative weight over the rounds", height=340
    )
