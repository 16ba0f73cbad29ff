"""Pictures of what the server's generator makes, beside real samples: `figures/generated_r<round>.png`.

Drawn each `figures_every` rounds and after the last one. Whole inputs stand in a grid, a row a class,
generated ones left of real ones. Features of a latent generator are projected, together with the features of
a few clients' test samples under the models these clients hold, onto the plane where both vary most (PCA).
Drawing has its own random numbers and its own copies: the run's numbers do not depend on it.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from clients.app import STATE
from clients.arrays import tensors_from_record
from fedkd.data.samples import Samples
from fedkd.generators.base import Generator
from fedkd.generators.noise import Held
from fedkd.models.staged import in_layout
from fedkd.seeds import torch_rng
from simulations.checkpoint import Stateful
from simulations.loop import Plan, Round, Watcher
from simulations.strategy_state import layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simulations.run import Prepared

CLASSES = 10
"""Classes in a picture."""
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
        from simulations.canvas import save
        from simulations.report import describe  # neither before a picture: matplotlib is slow

        generator = copy.deepcopy(generator).eval()
        rng = torch_rng(self.prepared.config["seed"], "pictures", number)
        about = f"{describe(self.prepared.config)}, round {number}"
        if generator.cut == 0:
            figure = self._grid(generator, rng, about)
        else:
            figure = self._projection(generator, rng, about, arrays)
        save(self.folder, **{f"generated_r{number:0{max(3, len(str(self.rounds)))}d}": figure})

    def _grid(self, generator: Generator, rng: torch.Generator, about: str) -> "Figure":
        from simulations.pictures_drawn import MADE, REAL, grid_figure

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
    ) -> "Figure":
        from simulations.pictures_drawn import projection_figure

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
