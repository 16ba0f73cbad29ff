"""The figures of `simulations.pictures`, from tensors: generated samples or features beside real ones."""

import math

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from simulations.canvas import MUTED, PALETTE, STYLE, new_figure
from simulations.samples_grid import draw_samples

MADE, REAL = 6, 4
"""Samples of each class in a grid: generated and real."""


@matplotlib.rc_context(STYLE)
def grid_figure(rows: dict[str, Tensor], real: Tensor, about: str) -> Figure:
    """A row a class: `MADE` generated samples, then real ones; in the value range of `real`."""
    figure = Figure(figsize=(9, 1.0 + 0.95 * len(rows)), layout="constrained")
    title = f"Generated samples (left {MADE}) and real ones (right {REAL}), by class\n{about}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    draw_samples(figure, rows, real, ["generated"] * MADE + ["real"] * REAL)
    return figure


@matplotlib.rc_context(STYLE)
def projection_figure(
    made: Tensor, labels: Tensor, real: Tensor, y: Tensor, names: tuple[str, ...], cut: int, about: str
) -> Figure:
    """Generated features `(n, ...)` as crosses and real ones `(r, ...)` as dots, a colour a class."""
    over = f"features at cut {cut}: crosses are generated for a class, dots come from clients' test samples"
    figure, (axes,) = new_figure("Generated and real features", about, over, math.ceil(len(names) / 5))
    flat = torch.cat([made.flatten(1), real.flatten(1)])
    plane, share = principal_plane(flat)
    for k, name in enumerate(names):
        colour, dots = PALETTE[k % len(PALETTE)], plane[len(made) :][y == k]
        crosses = plane[: len(made)][labels == k]
        axes.scatter(dots[:, 0], dots[:, 1], s=14, color=colour, alpha=0.45, linewidth=0)
        shape = "x" if k < len(PALETTE) else "+"
        across, up = crosses.T
        axes.scatter(across, up, s=26, color=colour, marker=shape, linewidth=1.3, label=name)
    axes.set(xlabel=f"first principal axis (both: {share:.0%} of the variance)", ylabel="second")
    axes.xaxis.label.set_color(MUTED)
    figure.legend(loc="outside lower left", ncols=5)
    return figure


def principal_plane(x: Tensor) -> tuple[Tensor, float]:
    """Points `(n, d)` in the plane of their largest variance, (n, 2), and the share of variance it holds."""
    centred = (x - x.mean(0)).double()
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    values = torch.cat([values, values.new_zeros(2)])  # one feature has no second axis
    axes = torch.cat([axes, axes.new_zeros(2, axes.shape[1])])
    total = values.square().sum().clamp_min(1e-12)
    return centred @ axes[:2].T, float(values[:2].square().sum() / total)
