"""The look of the pages' figures: the palette of the PNG figures, few lines, names where they are needed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simulations.canvas import COLUMN, FAINT, INK, MEAN, MUTED
from simulations.reporting.html import Figure, numbers

SCALE = [[0.0, "#8c2d3b"], [0.3, "#d9826b"], [0.55, "#f0dcb4"], [0.78, "#7fb3c8"], [1.0, "#1b5e8c"]]
"""Low accuracy to high, readable with red-green blindness."""
EVEN = [[0.0, "#8c2d3b"], [0.25, "#d9826b"], [0.5, "#f4f2ee"], [0.75, "#7fb3c8"], [1.0, "#1b5e8c"]]
"""Less, as much, more."""
PALE = "#e4edf3"
FONT = 'system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif'

BAR = {"thickness": 12, "outlinewidth": 0, "len": 1, "lenmode": "fraction"}
"""Of a colour scale."""
_AXIS = {"gridcolor": FAINT, "zeroline": False, "linecolor": MUTED, "automargin": True, "fixedrange": False}


def figure(
    data: Sequence[Mapping[str, Any]],
    x: str | Mapping[str, Any] = "",
    y: str | Mapping[str, Any] = "",
    height: int = 380,
    **layout: Any,
) -> Figure:
    """A figure of these traces; x, y: title of the axis, or its settings; height: without a long legend's."""
    usual = {
        "height": height + _legend_room(data),
        "margin": {"l": 56, "r": 16, "t": 34, "b": 48},
        "font": {"family": FONT, "size": 12.5, "color": INK},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "hoverlabel": {"bgcolor": "#fff", "bordercolor": MUTED, "font": {"color": INK}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        "xaxis": axis(x),
        "yaxis": axis(y),
    }
    return {"data": list(data), "layout": usual | layout}


def _legend_room(data: Sequence[Mapping[str, Any]]) -> int:
    """Pixels that a long legend, above the axes, would take from them: half a page wide, at its worst."""
    names = [trace.get("name", "") for trace in data if trace.get("showlegend", True)]
    if len(names) <= COLUMN:
        return 0
    columns = max(1, 500 // (7 * max(map(len, names)) + 45))
    return 21 * math.ceil(len(names) / columns)


def axis(title: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """An axis; its title, or its settings with `title` among them."""
    given = {"title": title} if isinstance(title, str) else dict(title)
    name = given.pop("title", "")
    return {**_AXIS, "title": {"text": name, "standoff": 10, "font": {"size": 12.5}}, **given, **more}


def round_axis(rounds: Sequence[int]) -> dict[str, Any]:
    """The axis of the rounds: whole numbers, also where they are few."""
    return {"title": "round", **({"dtick": 1} if max(rounds, default=0) <= 12 else {})}


def line(
    x: Iterable[Any], y: Iterable[Any], name: str, colour: str, width: float = 2.2, **more: Any
) -> dict[str, Any]:
    """A line; with its points where they are few."""
    xs, ys = list(x), numbers(y)
    style = {"color": colour, "width": width, **more.pop("line", {})}
    mode = "lines+markers" if len(xs) <= 40 and width > 2 else "lines"
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": xs,
        "y": ys,
        "line": style,
        "marker": {"size": 5},
        "hovertemplate": "%{y:.4f}",
        **more,
    }


def band(
    x: Iterable[Any], low: Iterable[Any], high: Iterable[Any], name: str, colour: str
) -> list[dict[str, Any]]:
    """The space between two lines, as two traces."""
    xs, quiet = list(x), {"line": {"width": 0}, "hoverinfo": "skip", "mode": "lines", "type": "scatter"}
    lower = {**quiet, "x": xs, "y": numbers(low), "showlegend": False, "legendgroup": name}
    upper = {**quiet, "x": xs, "y": numbers(high), "fill": "tonexty", "fillcolor": colour, "name": name}
    return [lower, {**upper, "legendgroup": name}]


def faded(colour: str, alpha: float) -> str:
    """A colour `#rrggbb` that lets through what is below."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def heat(z: Sequence[Sequence[float | None]], **more: Any) -> dict[str, Any]:
    """Accuracies as colours."""
    bar = {"title": {"text": more.pop("bar", "accuracy"), "font": {"size": 12}}, **BAR}
    usual = {"type": "heatmap", "colorscale": SCALE, "zmin": 0, "zmax": 1, "colorbar": bar}
    return {**usual, "z": z, "hoverongaps": False, **more}


def stepped(low: int, high: int) -> dict[str, Any]:
    """Settings of a `heat` of whole numbers from low to high: a shade each, pale to dark."""
    count = high - low + 1
    shades = [_between(PALE, MEAN, k / max(count - 1, 1)) for k in range(count)]
    scale = [[(k + side) / count, shade] for k, shade in enumerate(shades) for side in (0, 1)]
    return {"colorscale": scale, "zmin": low - 0.5, "zmax": high + 0.5}


def _between(first: str, second: str, share: float) -> str:
    """A colour on the way from one to another."""
    pairs = ((int(first[k : k + 2], 16), int(second[k : k + 2], 16)) for k in (1, 3, 5))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)
