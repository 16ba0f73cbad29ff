"""What an objective is: a frozen dataclass of its settings, and a pure function of `Signals`.

    KD(temperature=2.0)(Signals(student_logits=..., teacher_logits=...)) -> (B,)

Per-sample objectives return one value a sample, (B,), none of which depends on another sample; batch-coupled
ones return a scalar. `value` reduces both to the scalar that is minimised. Every loss on logits sums over
classes and averages over samples. Teachers receive no gradient unless the objective sets `trains_teacher`.

Some signals are computed once from a teacher on a data set (`learn`). An objective with trainable parts (a
router, a projection) describes them in `modules`; one with memory between steps (TAID's interpolation) gives
it out with `init` and takes it through `advance`. Both are plain tensors, kept by whoever trains: with the
client's state, in checkpoints.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedkd.errors import ConfigError
from fedkd.objectives.signals import Parts, Place, Signals, State
from fedkd.seeds import torch_rng


@dataclass(frozen=True)
class About:
    """One row of the table of objectives.

    sure: where the formula comes from: reference code, paper listing, formula, or reconstructed
    """

    name: str
    paper: str
    formula: str
    role: str
    sure: str


@dataclass(frozen=True)
class Shapes:
    """What trainable parts need to know in advance; shapes are without the batch.

    student, teacher: place -> shape of the features there
    teachers: how many teachers there are
    """

    num_classes: int
    student: Mapping[Place, tuple[int, ...]] = field(default_factory=dict)
    teacher: Mapping[Place, tuple[int, ...]] = field(default_factory=dict)
    teachers: int = 1


@dataclass(frozen=True)
class Observed:
    """A teacher on a data set of N samples, from which an objective learns before training.

    logits: (N, C); embeddings: (N, D); labels: (N,), true ones or the teacher's arg-max
    head: weight (C, D) and bias (C,) of the teacher's last linear layer
    """

    logits: Tensor
    embeddings: Tensor
    labels: Tensor
    head: tuple[Tensor, Tensor]


class Objective(ABC):
    """Base of all objectives; a subclass is a frozen dataclass with `about`, `needs` and `loss`."""

    about: ClassVar[About]
    trains_teacher: ClassVar[bool] = False
    few_labels: ClassVar[bool] = False
    """Whether it reads labels only where `Signals.labelled` lets it."""
    follows_validation: ClassVar[bool] = False
    """Whether parts of it follow the loss on validation data, which only `fedkd distill` provides."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """The signals without which there is no loss, by the names of `Signals`."""

    @property
    def per_sample(self) -> bool:
        """Whether `loss` gives (B,) without coupling samples, rather than a scalar."""
        return True

    @abstractmethod
    def loss(self, s: Signals) -> Tensor:
        """(B,) or a scalar, see `per_sample`."""

    def __call__(self, s: Signals) -> Tensor:
        """`loss` after checking that everything it needs is there, teachers held fixed."""
        check(self, s.available)
        return self.loss(s if self.trains_teacher else s.frozen_teacher())

    def predict(self, s: Signals) -> Tensor:
        """Log-probabilities (B, C) of the distilled student; differs where an objective adds heads."""
        return torch.log_softmax(s.student_logits, dim=-1)

    def modules(self, shapes: Shapes) -> dict[str, nn.Module]:
        """Freshly initialised trainable parts; ConfigError where the shapes do not fit."""
        return {}

    def learn(self, seen: Observed, seed: int) -> dict[str, Any]:
        """The signals that come from a teacher once and for all, by name: means, directions, costs."""
        return {}

    def init(self) -> State:
        """The memory before the first step."""
        return {}

    def advance(self, s: Signals, progress: float) -> State:
        """The memory after a step on `s` (which holds the memory before); progress: part of training done."""
        return s.state


def check(objective: Objective, available: Collection[str], place: str = "this step") -> None:
    """ConfigError in one sentence where `place` lacks something that the objective needs.

    available: names as in `needs`; `student_features` without a place stands for every place
    """
    missing = sorted(
        n for n in objective.needs if n not in available and n.partition("@")[0] not in available
    )
    if missing:
        offers = ", ".join(sorted(available)) or "nothing"
        raise ConfigError(
            f"objective={objective.about.name} needs {', '.join(missing)}, which {place} does not provide "
            f"(it provides {offers})"
        )


def value(objective: Objective, s: Signals) -> Tensor:
    """The scalar that is minimised: the mean over the samples that `s.mask` keeps."""
    out = objective(s)
    if objective.per_sample:
        return mean(out, s.mask)
    if s.mask is not None:
        raise ConfigError(
            f"objective={objective.about.name} couples the samples of a batch: it takes no mask"
        )
    return out


def mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (B,) values where mask is not 0; 0 where it keeps none."""
    if mask is None:
        return values.mean()
    kept = (mask != 0).to(values.dtype)
    return (values * kept).sum() / kept.sum().clamp_min(1.0)


def make_parts(objective: Objective, shapes: Shapes, seed: int) -> nn.ModuleDict:
    """The objective's trainable parts, initialised from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(torch_rng(seed, "objective parts").initial_seed())
        return nn.ModuleDict(objective.modules(shapes))


def bind(parts: nn.ModuleDict, parameters: Mapping[str, Tensor]) -> Parts:
    """The parts with their parameters taken from a flat state dict, e.g. inside `torch.func.grad`."""
    return {
        name: partial(
            functional_call,
            module,
            {k.removeprefix(f"{name}."): v for k, v in parameters.items() if k.startswith(f"{name}.")},
        )
        for name, module in parts.items()
    }


def require(condition: bool, message: str) -> None:
    """ConfigError(message) unless `condition` holds."""
    if not condition:
        raise ConfigError(message)
