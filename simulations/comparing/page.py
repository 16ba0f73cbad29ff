"""`compare.html`: the table and the comparison's figures, to hover and to zoom."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from fedkd.fairness.metrics import mean, worst
from simulations.canvas import MUTED, WORST, Look, looks
from simulations.comparing.groups import Group
from simulations.comparing.plots import costs, ordered, pareto, repeated
from simulations.comparing.present import HTML, lines_of
from simulations.comparing.runs import COSTS
from simulations.comparing.table import Cell, Table
from simulations.report import PAGE
from simulations.reporting.evenness import places
from simulations.reporting.html import Raw, Section, beside, chart, numbers, page, paragraph, table
from simulations.reporting.plot import band, faded, figure, line, round_axis

JUDGED = "The model each client would use (its own where it has one), before local training, own test split"
WORDS = (
    "Share harmed: clients below their own local-only model. Deviation: of accuracy over clients; Jain: 1 "
    "where all clients are equal. Rounds to 0.95: the first evaluated round whose mean is 0.95 of the last "
    "one's. Bytes: arrays of training, both ways; seconds: of the rounds, on the machine of the run."
)
Looks = Mapping[str, Look]
DASHES = {"-": "solid", "--": "dash", ":": "dot"}
SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up"}
"""Plotly's names of matplotlib's dashes and markers."""


def render(compared: Table, about: str, told: list[str], out: Path) -> str:
    """The page as text.

    told: the notes below the table
    out: the folder where the page will be
    """
    look = dict(zip(compared.cells, looks(len(compared.cells)), strict=True))
    found = [part for section in SECTIONS if (part := section(compared, look)) is not None]
    first = Section(
        "table",
        "Figures",
        told[0],
        _tables(compared) + "".join(map(paragraph, [*told[1:], WORDS])),
        wide=True,
    )
    title = " against ".join(look) if len(look) <= 3 else f"{len(look)} methods and settings"
    return page(title, [about], [first, *found, _runs(compared.groups, out)])


def _tables(compared: Table) -> str:
    body = ""
    for title, columns in compared.columns().items():
        lines = [[label, *map(Raw, cells)] for label, *cells in lines_of(compared, columns, HTML)]
        figures = table(["", *(column.heading for column in columns)], lines)
        body += f"<div><h3>{title}</h3>{figures}</div>"
    return f'<div class="side">{body}</div>'


def tradeoff(compared: Table, look: Looks) -> Section:
    """Average against worst tenth; nobody beats the points on the dotted front in both."""
    cells = [compared.cells[each.label] for each in compared.groups]
    x, y = ([row[key].value for row in cells] for key in ("mean", "worst10"))
    front = pareto(x, y)
    traces = [
        {
            **line([x[k] for k in front], [y[k] for k in front], "Pareto front", MUTED, 1.4),
            "hoverinfo": "skip",
        }
    ]
    traces[0]["line"] = {"dash": "dot", "color": MUTED, "width": 1.4}
    for each, row in zip(compared.groups, cells, strict=True):
        own, last = look[each.label].colour, [run.curve.loc[run.round] for run in each.runs]
        hover = f"{each.label}<br>mean %{{x:.3f}}, worst tenth %{{y:.3f}}<extra></extra>"
        point = {"type": "scatter", "mode": "markers", "legendgroup": each.label, "hovertemplate": hover}
        spread = {f"error_{axis}": _error(row[key]) for axis, key in (("x", "mean"), ("y", "worst10"))}
        big = {"color": own, "size": 12, "symbol": SYMBOLS[look[each.label].marker]}
        at: dict[str, Any] = {"x": [row["mean"].value], "y": [row["worst10"].value], "marker": big}
        traces.append({**point, "name": each.label, **at, **spread})
        xs, ys = (numbers(row[key] for row in last) for key in ("mean", "worst10"))
        small = {"color": faded(own, 0.4), "size": 6}
        traces.append({**point, "x": xs, "y": ys, "marker": small, "showlegend": False})
        floor = {"color": own, "size": 13, "symbol": "line-ew-open", "line": {"width": 2}}
        at = {
            "x": [row["mean"].value],
            "y": [row["null_worst10"].value],
            "marker": floor,
            "showlegend": False,
        }
        traces.append({**point, **at, "hovertemplate": "worst tenth by chance: %{y:.3f}<extra></extra>"})
    drawn = figure(traces, x="mean accuracy of clients", y="accuracy of the worst tenth", height=460)
    says = (
        f"{JUDGED}. Large: mean over repeats with 95 % intervals; small: single repeats; dash: the worst "
        "tenth to expect by chance if all clients were equal."
    )
    return Section("tradeoff", "Average against worst-off", says, chart("tradeoff-chart", drawn))


def _error(cell: Cell) -> dict[str, Any]:
    """The interval as plotly draws it."""
    up, down = numbers([max(cell.high - cell.value, 0), max(cell.value - cell.low, 0)])
    return {
        "type": "data",
        "symmetric": False,
        "array": [up],
        "arrayminus": [down],
        "thickness": 1.2,
        "width": 0,
    }


def curves(compared: Table, look: Looks) -> Section:
    """Mean and worst tenth over the rounds, the band from the lowest to the highest repeat."""
    drawn = []
    for column, title in (("mean", "mean of clients"), ("worst10", "worst tenth of clients")):
        traces = []
        for each in compared.groups:
            repeats = repeated(each, column)
            x = [int(number) for number in repeats.index]
            if len(each.runs) > 1:
                pale = faded(look[each.label].colour, 0.15)
                shade = band(x, repeats.min(axis=1), repeats.max(axis=1), each.label, pale)
                traces += [{**part, "showlegend": False} for part in shade]
            traces.append(
                {**row_line(x, repeats.mean(axis=1), each.label, look[each.label]), "legendgroup": each.label}
            )
        drawn.append(
            chart(
                f"curves-{column}",
                figure(traces, x=round_axis(x), y=title, height=400, hovermode="x unified"),
            )
        )
    says = f"{JUDGED}; mean over repeats, bands from the lowest to the highest repeat."
    return Section("curves", "Accuracy over rounds", says, beside(*drawn), wide=True)


def profiles(compared: Table, look: Looks) -> Section:
    """The sorted accuracy of every method."""
    traces = []
    for each in compared.groups:
        x, y = places(ordered([run.clients["accuracy"] for run in each.runs]))
        name = f"{each.label}: mean {mean(y):.3f}, worst tenth {worst(y):.3f}"
        traces.append(row_line(x, y, name, look[each.label]))
    tail = {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": 0,
        "x1": 10,
        "y0": 0,
        "y1": 1,
        "layer": "below",
    }
    drawn = figure(
        traces,
        x={"title": "clients, worst first (%)", "range": [0, 100]},
        y="accuracy",
        height=460,
        shapes=[{**tail, "fillcolor": faded(WORST, 0.08), "line": {"width": 0}}],
    )
    says = f"{JUDGED}. Every client, from worst to best; mean over repeats. Shaded: the worst tenth."
    return Section("profiles", "Fairness profiles", says, chart("profiles-chart", drawn))


def cost(compared: Table, look: Looks) -> Section:
    """Accuracy against what had been spent by then."""
    drawn = []
    for key in costs(compared.groups):
        traces = []
        for each in compared.groups:
            x = numbers(repeated(each, key).mean(axis=1), 1)
            traces.append(row_line(x, repeated(each, "mean").mean(axis=1), each.label, look[each.label]))
        x_axis = {"title": COSTS[key], "exponentformat": "SI", "rangemode": "tozero"}
        drawn.append(chart(f"cost-{key}", figure(traces, x=x_axis, y="mean of clients", height=360)))
    says = f"{JUDGED}; both averaged over repeats. Seconds of runs that went side by side share the machine."
    return Section("cost", "Cost against accuracy", says, beside(*drawn), wide=True)


def row_line(x: Iterable[Any], y: Iterable[Any], name: str, look: Look) -> dict[str, Any]:
    """A row's line in the row's look."""
    drawn = line(x, y, name, look.colour, line={"dash": DASHES[look.dash]})
    return {**drawn, "marker": {**drawn["marker"], "symbol": SYMBOLS[look.marker]}}


def gain(compared: Table, look: Looks) -> Section | None:
    """What each client has beyond its own local-only model."""
    if not compared.gains:
        return None
    traces = []
    for label, repeats in compared.gains.items():
        clients = pd.concat(repeats.values(), axis=1).mean(axis=1).sort_values(kind="stable")
        harmed = float(np.mean([(each < 0).mean() for each in repeats.values()]))
        name = (
            f"{label}: mean {np.mean([each.mean() for each in repeats.values()]):+.3f}, {harmed:.0%} harmed"
        )
        share = numbers(100 * (np.arange(clients.size) + 0.5) / clients.size, 2)
        who = {"text": [f"client {client}" for client in clients.index]}
        hover = "%{text}: %{y:+.3f}<extra>" + label + "</extra>"
        traces.append({**row_line(share, clients, name, look[label]), **who, "hovertemplate": hover})
    below = {"type": "rect", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": -1, "y1": 0}
    low = min(min(trace["y"]) for trace in traces)
    high = max(max(trace["y"]) for trace in traces)
    room = 0.08 * max(high - low, 0.05)
    drawn = figure(
        traces,
        x={"title": "clients, greatest loss first (%)", "range": [0, 100]},
        y={"title": "gain in accuracy", "range": [min(low, 0) - room, max(high, 0) + room], "zeroline": True},
        height=430,
        showlegend=True,
        shapes=[{**below, "layer": "below", "fillcolor": faded(WORST, 0.06), "line": {"width": 0}}],
    )
    says = (
        "Accuracy on the own test split minus that of the same client's local-only model, mean over the "
        "repeats that both have."
    )
    return Section("gain", "Gain over training alone, client by client", says, chart("gain-chart", drawn))


def _runs(groups: Sequence[Group], out: Path) -> Section:
    lines = [
        (each.label, *map(str, run.seeds), str(run.round), _link(run.folder, out))
        for each in groups
        for run in each.runs
    ]
    body = table(("method", "seed", "partition seed", "judged round", "run folder"), lines, "runs-table")
    return Section("runs", "Runs", "The runs that were compared, each with a page of its own.", body)


def _link(folder: Path, out: Path) -> Raw:
    """The name of a run folder, leading to its page as seen from `out`."""
    place = os.path.relpath(folder.resolve() / PAGE, out.resolve())
    return Raw(f'<a href="{quote(place)}">{escape(folder.name)}</a>')


SECTIONS: tuple[Callable[[Table, Looks], Section | None], ...] = (tradeoff, profiles, curves, gain, cost)
