"""Accuracy over the rounds: mean, median, worst and best tenth, and how the clients spread between."""

import pandas as pd

from fedkd.fairness.metrics import best, worst
from simulations.canvas import BEST, MEAN, MUTED, WORST
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, capital, chart
from simulations.reporting.plot import band, faded, figure, line, round_axis

FAN = ((0.1, 0.9, 0.10), (0.25, 0.75, 0.16))
"""Quantiles from, to, and how dark."""


def section(run: RunFolder) -> Section | None:
    """A fan of quantiles under the lines."""
    if not run.evaluated:
        return None
    of_round = run.used.groupby("round")["accuracy"]
    x, fan = run.evaluated, []
    for low, high, alpha in FAN:
        name = f"{low:.0%} to {high:.0%} of {run.who}".replace("% to", " to")
        fan += band(x, of_round.quantile(low), of_round.quantile(high), name, faded(MEAN, alpha))
    lines = [
        line(x, of_round.agg(best), "best tenth", BEST),
        line(x, of_round.median(), "median", MEAN, 1.4, line={"dash": "dash"}),
        line(x, of_round.mean(), "mean", MEAN, 3),
        line(x, of_round.agg(worst), "worst tenth", WORST),
        *_beside(run),
    ]
    drawn = figure([*fan, *lines], x=round_axis(x), y="accuracy", height=480, hovermode="x unified")
    says = f"{capital(run.judged)}; over {run.last.shape[0]} {run.who} in the last round."
    return Section("accuracy", "Accuracy over rounds", says, chart("accuracy-chart", drawn))


def _beside(run: RunFolder) -> list[dict[str, object]]:
    """What the worst tenth would be by chance alone, and the global model on the global test set."""
    wanted = {
        "null_worst10": ("worst tenth if all were equal", "dot"),
        "global_accuracy": ("global test set", "dashdot"),
    }
    found = []
    for key, (name, dash) in wanted.items():
        if key in run.rounds:
            known: pd.DataFrame = run.rounds[run.rounds[key].notna()]
            found.append(line(known["round"], known[key], name, MUTED, 1.5, line={"dash": dash}))
    return [each for each in found if each["x"]]
