"""What a run leaves behind only to be looked at: who its clients are, and what its generator makes.

`population.csv` is the table of `fedkd partition`: a row a client, of the first thousand.
`generated.safetensors` holds samples of the server's generator after the last round: `samples (n, ...)`,
`labels (n,)`, and the `cut` at which they enter the network, 0 for whole inputs.
"""

import copy
from pathlib import Path

import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy
from safetensors.torch import save_file

from fedkd.data.describe import describe
from fedkd.data.federation import Federation
from fedkd.generators.base import Generator
from fedkd.generators.noise import Held
from fedkd.seeds import torch_rng
from simulations.loop import Plan, Round, Watcher
from simulations.rundir import replacing, write_text
from simulations.strategy_state import layers

POPULATION, GENERATED = "population.csv", "generated.safetensors"
CLASSES, PER_CLASS = 10, 12


class Shown(Watcher):
    """Writes both files; the second in the last round.

    out: the run folder, which exists
    """

    def __init__(self, out: Path, federation: Federation, strategy: Strategy) -> None:
        self.out, self.federation, self.strategy = out, federation, strategy

    def started(self, plan: Plan) -> None:
        self._plan = plan
        if not (self.out / POPULATION).exists():
            write_text(self.out / POPULATION, describe(self.federation).to_csv(index=False))

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        generator = generator_of(self.strategy)
        if round_.number < self._plan.rounds or generator is None:
            return
        labels = torch.arange(min(generator.num_classes, CLASSES)).repeat_interleave(PER_CLASS)
        with torch.no_grad():
            made = copy.deepcopy(generator).eval().sample(labels, torch_rng(self._plan.seed, "shown samples"))
        tensors = {"samples": made.half().cpu().contiguous(), "labels": labels}
        with replacing(self.out / GENERATED) as path:
            save_file(tensors | {"cut": torch.tensor(generator.cut)}, path)


def generator_of(strategy: Strategy) -> Generator | None:
    """The generator that a strategy (or the one it stands around) trains; None where it has none."""
    found = (getattr(layer, "generator", None) for layer in layers(strategy))
    return next((g for g in found if isinstance(g, Generator) and not isinstance(g, Held)), None)
