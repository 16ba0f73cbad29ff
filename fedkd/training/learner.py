"""A network under an objective: what is trained together, the signals of a batch, and what fits together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fedkd.data.samples import Samples
from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective, check, make_parts
from fedkd.objectives.ops import cross_entropy
from fedkd.objectives.seats import own_heads, terms
from fedkd.objectives.signals import Signals
from fedkd.objectives.taps import head_of, observe, shapes_between
from fedkd.objectives.tgeo import ratio_gradients
from fedkd.robust.class_methods import ClassMethod
from fedkd.training.lessons import EVERYTHING, Lessons, check_labels
from fedkd.training.program import GradientRule

_OWN = {"student_logits", "student_features", "student_from", "labels", "generator"}
_TOLD = {"teacher_logits", "ensemble_logits", "class_predictions", "class_costs"}
_ONE_TEACHER = {"teacher_features", "teacher_head", "class_means", "subclasses"}

RATIO = "ratio"
"""The part of TGeo-KD that follows the validation loss."""


class Learner(nn.Module):
    """A network and what its objective trains beside it, as one network for the training loop.

    Its forward pass gives the log-probabilities that the objective predicts with. Teachers are no part of it,
    unless the objective trains the teacher.
    """

    def __init__(
        self, objective: Objective, network: StagedModel, teachers: Sequence[StagedModel], seed: int
    ) -> None:
        super().__init__()
        self.objective, self.network = objective, network
        classes, count = network.shapes[-1][0], max(len(teachers), 1)
        shapes = shapes_between(objective, network, teachers[0] if teachers else network, classes, count)
        self.parts = make_parts(objective, shapes, seed)
        self.taught = teachers[0] if any(term.trains_teacher for term in terms(objective)) else None
        self.teachers = tuple(teachers)  # modules in a tuple are not registered

    def forward(self, x: Tensor, loss: Callable[["Learner"], Tensor] | None = None) -> Tensor:
        """Predictions for `x`, or `loss(self)` where that is to be taken at other parameters than its own."""
        if loss is not None:
            return loss(self)
        signals = self.student(x)
        if "teacher_head" in self.objective.needs:
            signals = replace(signals, teacher_head=head_of(self.teachers[0]))
        return self.objective.predict(signals)

    def student(self, x: Tensor) -> Signals:
        """The student's side of the signals."""
        parts: Mapping[str, Any] = dict(self.parts.items())
        return Signals(**observe(self.objective, "student", self.network, x), parts=parts)

    def told(self, x: Tensor) -> dict[str, Any]:
        """The teachers' side; of several, their mean is `teacher_logits` and there are no features."""
        if self.taught is not None:
            return observe(self.objective, "teacher", self.taught, x)
        with torch.no_grad():
            if len(self.teachers) == 1:
                seen = observe(self.objective, "teacher", self.teachers[0].eval(), x)
                return seen | {"ensemble_logits": seen["teacher_logits"][None]}
            every = torch.stack([teacher.eval()(x) for teacher in self.teachers])
            return {"teacher_logits": every.mean(0), "ensemble_logits": every}


def check_fit(
    objective: Objective, method: ClassMethod, teachers: int, place: str, lessons: Lessons = EVERYTHING
) -> None:
    """ConfigError, in one sentence, where objective, method, teachers and lessons do not go together."""
    offered = _OWN | (_TOLD if teachers else set()) | (_ONE_TEACHER if teachers == 1 else set())
    if lessons.labels == "no":
        offered, place = offered - {"labels"}, f"{place} on proxy data"
    offered |= {"edges"} if lessons.edges is not None else set()
    check(objective, offered, place if teachers < 2 else f"{place} with {teachers} teachers")
    check_labels(terms(objective), lessons.labels)
    who, what = f"method={method.name}", f"objective={objective.about.name}"
    if method.weighs and lessons.labels != "all":
        raise ConfigError(f"{who} weights samples by their labels, and {place} hides some")
    if not method.needs <= offered:
        raise ConfigError(f"{who} reads what a teacher says, and {place} has none")
    if method.shifts(objective.needs) and "student_logits" not in objective.needs:
        raise ConfigError(
            f"{who}, risk={method.risk} shifts the student's logits, which {what} does not read"
        )
    if method.weighs and not objective.per_sample:
        raise ConfigError(f"{who} weights samples, and {what} couples the samples of a batch")
    if own_heads(objective) and type(method).finish is not ClassMethod.finish:
        raise ConfigError(f"{who} shifts the network's own logits, and {what} predicts with other heads")


def follow_validation(
    learner: Learner, loss: Callable[[Learner], Tensor], held_out: Samples, lr: float
) -> GradientRule | None:
    """TGeo-KD's fusion ratio: its gradient is that of the loss on `held_out` after a virtual step.

    None for other objectives. loss(learner): on the present training batch
    """
    if not any(term.follows_validation for term in terms(learner.objective)):
        return None

    def at(weights: Mapping[str, Tensor], what: Callable[[Learner], Tensor]) -> Tensor:
        return torch.func.functional_call(learner, dict(weights), (held_out.x,), {"loss": what})

    def rule(names: list[str], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        leaves = {n: p.clone().requires_grad_() for n, p in zip(names, parameters, strict=True)}
        ratio = {n: p for n, p in leaves.items() if n.split(".")[1].split("/")[-1] == RATIO}
        student = {n: p for n, p in leaves.items() if n.startswith("network.")}
        found = ratio_gradients(
            lambda s, r: at({**s, **r}, loss),
            lambda s: at(s, lambda model: cross_entropy(model.network(held_out.x), held_out.y).mean()),
            student,
            ratio,
            lr,
        )
        for name, gradient in zip(names, gradients, strict=True):
            if name in found:
                gradient.copy_(found[name])

    return rule
