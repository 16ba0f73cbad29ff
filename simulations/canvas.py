"""The look of the figures: palette, heading, lines that carry their name, labels that do not collide."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

FIRST = ("#1b5e8c", "#d1495b", "#2e8b6f", "#e09f3e", "#7a5195", "#4d4d4d", "#5fa8d3", "#a3623a")
MORE = ("#c44e9c", "#17a2a2", "#a8ad2e", "#f58a78", "#9aa5b1", "#0b3954", "#8fbf5a", "#d9b310")
PALETTE = FIRST + MORE
MEAN, WORST, BEST = PALETTE[:3]
INK, MUTED, FAINT = "#22272e", "#6b7280", "#e3e6ea"
STYLE: Any = {
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 2.2,
    "lines.markersize": 4,
    "lines.solid_capstyle": "round",
}
DASHES, MARKERS = ("-", "--", ":"), ("o", "s", "^")
COLUMN = 12
"""Up to so many lines a legend has one column."""
_FEW = 40
"""Up to so many points a line also shows its points."""


class Look(NamedTuple):
    """How a row is drawn in every figure: dash and marker tell apart what shares a colour."""

    colour: str
    dash: str = "-"
    marker: str = "o"


def new_figure(
    title: str, about: str, over: str, legend: int = 0, panels: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """An empty figure under a heading of three lines, with room for `legend` lines at the bottom."""
    height = 5.2 + 0.24 * (legend if legend <= COLUMN else math.ceil(legend / 2))
    figure = Figure(figsize=(9, height), layout="constrained")
    figure.text(0.012, 1 - 0.1 / height, title, va="top", fontsize=16, fontweight="bold")
    figure.text(
        0.012, 1 - 0.45 / height, f"{about}\n{over}", va="top", color=MUTED, fontsize=10.5, linespacing=1.35
    )
    figure.set_layout_engine("constrained", rect=(0.006, 0, 0.994, 1 - 0.95 / height), w_pad=0.08, h_pad=0.06)
    return figure, list(figure.subplots(1, panels, sharey=sharey, squeeze=False)[0])


def draw(axes: Axes, x: Any, y: Any, name: str, colour: str, **style: Any) -> Line2D:
    """A line that carries its name as `gid`; with its points where they are few."""
    shape = style.pop("marker", "o")
    marker = shape if len(x) == 1 or (len(x) <= _FEW and style.get("linewidth", 2.2) > 2) else ""
    return axes.plot(np.asarray(x), np.asarray(y), color=colour, gid=name, marker=marker, **style)[0]


def fit_levels(panels: Sequence[Axes]) -> None:
    """The range of all lines with a little room, never far beyond what an accuracy can be."""
    lines = [line for axes in panels for line in axes.get_lines()]
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in lines])
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.06 * max(high - low, 0.1)
    for axes in panels:
        axes.set_ylim(max(-0.01, low - room), min(1.01, high + room))


def name_ends(axes: Axes) -> None:
    """Write each line's name and last value at its right end, moved apart where they would collide."""
    lines = sorted(axes.get_lines(), key=_end)
    bottom, top = axes.get_ylim()
    heights = _apart([_end(line) for line in lines], gap=0.062 * (top - bottom))
    for line, height in zip(lines, heights, strict=True):
        axes.annotate(
            f"{line.get_gid()} {_end(line):.2f}",
            (float(np.asarray(line.get_xdata())[-1]), height),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )


def _end(line: Line2D) -> float:
    return float(np.asarray(line.get_ydata())[-1])


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions near the ascending `wanted`, at least `gap` apart: colliding ones spread about their mean."""
    groups: list[list[float]] = []
    for position in wanted:
        groups.append([position])
        while len(groups) > 1 and _start(groups[-1], gap) < _start(groups[-2], gap) + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_start(group, gap) + gap * rank for group in groups for rank in range(len(group))]


def _start(group: Sequence[float], gap: float) -> float:
    """The lowest of `len(group)` positions that are `gap` apart and centred on the group's mean."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def place_text(
    axes: Axes, text: str, point: tuple[float, float], colour: str, taken: list[Bbox]
) -> Annotation | None:
    """Write beside a point, at the first of four corners that hits nothing in `taken`, and add it there;
    nothing where there is no room. The layout must have been drawn.
    """
    for right, up in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        written = axes.annotate(
            text,
            point,
            (4 * right, 4 * up),
            textcoords="offset points",
            ha="left" if right > 0 else "right",
            va="bottom" if up > 0 else "top",
            fontsize=8,
            color=colour,
        )
        box = written.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return written
        written.remove()
    return None


def colours(count: int) -> list[str]:
    """As many colours, in the palette's order."""
    return [look.colour for look in looks(count)]


def looks(count: int) -> list[Look]:
    """As many ways to draw a row, all different up to 48."""
    rounds = [divmod(index, len(PALETTE)) for index in range(count)]
    return [
        Look(PALETTE[place], *(kinds[turn % len(kinds)] for kinds in (DASHES, MARKERS)))
        for turn, place in rounds
    ]


def legend_below(figure: Figure, count: int) -> None:
    """A legend of the `count` lines of the first panel that tells any, under the panels."""
    handles, labels = next(told for axes in figure.axes if (told := axes.get_legend_handles_labels())[0])
    figure.legend(handles, labels, loc="outside lower left", ncols=1 if count <= COLUMN else 2)


def save(folder: Path, **figures: Figure) -> list[Path]:
    """Write each figure as `<name>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150, facecolor="white")
    return [folder / f"{name}.png" for name in figures]
