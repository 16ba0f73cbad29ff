"""The two loops that every data-free method is made of: fit a generator, distil into a student.

Both are deterministic functions of what they are given and of `rng`; neither touches any other parameter
than the optimizer's. An optimizer may outlive a call, so that methods can alternate the two.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.generators.base import Generator
from fedkd.generators.batch import Batch, View
from fedkd.generators.ensemble import Ensemble, label_distribution, sample_labels
from fedkd.generators.hooks import Moving
from fedkd.generators.kept import Kept
from fedkd.generators.sources import InputsFn
from fedkd.generators.terms import Terms
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective, check, value
from fedkd.objectives.signals import Signals
from fedkd.objectives.taps import observe, places
from fedkd.schedule import Value, at
from fedkd.training.descent import descend
from fedkd.training.optimizers import SGD, Adam, Optimizer

History = list[dict[str, float]]
"""A row a step: the generator's terms before weighting, or the student's loss."""

TeacherFn = Callable[[Tensor, Tensor | None], Signals]
"""All that is known about a batch but the student's side, labels included; `Ensemble.signals` is one."""


@dataclass(frozen=True)
class Optim:
    """An optimizer of the server.

    kind: adam or sgd
    lr: step size, may be a schedule of the round
    beta1: of Adam; momentum: of SGD
    clip: largest L2 norm of the gradient, where set
    """

    kind: Literal["adam", "sgd"] = "adam"
    lr: Value = 1e-3
    beta1: float = 0.9
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("adam", "sgd"):
            raise ConfigError(f"kind={self.kind} of a server optimizer: one of adam, sgd is needed")
        if not at(self.lr, 1) >= 0 or (self.clip is not None and not self.clip > 0):
            raise ConfigError(
                f"lr={self.lr}, clip={self.clip} of a server optimizer: a number from 0, and a positive one "
                "or null, are needed"
            )

    def __call__(self, parameters: Iterable[Tensor], server_round: int = 0) -> Optimizer:
        """A fresh optimizer over `parameters`, of which there may be none (a placebo)."""
        lr = at(self.lr, server_round)
        if self.kind == "adam":
            return Adam(parameters, lr, (self.beta1, 0.999), self.weight_decay, self.clip)
        return SGD(parameters, lr, self.momentum, self.weight_decay, self.clip)


@contextmanager
def judging(student: nn.Module | None) -> Iterator[None]:
    """The student in evaluation mode while it judges generated samples, then as it was."""
    was = student is not None and student.training
    if student is not None:
        student.eval()
    try:
        yield
    finally:
        if student is not None:
            student.train(was)


class Fit(NamedTuple):
    """What fitting a generator leaves beside the generator: its history, and the last batch."""

    history: History
    last: Batch | None


def generator_step(
    batch: Batch, terms: Terms, optimizer: Optimizer, server_round: int = 0
) -> tuple[float, dict[str, float]]:
    """One step on the active terms; the loss, and the terms' values before weighting.

    Gradients are asked for the optimizer's parameters only: teachers and student receive none.
    """
    loss, values = terms(batch, server_round)
    return descend(optimizer, loss), values


def fit_generator(
    generator: Generator,
    terms: Terms,
    teachers: Ensemble,
    optimizer: Optimizer,
    steps: int,
    rng: torch.Generator,
    *,
    batch_size: int = 64,
    labels: Literal["counts", "uniform"] = "counts",
    label_counts: Tensor | None = None,
    student: nn.Module | None = None,
    server_round: int = 0,
) -> Fit:
    """Train the generator on fresh batches; a placebo, or terms that are all off, leave it untouched.

    labels: how they are drawn from `label_counts` (the ensemble's, where not set), see `label_distribution`
    The generator is left in evaluation mode.
    """
    history: History = []
    batch = None
    if not optimizer.parameters or not terms.active(server_round):
        return Fit(history, batch)
    counts, device = teachers.counts if label_counts is None else label_counts, teachers.counts.device
    wished = label_distribution(counts, labels).cpu()
    generator.train()
    with judging(student), terms.listening(teachers, server_round) as seen:
        for _ in range(steps):
            wanted = torch.multinomial(wished, batch_size, replacement=True, generator=rng)
            noise = generator.draw(batch_size, rng)
            batch = Batch(generator, noise.to(device), wanted.to(device), teachers, student, seen=seen)
            history.append(generator_step(batch, terms, optimizer, server_round)[1])
    generator.eval()
    return Fit(history, batch)


