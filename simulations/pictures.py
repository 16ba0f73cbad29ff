"""Pictures of what the server's generator makes, beside real samples: `figures/generated_r<round>.png`.

Drawn each `figures_every` rounds and after the last one. Whole inputs stand in a grid, a row a class,
generated ones left of real ones. Features of a latent generator are projected, together with the features of
a few clients' test samples under the models these clients hold, onto the plane where both vary most (PCA).
Drawing has its own random numbers and its own copies: the run's numbers do not depend on it.
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy
from matplotlib.figure import Figure
from torch import Tensor

from clients.app import STATE
from clients.arrays import tensors_from_record
from fedkd.data.samples import Samples
from fedkd.generators.base import Generator
from fedkd.generators.noise import Held
from fedkd.models.staged import in_layout
from fedkd.seeds import torch_rng
from simulations.canvas import MUTED, PALETTE, STYLE, new_figure, save
from simulations.checkpoint import Stateful
from simulations.loop import Plan, Round, Watcher
from simulations.samples_grid import draw_samples
from simulations.strategy_state import layers

if TYPE_CHECKING:
    from simulations.run import Prepared

CLASSES, MADE, REAL = 10, 6, 4
"""Classes, and samples of each, in a grid."""
POINTS, CLIENTS, OF_CLIENT = 30, 5, 60
"""Generated features of a class, and clients and samples of each, in a projection."""


class Pictures(Watcher):
    """Draws the generator's samples; nothing where the strategy has no generator.

    out: the run folder, which exists
    grid: where clients keep their models, if it tells
    """

    def __init__(self, out: Path, prepared: "Prepared", grid: Stateful | None) -> None:
        self.folder, self.prepared, self.grid = out / "figures", prepared, grid
        self.every = int(prepared.config["figures_every"])

    def started(self, plan: Plan) -> None:
        self.rounds = plan.rounds

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        number, generator = round_.number, generator_of(self.prepared.strategy)
        due = number == self.rounds or (self.every and number % self.every == 0)
        if generator is None or not due:
            return
        from simulations.report import describe

        generator = copy.deepcopy(generator).eval()
        rng = torch_rng(self.prepared.config["seed"], "pictures", number)
        about = f"{describe(self.prepared.config)}, round {number}"
        if generator.cut == 0:
            figure = self._grid(generator, rng, about)
        else:
            figure = self._projection(generator, rng, about, arrays)
        save(self.folder, **{f"generated_r{number:0{max(3, len(str(self.rounds)))}d}": figure})

    def _grid(self, generator: Generator, rng: torch.Generator, about: str) -> Figure:
        names, real = self.prepared.federation.class_names[:CLASSES], self._real()
        made = _made(generator, len(names), MADE, rng)
        rows = {
            name: torch.cat([made[k], real.x[real.y == k][:REAL].to(made.dtype)])
            for k, name in enumerate(names)
        }
        return grid_figure(rows, real.x, about)

    def _real(self) -> Samples:
        test = self.prepared.federation.global_test
        return self.prepared.federation.client(0).test if test is None else test

    def _projection(
        self, generator: Generator, rng: torch.Generator, about: str, arrays: ArrayRecord
    ) -> Figure:
        names = self.prepared.federation.class_names[:CLASSES]
        made = _made(generator, len(names), POINTS, rng)
        labels = torch.arange(len(names)).repeat_interleave(POINTS)
        real = list(self._features(generator.cut, arrays))
        z = torch.cat([z for z, _ in real]) if real else made.new_zeros(0, *generator.shape)
        y = torch.cat([y for _, y in real]) if real else labels[:0]
        kept = y < len(names)
        return projection_figure(made.flatten(0, 1), labels, z[kept], y[kept], names, generator.cut, about)

    @torch.no_grad()
    def _features(self, cut: int, arrays: ArrayRecord) -> Iterator[tuple[Tensor, Tensor]]:
        """Features of the first clients' test samples under the model each holds, and their labels."""
        runtime = self.prepared.runtime
        chosen = self.prepared.federation.train_clients[:CLIENTS].tolist()
        states = self.grid.client_states(chosen) if self.grid else {}
        for client in chosen:
            trainer, initial = runtime.trainer(client)
            held = states[client].array_records.get(STATE) if client in states else None
            own = tensors_from_record(held) if held else {}
            whole = initial | tensors_from_record(arrays) | own
            network = copy.deepcopy(trainer.network).eval()
            network.load_state_dict({name: whole[name] for name in initial})
            test = self.prepared.federation.client(client).test
            yield network.features(in_layout(test.x[:OF_CLIENT]), cut), test.y[:OF_CLIENT]


def generator_of(strategy: Strategy) -> Generator | None:
    """The generator that a strategy (or the one it stands around) trains; None where it has none."""
    found = (getattr(layer, "generator", None) for layer in layers(strategy))
    return next((g for g in found if isinstance(g, Generator) and not isinstance(g, Held)), None)


@torch.no_grad()
def _made(generator: Generator, classes: int, count: int, rng: torch.Generator) -> Tensor:
    """`count` samples of each of the first classes, (classes, count, ...)."""
    labels = torch.arange(classes).repeat_interleave(count)
    return generator.sample(labels, rng).float().unflatten(0, (classes, count))


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
