"""Every model that was measured in the last round, and each client's own against the global one."""

import pandas as pd

from fedkd.fairness.metrics import worst
from simulations.canvas import MUTED, PALETTE
from simulations.comparing.present import MISSING
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, beside, chart, numbers, table
from simulations.reporting.plot import figure, line

HEAD = ("mean", "worst tenth", "mean loss")


def section(run: RunFolder) -> Section | None:
    """A table of all, and a picture where clients have two models."""
    if not run.evaluated:
        return None
    rows = run.rows[run.rows["round"] == run.evaluated[-1]]
    lines = []
    for (model, stage, split), part in rows.groupby(["model", "stage", "split"]):
        loss = float(part["loss"].mean()) if "loss" in part else MISSING
        accuracy = part["accuracy"].to_numpy(float)
        lines.append((model, stage, split, len(part), float(accuracy.mean()), worst(accuracy), loss))
    lines.sort(key=lambda cells: (cells[2] != "test", cells[1] == "after", cells[0] != "personal"))
    tests = rows[(rows["split"] == "test") & (rows["stage"] == "before")]
    both = tests.pivot(index="client", columns="model", values="accuracy").dropna()
    drawn = _pairs(run, both) if {"personal", "global"} <= set(both.columns) and len(both) else ""
    says = (
        f"Round {run.evaluated[-1]}; each figure is a mean over {run.who}, all counting the same. "
        "Personal is a model of one's own, global the one that was received; test and val are the client's "
        f"own splits, global_test is the same for all. The rest of the page judges {run.judged}."
    )
    body = beside(drawn, table(["model", "local training", "split", run.who, *HEAD], lines, "models-table"))
    return Section("models", "Whose model, and when", says, body)


def _pairs(run: RunFolder, both: pd.DataFrame) -> str:
    """Both models of each client, own test split."""
    gain = both["personal"] - both["global"]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(both["global"]),
        "y": numbers(both["personal"]),
        "text": run.describe(both.index.to_numpy()),
        "marker": {"size": 9, "color": PALETTE[0], "opacity": 0.65, "line": {"color": "#fff", "width": 1}},
        "hovertemplate": "%{text}<br>global %{x:.3f}, own %{y:.3f}<extra></extra>",
        "showlegend": False,
    }
    even = {
        **line([0, 1], [0, 1], "equal", MUTED, 1.2, line={"dash": "dot"}),
        "hoverinfo": "skip",
        "showlegend": False,
    }
    title = f"own model better for {(gain > 0).mean():.0%} of clients, worse for {(gain < 0).mean():.0%}"
    drawn = figure(
        [even, points],
        x={"title": "global model", "range": [0, 1.02]},
        y={"title": "own model", "range": [0, 1.02]},
        height=400,
        title={"text": title, "font": {"size": 13}, "x": 0, "xref": "paper"},
    )
    return chart("models-chart", drawn)
