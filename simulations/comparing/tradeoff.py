"""Trade-off curves: average against worst-off along a swept key (`weighting.alpha`, a CVaR level, ...).

Groups that differ in the swept key alone are one curve; a group without it is a single point, such as the
base method. Each point is the mean over repeats, its band runs from the lowest to the highest repeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fedkd.errors import ConfigError
from simulations.canvas import MUTED, STYLE, colours, legend_below, new_figure, place_text
from simulations.comparing.bootstrap import worst10
from simulations.comparing.groups import Group
from simulations.comparing.plots import pareto
from simulations.comparing.runs import Run
from simulations.rundir import write_text

FIGURES = {"mean": "mean", "worst10": "worst tenth", "worst_class": "worst class"}


@dataclass(frozen=True)
class Point:
    """One setting.

    value: of the swept key; None for a group without it
    repeats: a row a repeat, a column a figure of `FIGURES`
    """

    value: float | None
    repeats: pd.DataFrame


def trace(groups: Sequence[Group], over: str) -> dict[str, list[Point]]:
    """The curves by label, each along ascending values of the key `over`."""
    values = [_number(each.settings.get(over)) for each in groups]
    if len(set(values) - {None}) < 2:
        raise ConfigError(f"--over {over}: these runs do not differ in a number of this name")
    found: dict[str, list[Point]] = {}
    for each, value in zip(groups, values, strict=True):
        words = [word for word in each.label.split(" ") if not word.startswith(f"{over}=")]
        point = Point(value, _repeats(each))
        found.setdefault(" ".join(words), []).append(point)
    return {label: sorted(points, key=lambda p: p.value or 0.0) for label, points in found.items()}


def table(curves: dict[str, list[Point]], over: str) -> pd.DataFrame:
    """A row a point: means over repeats, lowest and highest repeat, and whether it is on either front."""
    rows = []
    for label, points in curves.items():
        for point in points:
            row: dict[str, object] = {"label": label, over: point.value, "repeats": len(point.repeats)}
            for name in FIGURES:
                column = point.repeats[name]
                row |= {name: column.mean(), f"{name}_low": column.min(), f"{name}_high": column.max()}
            rows.append(row)
    frame = pd.DataFrame(rows)
    for name in ("worst10", "worst_class"):
        front = pareto(frame["mean"].tolist(), frame[name].tolist())
        frame[f"{name}_front"] = frame.index.isin(front)
    return frame


def markdown(frame: pd.DataFrame, over: str) -> str:
    """The table for reading; bold is on the Pareto front of all points (against the mean)."""
    lines = [["", over, *FIGURES.values()], ["---"] + ["---:"] * (len(FIGURES) + 1)]
    for _, row in frame.iterrows():
        cells = []
        for name in FIGURES:
            text = f"{row[name]:.3f} ({row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f})"
            cells.append(f"**{text}**" if row.get(f"{name}_front", False) else text)
        value = "–" if pd.isna(row[over]) else f"{row[over]:g}"
        lines.append([str(row["label"]), value, *cells])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{body}\n\nMean over repeats (lowest, highest). Bold: no row is better in both this and the mean.\n"
    )


@matplotlib.rc_context(STYLE)
def figure(curves: dict[str, list[Point]], over: str, about: str) -> Figure:
    """Average against worst tenth, and against worst class, with all points' Pareto front dotted."""
    shown, panels = new_figure(
        f"Average against worst-off, along {over}", about, "bands: lowest to highest repeat", len(curves), 2
    )
    frame = table(curves, over)
    for axes, name in zip(panels, ("worst10", "worst_class"), strict=True):
        front = frame[frame[f"{name}_front"]].sort_values("mean")
        axes.plot(front["mean"], front[name], color=MUTED, linestyle=":", gid="Pareto front")
        for (label, points), colour in zip(curves.items(), colours(len(curves)), strict=True):
            _draw(axes, points, name, label, colour)
        axes.set(xlabel="mean accuracy of clients", ylabel=f"accuracy of the {FIGURES[name]}")
        axes.margins(0.08)
    legend_below(shown, len(curves))
    shown.draw_without_rendering()  # the layout settles where points are on the page
    for axes, name in zip(panels, ("worst10", "worst_class"), strict=True):
        _name_values(axes, curves, name)
    return shown


def write_tradeoff(out: Path, groups: Sequence[Group], over: str, about: str) -> list[Path]:
    """Write tradeoff.csv, tradeoff.md and figures/tradeoff_over.png and .pdf into `out`; their paths."""
    curves = trace(groups, over)
    frame = table(curves, over)
    write_text(out / "tradeoff.csv", frame.to_csv(index=False))
    write_text(out / "tradeoff.md", markdown(frame, over))
    drawn, folder = figure(curves, over, about), out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn.savefig(folder / "tradeoff_over.png", dpi=150, facecolor="white")
    drawn.savefig(folder / "tradeoff_over.pdf", metadata={"CreationDate": None})
    return [out / "tradeoff.csv", out / "tradeoff.md", folder / "tradeoff_over.png"]


def _draw(axes: Axes, points: Sequence[Point], name: str, label: str, colour: str) -> None:
    x, y = ([point.repeats[key].mean() for point in points] for key in ("mean", name))
    low, high = [point.repeats[name].min() for point in points], [p.repeats[name].max() for p in points]
    if len(points) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    else:
        axes.vlines(x, low, high, color=colour, linewidth=1.2)
    axes.plot(x, y, color=colour, marker="o", label=label)


def _name_values(axes: Axes, curves: dict[str, list[Point]], name: str) -> None:
    """Write the swept value beside each point, in its curve's colour, where there is room: ends first."""
    wanted = [
        (k not in (0, len(points) - 1), point, colour)
        for points, colour in zip(curves.values(), colours(len(curves)), strict=True)
        for k, point in enumerate(points)
    ]
    at = {id(p): (p.repeats["mean"].mean(), p.repeats[name].mean()) for _, p, _ in wanted}
    corners = [axes.transData.transform(place) - 3 for place in at.values()]
    taken = [Bbox.from_bounds(x, y, 6, 6) for x, y in corners]
    for _, point, colour in sorted(wanted, key=lambda each: each[0]):
        if point.value is not None:
            place_text(axes, f"{point.value:g}", at[id(point)], colour, taken)


def _repeats(each: Group) -> pd.DataFrame:
    return pd.DataFrame([_figures(run) for run in each.runs])


def _figures(run: Run) -> dict[str, float]:
    accuracy = run.clients["accuracy"].to_numpy(float)
    rounds = pd.read_csv(run.folder / "rounds.csv").set_index("round")
    own = float(rounds["worst_class"].loc[run.round]) if "worst_class" in rounds else np.nan
    return {"mean": float(accuracy.mean()), "worst10": float(worst10(accuracy)), "worst_class": own}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
