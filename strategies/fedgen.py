"""FedGen: Z. Zhu, J. Hong, J. Zhou, "Data-Free Knowledge Distillation for Heterogeneous Federated Learning",
ICML 2021, arXiv 2105.10056.

After each round the server fits a generator of latent features to the heads of the clients' models,

    L_G = alpha_s sum_k mean_b [ a_k^y CE(f_k(G(eps, y)), y) ] + eta_s exp(- mean_{i,j} d(eps) d(z)),

with a_k^y = n_k^y / sum_j n_j^y and y uniform over the classes that somebody holds, and sends it with the
next round's model (`clients.fedgen`). Kept from the release: the terms and their weights, Adam with weight
decay 1e-2, beta_s = 0. Unlike it: label counts are exact histograms of the training splits, which clients
send (no training data are pooled), noise is Gaussian as described, running statistics are averaged with the
model, and only the round's clients receive anything. Adam starts anew each round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.generators.base import Generator
from fedkd.generators.ensemble import Ensemble, LabelShare
from fedkd.generators.recipe import Recipe
from fedkd.generators.terms import ClientFidelity, Diversity, Terms
from fedkd.generators.train import Optim, fit_generator
from fedkd.models.staged import StagedModel
from fedkd.protocol import CUT, GENERATOR, LABEL_COUNTS
from fedkd.schedule import Exponential
from fedkd.training.program import Params
from strategies.generative import Generative, Upload, ensemble, figures


@dataclass(frozen=True)
class Fitting:
    """How a latent generator is fitted each round.

    steps, batch_size: generator steps, and labels in each
    terms, optim: of the generator
    """

    steps: int = 50
    batch_size: int = 32
    terms: Terms = field(
        default_factory=lambda: Terms({"fidelity": ClientFidelity(), "diversity": Diversity(form="noise")})
    )
    optim: Optim = field(default_factory=lambda: Optim("adam", Exponential(3e-4, 0.98), weight_decay=1e-2))

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 2:
            raise ConfigError(
                f"steps={self.steps}, batch_size={self.batch_size} of a generator's fitting: "
                "0 or more steps and 2 or more samples are needed"
            )


def fit(
    fitting: Fitting, generator: Generator, teachers: Ensemble, rng: torch.Generator, server_round: int
) -> tuple[Params, dict[str, float]]:
    """The fitted generator's state, and figures about it; a function of its arguments alone."""
    optimizer = fitting.optim(generator.parameters(), server_round)
    done = fit_generator(
        generator,
        fitting.terms,
        teachers,
        optimizer,
        fitting.steps,
        rng,
        batch_size=fitting.batch_size,
        labels="uniform",
        server_round=server_round,
    )
    return generator.state_dict(), figures(done.history, generator, teachers, rng)


class FedGen(Generative):
    """FedAvg, and a generator of latent features that is sent to the clients from the second round on.

    generator: how it is built
    fitting: its training
    cut: number of blocks below the latent features; by default all but the last
    """

    class_margins = True

    def __init__(
        self, generator: Recipe, fitting: Fitting | None = None, cut: int | None = None, **flower: Any
    ) -> None:
        super().__init__(generator, **flower)
        self.fitting = fitting or Fitting()
        self._cut = cut
        self.held = torch.zeros(0, dtype=torch.bool)  # the classes that the generator was taught

    def cut(self, network: StagedModel) -> int:
        cut = network.num_blocks - 1 if self._cut is None else self._cut
        network.check_cut(cut)
        return cut

    def sent(self) -> tuple[dict[str, Params], dict[str, Any]]:
        if not self.rounds:
            return {}, {}
        records = {GENERATOR: self.generator.state_dict(), LABEL_COUNTS: {"held": self.held}}
        return records, {CUT: self.generator.cut}

    def learn(
        self, server_round: int, uploads: Sequence[Upload], average: ArrayRecord
    ) -> tuple[ArrayRecord, dict[str, float]]:
        teachers = ensemble([self.server.network], uploads, self.generator.cut, LabelShare())
        rng = self.server.rng("generator", server_round)
        fitted, told = self.server.execute(fit, self.fitting, self.generator, teachers, rng, server_round)
        self.generator.load_state_dict(fitted)
        self.held = teachers.counts.sum(0) > 0
        return average, told

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"held": self.held}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.held = state["held"]
