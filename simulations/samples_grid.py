"""Samples as pictures in rows: images, windows of signals, table rows."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from simulations.canvas import MUTED, PALETTE

CHANNELS = 3
"""Of a window, so many are drawn."""


def draw_samples(
    figure: Figure, rows: Mapping[str, Tensor], scale: Tensor, columns: Sequence[str] = ()
) -> None:
    """A labelled row of samples `(n, ...)` for each entry, in the value range of `scale`.

    columns: headings; images (n, C, H, W) become pictures, (n, C, T) lines of the first channels, others bars
    """
    count = max(len(samples) for samples in rows.values())
    low, high = float(scale.min()), float(scale.max())
    figure.set_layout_engine("constrained", h_pad=0.1)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for (name, samples), line in zip(rows.items(), grid, strict=True):
        for place, axes in enumerate(line):
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(False)
            if place < len(samples):
                _draw(axes, samples[place], low, high)
        title = line[0].set_title(name, loc="left", fontsize=9, color=MUTED, pad=3)
        title.set_in_layout(False)  # or it would widen the first column
    for axes, heading in zip(grid[-1], columns, strict=False):
        axes.set_xlabel(heading, fontsize=9)


def _draw(axes: Axes, sample: Tensor, low: float, high: float) -> None:
    values = np.asarray(sample.detach().float())
    if values.ndim == 3:
        unit = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
        if len(unit) == 3:
            axes.imshow(unit.transpose(1, 2, 0))
        else:
            axes.imshow(unit.mean(0), cmap="gray", vmin=0, vmax=1)
        return
    if values.ndim == 2:
        for channel, colour in zip(values[:CHANNELS], PALETTE, strict=False):
            axes.plot(channel, color=colour, linewidth=0.9)
    else:
        axes.bar(range(values.size), values.ravel(), color=PALETTE[0], width=1.0)
    axes.set_ylim(low, high)
