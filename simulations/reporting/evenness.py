"""Who is how well off: the sorted profile round by round, and the Lorenz curve of the last one."""

from typing import Any

import numpy as np

from fedkd.fairness.metrics import Floats, gini, lorenz, mean, profile, worst
from simulations.canvas import MEAN, MUTED, WORST
from simulations.figures import last_accuracies
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, chart, numbers
from simulations.reporting.plot import faded, figure, line

STEPS = 40
"""At most so many rounds have a place on the slider."""
POINTS = 500
"""Of more clients, so many are drawn, evenly from worst to best."""


def section(run: RunFolder) -> Section | None:
    """The profile with a slider over rounds: first round, chosen round."""
    if not run.evaluated:
        return None
    rounds = chosen(run.evaluated)
    by_round = {number: rows["accuracy"].to_numpy(float) for number, rows in run.used.groupby("round")}
    x, first = places(by_round[rounds[0]])
    share, last = places(by_round[rounds[-1]])
    traces = [
        line(x, first, f"round {rounds[0]}", MUTED, 1.4, line={"dash": "dot"}),
        {**line(share, last, "chosen round", MEAN, 3), "fill": "tozeroy", "fillcolor": faded(MEAN, 0.07)},
    ]
    tail = {"type": "rect", "xref": "x", "yref": "paper", "x0": 0, "x1": 10, "y0": 0, "y1": 1}
    drawn = figure(
        traces,
        x={"title": f"{run.who}, worst first (%)", "range": [0, 100]},
        y={"title": "accuracy", "range": [0, 1.01]},
        height=480,
        margin={"l": 56, "r": 16, "t": 34, "b": 120},
        shapes=[{**tail, "fillcolor": faded(WORST, 0.08), "line": {"width": 0}, "layer": "below"}],
        sliders=[_slider(rounds, by_round)],
    )
    says = (
        f"Every one of the {run.who}, from worst to best: {run.judged}. Shaded: the worst tenth. "
        "Drag to choose a round."
    )
    return Section("profile", "Fairness profile", says, chart("profile-chart", drawn))


def lorenz_section(run: RunFolder) -> Section | None:
    """How the accuracy of the last round is shared, for each model that everybody has."""
    if not run.evaluated:
        return None
    even = {**line([0, 100], [0, 100], "even", MUTED, 1.2, line={"dash": "dot"}), "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = [even]
    for label, accuracy, colour, dashed, _ in last_accuracies(run.rows):
        share, held = (100 * part for part in lorenz(accuracy))
        kept = np.unique(np.linspace(0, share.size - 1, min(share.size, POINTS)).round().astype(int))
        name = f"{label.removesuffix(' local training')}: Gini {gini(accuracy):.3f}"
        dash = {"dash": "dash" if dashed == "--" else "solid"}
        traces.append(line(numbers(share[kept], 2), held[kept], name, colour, 2, line=dash))
    drawn = figure(
        traces,
        x={"title": f"{run.who}, worst first (%)", "range": [0, 100]},
        y={"title": "share of all accuracy (%)", "range": [0, 100]},
        height=480,
    )
    says = (
        f"Share of all accuracy that the worst-off {run.who} hold together, own test split, round "
        f"{run.evaluated[-1]}, before and after local training. On the dotted line all have the same; "
        "Gini is twice the area below it."
    )
    return Section("lorenz", "Lorenz curve", says, chart("lorenz-chart", drawn))


def chosen(rounds: list[int]) -> list[int]:
    """Some of the rounds, evenly, with the first and the last."""
    if len(rounds) <= STEPS:
        return rounds
    return [rounds[int(place)] for place in np.linspace(0, len(rounds) - 1, STEPS).round()]


def places(accuracy: Floats) -> tuple[list[float | None], Floats]:
    """Share of clients (%), worst first, and the accuracy there: each client's, or `POINTS` evenly."""
    ordered = profile(accuracy)
    if ordered.size > POINTS:
        ordered = ordered[np.linspace(0, ordered.size - 1, POINTS).round().astype(int)]
    return numbers(100 * (np.arange(ordered.size) + 0.5) / ordered.size, 2), ordered


def _slider(rounds: list[int], by_round: dict[Any, Floats]) -> dict[str, Any]:
    """Each step shows a round's profile and says its mean and worst tenth."""
    steps = []
    for number in rounds:
        accuracy = by_round[number]
        x, y = places(accuracy)
        name = f"round {number}: mean {mean(accuracy):.3f}, worst tenth {worst(accuracy):.3f}"
        changes = {"x": [x], "y": [numbers(y)], "name": [name]}
        steps.append({"method": "restyle", "label": str(number), "args": [changes, [1]]})
    current = {"prefix": "round ", "xanchor": "left", "font": {"size": 13}}
    look = {
        "bordercolor": "#fff",
        "bgcolor": "#e3e6ea",
        "activebgcolor": MEAN,
        "ticklen": 4,
        "font": {"size": 11},
    }
    return {"active": len(rounds) - 1, "steps": steps, "currentvalue": current, "pad": {"t": 46}, **look}