class Scene(NamedTuple):
    """Who takes part in a synthesis; clock is what schedules read: a round, or an epoch of a scheme."""

    teachers: Ensemble
    student: nn.Module | None
    generator: Generator
    rng: torch.Generator
    clock: int = 0

    def request(self, n: int) -> tuple[Tensor, Tensor]:
        """Trainable noise `(n, nz)`, and sorted labels `(n,)`, uniform over the classes somebody holds."""
        device = self.teachers.counts.device
        labels = sample_labels(self.teachers.counts, n, self.rng, "uniform").sort().values
        return self.generator.draw(n, self.rng).to(device).requires_grad_(), labels.to(device)


def invert(
    scene: Scene,
    noise: Tensor,
    labels: Tensor,
    terms: Terms,
    optimizer: Optimizer,
    steps: int,
    *,
    view: View | None = None,
    moving: Moving | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> tuple[Tensor, History]:
    """Optimise one batch of fixed noise and labels; the samples of the step with the lowest loss.

    after_step: called after each step, while its gradients are still there
    """
    if steps < 1 or not terms.active(scene.clock):
        raise ConfigError("an inversion needs at least one step and one term with a weight other than 0")
    history: History = []
    best, lowest = torch.empty(0), float("inf")
    scene.generator.train()
    with judging(scene.student), terms.listening(scene.teachers, scene.clock) as seen:
        for _ in range(steps):
            batch = Batch(scene.generator, noise, labels, scene.teachers, scene.student, view, seen, moving)
            loss, values = generator_step(batch, terms, optimizer, scene.clock)
            after_step()
            history.append(values)
            if loss < lowest or len(history) == 1:
                best, lowest = batch.x.detach().clone(), loss
    return best, history


def distill(
    student: nn.Module,
    teacher_fn: TeacherFn,
    inputs_fn: InputsFn,
    objective: Objective,
    optimizer: Optimizer,
    steps: int,
    rng: torch.Generator,
    server_round: int = 0,
    kept: Kept | None = None,
) -> History:
    """Train the student on what `teacher_fn` says about batches of `inputs_fn`; left in evaluation mode."""
    history: History = []
    kept = Kept(nn.ModuleDict(), objective.init()) if kept is None else kept
    tapped = places(objective, "student")
    student.train()
    for step in range(steps):
        x, labels, weights = inputs_fn(rng)
        with torch.no_grad():
            told = teacher_fn(x, labels)
        own: dict[str, Any] = {"parts": dict(kept.parts.items()), "state": kept.state}
        if tapped:
            assert isinstance(student, StagedModel)  # others have no places to be tapped at
            own |= observe(objective, "student", student, x)
        else:
            own["student_logits"] = student(x)
        signals = replace(told, generator=rng, server_round=server_round, **own)
        loss = descend(optimizer, _weighted(objective, signals, weights))
        kept.state = objective.advance(signals, kept.done + kept.share * (step + 1) / steps)
        history.append({"student": loss})
    kept.done += kept.share
    student.eval()
    return history


def _weighted(objective: Objective, signals: Signals, weights: Tensor | None) -> Tensor:
    if weights is None:
        return value(objective, signals)
    if not objective.per_sample:
        raise ConfigError(f"objective={objective.about.name} couples samples: it takes no weights")
    check(objective, signals.available, "the server's distillation")
    return (objective(signals) * weights).mean()
