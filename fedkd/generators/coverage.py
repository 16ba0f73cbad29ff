"""Figures about a generator: does each class come out, and do samples of one class differ?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedkd.generators.base import Generator
from fedkd.generators.ensemble import Ensemble, label_distribution
from fedkd.generators.losses import spread


@dataclass(frozen=True)
class Coverage:
    """Of `per_class` samples of every class that somebody holds.

    fidelity: (M,) share that the teacher takes for the wanted class; NaN for classes nobody holds
    predicted: (M,) share of all samples that the teacher takes for each class
    spread: mean distance between samples of one class; 0 is collapse
    """

    fidelity: Tensor
    predicted: Tensor
    spread: float

    @property
    def accuracy(self) -> float:
        """Mean fidelity over the classes that somebody holds."""
        return float(self.fidelity.nanmean())

    @property
    def covered(self) -> float:
        """Share of the classes somebody holds of which most samples are taken for the wanted class."""
        held = self.fidelity[~self.fidelity.isnan()]
        return float((held > 0.5).float().mean())


@torch.no_grad()
def coverage(generator: Generator, teachers: Ensemble, rng: torch.Generator, per_class: int = 20) -> Coverage:
    """Let the teacher judge equally many samples of every held class."""
    held = label_distribution(teachers.counts, "uniform").nonzero().flatten()
    labels = held.repeat_interleave(per_class)
    labels = labels.to(teachers.counts.device)
    x = generator.eval().sample(labels, rng)
    guess = teachers(x, labels).argmax(-1)
    fidelity = torch.full((generator.num_classes,), float("nan"))
    fidelity[held] = (guess == labels).float().view(len(held), per_class).mean(1).cpu()
    predicted = torch.bincount(guess, minlength=generator.num_classes).float() / len(labels)
    return Coverage(fidelity, predicted.cpu(), float(spread(x.reshape(len(held), per_class, -1))))
