"""Client by round, client by class: each row is somebody, and hovering says who."""

from typing import Any

import numpy as np
import pandas as pd

from simulations.canvas import MUTED
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, capital, chart, numbers
from simulations.reporting.plot import axis, figure, heat, round_axis

NAMED = 40
"""Up to so many rows carry their number at the side."""


def section(run: RunFolder) -> Section | None:
    """Accuracy by client and round; beside it how much each client holds, and of which classes."""
    if not run.evaluated:
        return None
    table = run.used.pivot(index="client", columns="round", values="accuracy").reindex(order(run))
    told = run.describe(table.index.to_numpy())
    z = [numbers(row) for row in table.to_numpy()]
    rounds = [int(number) for number in table.columns]
    hover = "%{y}<br>round %{x}: accuracy %{z:.3f}<extra></extra>"
    mix = _label_mix(run, table.index, told)
    domain = [0.36, 1] if mix else [0, 1]
    traces = [{**heat(z, x=rounds, y=told, hovertemplate=hover, xgap=0.5 if len(rounds) < 60 else 0)}, *mix]
    height = int(min(max(320, 16 * len(told) + 120), 900))
    beside: dict[str, Any] = {}
    if mix:
        beside = {
            "xaxis2": axis(
                "class", domain=[0, 0.22], anchor="y", tickangle=-45, type="category", showgrid=False
            ),
            "xaxis3": axis("samples", domain=[0.235, 0.33], anchor="y", rangemode="tozero", nticks=3),
        }
    drawn = figure(
        traces,
        x={**round_axis(rounds), "domain": domain, "showgrid": False},
        y=axis(rows_axis(table.index, told, run.who), anchor="x2" if mix else "x"),
        height=height,
        bargap=0.15,
        **beside,
    )
    left = "Left: the labels a client holds (share, all its splits) and its number of training samples. "
    says = f"{capital(run.judged)}. Sorted by the last round, best above. {left if mix else ''}"
    body, title = chart("clients-chart", drawn, roomy=True), f"{run.who.capitalize()} by round"
    return Section("clients", title, f"{says}Hover to see who it is.", body, wide=True)


def classes_section(run: RunFolder) -> Section | None:
    """Accuracy by client and class in the last evaluated round."""
    if not run.evaluated or run.who == "classes" or "class_total" not in run.last_counts:
        return None
    rows = run.last_counts.merge(run.last.reset_index()[["client", "model"]], on=["client", "model"])
    rows = rows[(rows["split"] == "test") & (rows["stage"] == "before")].set_index("client").loc[ranked(run)]
    right, total = (np.stack(rows[key].tolist()).astype(float) for key in ("class_correct", "class_total"))
    share = np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)
    told = run.describe(rows.index.to_numpy())
    hover = "%{y}<br>class %{x}: accuracy %{z:.3f} of %{customdata} test samples<extra></extra>"
    cells = heat(
        [numbers(row) for row in share],
        x=run.class_names,
        y=told,
        customdata=total.astype(int).tolist(),
        hovertemplate=hover,
    )
    height = int(min(max(320, 16 * len(told) + 120), 900))
    drawn = figure(
        [cells],
        x={"title": "class", "type": "category", "tickangle": -45, "showgrid": False},
        y=rows_axis(rows.index, told, run.who),
        height=height,
    )
    says = (
        f"{capital(run.judged)}, round {run.evaluated[-1]}; rows as above. "
        "Blank: the client has no test sample of that class; hover to see how many a cell stands on."
    )
    return Section("classes", "Clients by class", says, chart("classes-chart", drawn), wide=len(told) > NAMED)


def order(run: RunFolder) -> pd.Index:
    """All clients ever evaluated, worst in the last round first: the first row is drawn at the bottom."""
    missing = sorted(set(run.used["client"]) - set(run.last.index))
    return pd.Index(missing, dtype=run.last.index.dtype).append(ranked(run))


def ranked(run: RunFolder) -> pd.Index:
    """The clients of the last evaluated round, worst first."""
    return run.last["accuracy"].sort_values(kind="stable").index


def rows_axis(clients: pd.Index, told: list[str], who: str) -> dict[str, Any]:
    """The side with one row a client: numbers where there is room, else only a title."""
    few = len(told) <= NAMED
    ticks: dict[str, Any] = {"tickvals": told, "ticktext": [str(client) for client in clients]} if few else {}
    return {
        "title": who,
        "type": "category",
        "showticklabels": few,
        "showgrid": False,
        "ticks": "outside" if few else "",
        **ticks,
    }


def _label_mix(run: RunFolder, clients: pd.Index, told: list[str]) -> list[dict[str, Any]]:
    """Label shares and sizes of those clients who are in `population.csv`, as two traces."""
    if run.population.empty or run.who == "classes":
        return []
    rows = run.population.reindex(clients)
    counts = rows[run.class_names].to_numpy(float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pale = [[0, "#f6f6f4"], [0.5, "#9fb3bf"], [1, "#22272e"]]
    mix = heat(
        [numbers(row, 3) for row in shares],
        x=run.class_names,
        y=told,
        xaxis="x2",
        colorscale=pale,
        showscale=False,
        hovertemplate="%{y}<br>%{x}: %{z:.1%} of its samples<extra></extra>",
    )
    sizes = {
        "type": "bar",
        "orientation": "h",
        "x": numbers(rows["train"], 0),
        "y": told,
        "xaxis": "x3",
        "marker": {"color": MUTED},
        "showlegend": False,
        "hovertemplate": "%{y}<extra></extra>",
    }
    return [mix, sizes]
