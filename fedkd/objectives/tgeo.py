"""TGeo-KD, a fusion ratio for every sample. Hu, Wu et al., ICLR 2024, arXiv 2312.15112.

    L_i = (1 - a_i) CE_i + a_i tau^2 KL(p_T,i(tau) || p_S,i(tau)),   a_i = f(r_i) in (0, 1)

r_i: the triangle of student S, teacher T and truth G, and of S, the teacher's class mean M and G. Features,
f and solver are reconstructed: r = vertices S, T, G, M and edges S-G, T-G, S-T, S-M, M-G, detached;
f = linear, ReLU, linear, sigmoid. f minimises the validation loss after one virtual step of the student
(`ratio_gradients`); trained on the training loss, a would drift to whichever term is smaller.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fedkd.objectives.base import About, Objective, Observed, Shapes
from fedkd.objectives.logits import LOGITS, positive
from fedkd.objectives.ops import cross_entropy, kl, log_probs, one_hot
from fedkd.objectives.signals import Signals


class RatioNet(nn.Sequential):
    """(B, F) -> (B,) in (0, 1)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(-1)


@dataclass(frozen=True)
class TGeo(Objective):
    """The mixture under the ratio network's current opinion; both defaults are choices."""

    temperature: float = 4.0
    hidden: int = 32

    about = About(
        "tgeo",
        "Hu et al. 2024, arXiv 2312.15112",
        "(1-a) CE + a tau^2 KL(p_T(tau) || p_S(tau)), a = f(S, T, G, M and their differences)",
        "client: f and a validation slice stay local; stands alone",
        "reconstructed",
    )
    follows_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        positive("hidden", self.hidden)

    @property
    def needs(self) -> frozenset[str]:
        return LOGITS | {"labels", "class_predictions"}

    def modules(self, shapes: Shapes) -> dict[str, nn.Module]:
        return {"ratio": RatioNet(9 * shapes.num_classes, self.hidden)}

    def learn(self, seen: Observed, seed: int) -> dict[str, Any]:
        found = class_predictions(seen.logits, seen.labels, seen.logits.shape[1], self.temperature)
        return {"class_predictions": found}

    def loss(self, s: Signals) -> Tensor:
        student = log_probs(s.student_logits, self.temperature)
        teacher = log_probs(s.teacher_logits, self.temperature)
        geometry = self._geometry(student.exp().detach(), teacher.exp(), s)
        distilled = self.temperature**2 * kl(teacher, student)
        return mixture(cross_entropy(s.student_logits, s.labels), distilled, s.part("ratio")(geometry))

    def _geometry(self, student: Tensor, teacher: Tensor, s: Signals) -> Tensor:
        truth = one_hot(s.labels, student.shape[-1]).to(student.dtype)
        middle = s.class_predictions[s.labels]
        edges = (student - truth, teacher - truth, student - teacher, student - middle, middle - truth)
        return torch.cat([student, teacher, truth, middle, *edges], dim=-1)


def mixture(ce: Tensor, kd: Tensor, ratio: Tensor) -> Tensor:
    """(1 - a) ce + a kd of each sample; a larger ratio follows the teacher more."""
    return (1 - ratio) * ce + ratio * kd


def class_predictions(logits: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    """(C, C): the mean tempered prediction over each class's samples; uniform for an absent class."""
    sums = logits.new_zeros(num_classes, num_classes)
    sums.index_add_(0, labels, log_probs(logits, temperature).exp())
    counts = torch.bincount(labels, minlength=num_classes).unsqueeze(1).to(logits.dtype)
    return torch.where(counts > 0, sums / counts.clamp_min(1.0), 1.0 / num_classes)


Weights = Mapping[str, Tensor]


def ratio_gradients(
    train_loss: Callable[[Weights, Weights], Tensor],
    validation_loss: Callable[[Weights], Tensor],
    student: Weights,
    ratio: Weights,
    lr: float,
) -> dict[str, Tensor]:
    """Gradient of the validation loss with respect to the ratio network, through one virtual SGD step.

    train_loss(student, ratio): the mixture on a training batch; validation_loss(student): CE on held-out data
    """
    gradients = torch.autograd.grad(train_loss(student, ratio), list(student.values()), create_graph=True)
    moved = {name: w - lr * g for (name, w), g in zip(student.items(), gradients, strict=True)}
    outer = torch.autograd.grad(validation_loss(moved), list(ratio.values()))
    return dict(zip(ratio, outer, strict=True))
