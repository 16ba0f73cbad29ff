"""A client's discriminator, and the game it plays with a generator.

DaFKD: H. Wang et al., "DaFKD: Domain-aware Federated Knowledge Distillation", CVPR 2023. D_k(x) says how
likely a sample is of client k's domain; it judges the features of the client's classifier,

    L_D = BCE(D(x), 1) + BCE(D(G(eps, y)), 0) + c (||w|| - 1)^2,     L_G = BCE(D(G(eps, y)), 1).

Reconstructed: the published trunk is trained by both losses; here it belongs to the classifier alone, so
that the classifier is FedAvg's bit for bit; D is linear in its features, with the gradient penalty above.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.generators.base import Generator, volume
from fedkd.generators.ensemble import sample_labels
from fedkd.generators.train import History, Optim
from fedkd.models.staged import StagedModel
from fedkd.training.descent import descend


class Discriminator(nn.Module):
    """Logits `(B,)` of samples `(B, ...)`: linear in the features that enter a classifier's last block.

    trunk: of the classifier; stays as it is and in evaluation mode
    """

    def __init__(self, trunk: nn.Module, judge: nn.Linear) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.judge = judge
        with torch.no_grad():  # no opinion yet, the same at every client
            self.judge.weight.zero_()
            self.judge.bias.zero_()
        self.eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(self.trunk(x).flatten(1))[:, 0]


def judge_of(network: StagedModel) -> nn.Linear:
    """What is a discriminator's own on the features of this network; the rest is a classifier's."""
    return nn.Linear(volume(network.shapes[-2]), 1)


def discriminator_of(
    network: StagedModel, params: Mapping[str, Tensor], judge: Mapping[str, Tensor] | None = None
) -> Discriminator:
    """The discriminator on a copy of `network` under `params`; `judge` are its own weights, if it has any."""
    network.check_cut(1)
    whole = copy.deepcopy(network)
    whole.load_state_dict(params)
    made = Discriminator(nn.Sequential(*whole.blocks[:-1]), judge_of(network))
    if judge:
        made.judge.load_state_dict(judge)
    return made


@dataclass(frozen=True)
class Game:
    """Discriminator and generator in turns.

    steps, batch_size: steps of each, and samples of either kind in them
    lr: of both Adams
    penalty: c
    """

    steps: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 2:
            raise ConfigError(
                f"steps={self.steps}, batch_size={self.batch_size} of a GAN's game: 0 or more steps and 2 or "
                "more samples are needed"
            )

    def __call__(
        self, generator: Generator, judge: Discriminator, x: Tensor, counts: Tensor, rng: torch.Generator
    ) -> History:
        """Train both on real samples `(n, ...)` and on generated ones with labels as frequent as `counts`."""
        moves, learns = Optim(lr=self.lr)(generator.parameters()), Optim(lr=self.lr)(judge.judge.parameters())
        history: History = []
        generator.train()
        for _ in range(self.steps):
            real = x[torch.randint(len(x), (self.batch_size,), generator=rng)]
            fake = generator.sample(sample_labels(counts, self.batch_size, rng), rng)
            told = self.told(judge, real, fake.detach())
            row = {"discriminator": descend(learns, told)}
            row["generator"] = descend(moves, F.softplus(-judge(fake)).mean())
            history.append(row)
        generator.eval()
        return history

    def told(self, judge: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """L_D."""
        apart = F.softplus(-judge(real)).mean() + F.softplus(judge(fake)).mean()
        return apart + self.penalty * (judge.judge.weight.norm() - 1.0).square()
