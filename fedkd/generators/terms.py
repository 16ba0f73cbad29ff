"""Loss terms of a generator as small values that combine: `Terms({"fidelity": Fidelity(), ...})`.

A term binds one pure function of `losses.py` to what it looks at in a batch, and has a weight, which may be a
schedule of the round. A term of weight 0 is not evaluated, so switching it off leaves no trace.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.generators import losses
from fedkd.generators.base import choice
from fedkd.generators.batch import Batch
from fedkd.generators.ensemble import Ensemble
from fedkd.generators.hooks import Seen, batch_norms, batch_statistics, last_linears, tapped
from fedkd.schedule import Value, at


@dataclass(frozen=True)
class Term(ABC):
    """A weighted loss; `listens` names the layers whose input it needs (statistics, features)."""

    weight: Value = 1.0
    listens: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, batch: Batch) -> Tensor:
        """The scalar to be minimised, not yet weighted."""


@dataclass(frozen=True)
class Fidelity(Term):
    """The fused teacher sees the wanted label (DENSE, DFRD)."""

    def __call__(self, batch: Batch) -> Tensor:
        return losses.fidelity(batch.teacher, batch.labels)


@dataclass(frozen=True)
class ClientFidelity(Term):
    """Every client sees the wanted label, weighted by w_k a_k^y (FedGen, FedFTG).

    FedFTG's release multiplies a mean cross entropy by a mean share; here each sample has its own share.
    """

    def __call__(self, batch: Batch) -> Tensor:
        teachers = batch.teachers
        return losses.client_fidelity(batch.votes, batch.labels, teachers.shares, teachers.weights)


@dataclass(frozen=True)
class Confidence(Term):
    """The fused teacher is sure (DAFL)."""

    def __call__(self, batch: Batch) -> Tensor:
        return losses.confidence(batch.teacher)


@dataclass(frozen=True)
class Balance(Term):
    """The fused teacher sees all classes equally often (DAFL)."""

    def __call__(self, batch: Batch) -> Tensor:
        return losses.balance(batch.teacher)


@dataclass(frozen=True)
class Adversarial(Term):
    """The student is far from the fused teacher, on the samples of the mask.

    mask: agree (CMI, Fast), disagree (DENSE), transfer (DFRD) or none (ZSKT)
    divergence: kl, l1, js or softmax_l1, at `temperature`
    """

    mask: losses.Mask = "none"
    divergence: losses.Divergence = "kl"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        choice("mask", self.mask, losses.MASKS)
        choice("divergence", self.divergence, losses.DIVERGENCES)
        _positive(self.temperature)

    def __call__(self, batch: Batch) -> Tensor:
        return losses.adversarial(
            batch.teacher, batch.judged, batch.labels, self.mask, self.divergence, self.temperature
        )


@dataclass(frozen=True)
class ClientAdversarial(Term):
    """The student is far from every client, weighted by w_k a_k^y (FedFTG)."""

    divergence: losses.Divergence = "l1"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        choice("divergence", self.divergence, losses.DIVERGENCES)
        _positive(self.temperature)

    def __call__(self, batch: Batch) -> Tensor:
        shares, weights = batch.teachers.shares, batch.teachers.weights
        return losses.client_adversarial(
            batch.votes, batch.judged, batch.labels, shares, weights, self.divergence, self.temperature
        )


@dataclass(frozen=True)
class Diversity(Term):
    """Samples differ where their noise does.

    form: label (DFRD: distance of merged noise and label), or noise (FedGen: blind to the label)
    Those distances are constants: a learnt embedding shall not win by moving its codes apart.
    """

    form: Literal["label", "noise"] = "label"

    def __post_init__(self) -> None:
        choice("form", self.form, ("label", "noise"))

    def __call__(self, batch: Batch) -> Tensor:
        if self.form == "noise":
            return losses.noise_diversity(batch.x, batch.noise)
        merged = batch.generator.merge(batch.noise, batch.labels)
        return losses.label_diversity(batch.x, merged.detach())


@dataclass(frozen=True)
class Statistics(Term):
    """Batch statistics at the teachers' BatchNorm layers equal the running ones (DeepInversion, DENSE)."""

    listens: ClassVar[str] = "statistics"

    def __call__(self, batch: Batch) -> Tensor:
        return batch_statistics(batch.heard, batch.moving)


@dataclass(frozen=True)
class Moments(Term):
    """Channel mean and variance of the samples equal those of real features that the clients sent.

    The statistics term for networks without BatchNorm; of our own.
    """

    def __call__(self, batch: Batch) -> Tensor:
        if batch.teachers.moments is None:
            raise ConfigError("the moments term needs feature statistics, which these clients do not send")
        return losses.statistics(*losses.channel_moments(batch.x), *batch.teachers.moments)


@dataclass(frozen=True)
class Activation(Term):
    """The teachers' penultimate features are strong (DAFL)."""

    listens: ClassVar[str] = "features"

    def __call__(self, batch: Batch) -> Tensor:
        features = [x for layer, x in batch.heard if isinstance(layer, nn.Linear)]
        return torch.stack([losses.activation(x) for x in features]).mean()


@dataclass(frozen=True)
class Variation(Term):
    """Smooth images or windows."""

    def __call__(self, batch: Batch) -> Tensor:
        return losses.variation(batch.x)


@dataclass(frozen=True)
class Magnitude(Term):
    """Small samples."""

    def __call__(self, batch: Batch) -> Tensor:
        return losses.magnitude(batch.x)


@dataclass(frozen=True)
class Terms:
    """Terms by name; the sum of those whose weight is not 0 in a round is the generator's loss."""

    terms: Mapping[str, Term] = field(default_factory=dict)

    def active(self, server_round: int) -> dict[str, tuple[float, Term]]:
        """Weight and term by name, in the given order, without those of weight 0."""
        weighted = {name: (at(term.weight, server_round), term) for name, term in self.terms.items()}
        return {name: pair for name, pair in weighted.items() if pair[0] != 0}

    def __call__(self, batch: Batch, server_round: int = 0) -> tuple[Tensor, dict[str, float]]:
        """The loss, and every term's value before weighting."""
        total, values = torch.zeros((), device=batch.labels.device), {}
        for name, (weight, term) in self.active(server_round).items():
            value = term(batch)
            total = total + weight * value
            values[name] = float(value.detach())
        return total, values

    @contextmanager
    def listening(self, teachers: Ensemble, server_round: int = 0) -> Iterator[Seen | None]:
        """Hooks on the layers that active terms listen to; None where no term does."""
        wanted = {term.listens for _, term in self.active(server_round).values()} - {""}
        layers = batch_norms(teachers.models) if "statistics" in wanted else []
        layers += last_linears(teachers.models) if "features" in wanted else []
        if not layers:
            yield None
            return
        with tapped(layers) as seen:
            yield seen


def _positive(temperature: float) -> None:
    if not temperature > 0:
        raise ConfigError(f"temperature={temperature} of a term: a positive number is needed")
