"""What the server's generator learned: its figures over the rounds, and samples of the last one."""

import io
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from simulations.canvas import PALETTE
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, chart, paragraph, picture
from simulations.reporting.plot import axis, figure, line
from simulations.shown import GENERATED, PER_CLASS

PREFIX = "generator_"
MEANING = {
    "accuracy": "share of samples that the clients' ensemble takes for the wanted class",
    "spread": "mean distance between samples of one class; 0 is collapse",
}
CELL = 56
"""Pixels a sample, at least."""


def section(run: RunFolder) -> Section | None:
    """Figures by round, one panel each, and the samples."""
    names = [name for name in map(str, run.rounds.columns) if name.startswith(PREFIX)]
    columns = [name for name in names if run.rounds[name].notna().any()]
    body = _figures(run, columns) + _samples(run)
    if not body:
        return None
    told = "; ".join(f"{key}: {MEANING[key]}" for key in MEANING if PREFIX + key in columns)
    says = f"The server's generator, at the end of each round's fitting. {told[:1].upper()}{told[1:]}"
    return Section("generator", "Generator", f"{says}." if told else says, body, wide=True)


def _figures(run: RunFolder, columns: list[str]) -> str:
    if not columns:
        return ""
    count, gap = len(columns), 0.055
    width = (1 - gap * (count - 1)) / count
    traces, layout, titles = [], {}, []
    for k, column in enumerate(columns):
        known = run.rounds[run.rounds[column].notna()]
        name, mark, left = column.removeprefix(PREFIX), "" if k == 0 else str(k + 1), k * (width + gap)
        drawn = line(known["round"], known[column], name, PALETTE[0], xaxis=f"x{mark}", yaxis=f"y{mark}")
        traces.append({**drawn, "showlegend": False, "hovertemplate": "round %{x}: %{y:.4f}<extra></extra>"})
        layout[f"xaxis{mark}"] = axis("round", domain=[left, left + width], anchor=f"y{mark}", nticks=5)
        layout[f"yaxis{mark}"] = axis("", anchor=f"x{mark}", nticks=5)
        place = {
            "xref": "paper",
            "yref": "paper",
            "x": left,
            "y": 1.12,
            "xanchor": "left",
            "showarrow": False,
        }
        titles.append({**place, "text": f"<b>{name}</b>"})
    return chart("generator-chart", figure(traces, height=260, annotations=titles, **layout))


def _samples(run: RunFolder) -> str:
    file = run.out / GENERATED
    if not file.exists():
        return ""
    held = load_file(file)
    x, labels = held["samples"].astype(np.float32), held["labels"]
    names = [run.class_names[int(label)] for label in dict.fromkeys(labels.tolist())]
    if int(held["cut"]) == 0 and x.ndim == 4 and x.shape[1] in (1, 3):
        told = f"Samples of the last round, a row a class: {', '.join(names)}. Brightness is stretched."
        return picture(_mosaic(x), "generated samples, a row a class") + paragraph(told)
    return _scatter(x.reshape(len(x), -1), labels, names, int(held["cut"]))


def _mosaic(x: np.ndarray) -> bytes:
    """Samples `(n, C, H, W)`, `PER_CLASS` of each class, as one PNG."""
    from PIL import Image

    low, high = np.quantile(x, [0.005, 0.995])
    pixels = (255 * np.clip((x - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
    pixels = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=255)
    count, channels, height, width = pixels.shape
    rows = count // PER_CLASS
    grid = pixels.reshape(rows, PER_CLASS, channels, height, width).transpose(0, 3, 1, 4, 2)
    grid = grid.reshape(rows * height, PER_CLASS * width, channels)
    image = Image.fromarray(grid[..., 0] if channels == 1 else grid)
    factor = max(1, CELL // width)
    buffer = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _scatter(x: np.ndarray, labels: np.ndarray, names: list[str], cut: int) -> str:
    """Features `(n, d)` in the plane where they differ most."""
    centred = x - x.mean(axis=0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    told = float((scale[:2] ** 2).sum() / max((scale**2).sum(), 1e-12))
    traces: list[dict[str, Any]] = []
    for k, (label, name) in enumerate(zip(dict.fromkeys(labels.tolist()), names, strict=True)):
        points = plane[labels == label].round(3).tolist()
        colour = {"color": PALETTE[k % len(PALETTE)], "size": 7, "symbol": k // len(PALETTE)}
        xs, ys = zip(*points, strict=True)
        spots = {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": list(xs),
            "y": list(ys),
            "marker": colour,
        }
        traces.append({**spots, "hovertemplate": "%{fullData.name}<extra></extra>"})
    drawn = figure(traces, x="first principal axis", y="second principal axis", height=400)
    text = (
        f"Features generated at cut {cut} in the last round, by wanted class, in the plane that holds "
        f"{told:.0%} of their variance. They stand for no input: the generator never sees one."
    )
    return chart("samples-chart", drawn) + paragraph(text)
