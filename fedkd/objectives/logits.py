"""The divergences everything is compared with: cross entropy, KD, reverse KL, Jensen-Shannon.

Hinton, Vinyals, Dean, arXiv 1503.02531; the generalised Jensen-Shannon divergence as in Agarwal et al.,
arXiv 2306.13649. tau^2 keeps the gradient's size when tau grows.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedkd.objectives.base import About, Objective, require
from fedkd.objectives.ops import cross_entropy, kl, log_probs
from fedkd.objectives.signals import Signals

LOGITS = frozenset({"student_logits", "teacher_logits"})
"""What every pure logit distillation needs."""


def positive(name: str, number: float) -> None:
    """ConfigError unless `number` is above 0."""
    require(number > 0, f"{name}={number} of an objective: a positive number is needed")


@dataclass(frozen=True)
class CE(Objective):
    """Cross entropy with the labels; of few labels, each counts as `labelled` says."""

    about = About("ce", "-", "CE(zS, y)", "the task itself; a term beside others", "reference code")
    few_labels: ClassVar[bool] = True

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"student_logits", "labels"})

    def loss(self, s: Signals) -> Tensor:
        each = cross_entropy(s.student_logits, s.labels)
        return each if s.labelled is None else each * s.labelled


@dataclass(frozen=True)
class KD(Objective):
    """tau^2 KL(p_T(tau) || p_S(tau)): the forward direction, which covers all that the teacher says."""

    temperature: float = 4.0

    about = About(
        "kd",
        "Hinton 2015, arXiv 1503.02531",
        "tau^2 KL(p_T(tau) || p_S(tau))",
        "client, server, reverse; published with 0.1 ce + 0.9 kd on CIFAR-100",
        "reference code",
    )

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)

    @property
    def needs(self) -> frozenset[str]:
        return LOGITS

    def loss(self, s: Signals) -> Tensor:
        student, teacher = _log_pair(s, self.temperature)
        return self.temperature**2 * kl(teacher, student)


@dataclass(frozen=True)
class ReverseKL(Objective):
    """KL(p_S || p_T): the student picks a mode of the teacher.

    The reference works at tau = 1. At other temperatures tau^2 is applied as for KD, unless `scaled` is off.
    """

    temperature: float = 1.0
    scaled: bool = True

    about = About(
        "reverse_kl",
        "Shing et al. 2025 (baseline), arXiv 2501.16937",
        "KL(p_S || p_T)",
        "client student under a broad global teacher",
        "reference code",
    )

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)

    @property
    def needs(self) -> frozenset[str]:
        return LOGITS

    def loss(self, s: Signals) -> Tensor:
        student, teacher = _log_pair(s, self.temperature)
        return (self.temperature**2 if self.scaled else 1.0) * kl(student, teacher)


@dataclass(frozen=True)
class JSD(Objective):
    """w KL(p_T || m) + (1-w) KL(p_S || m), m = w p_T + (1-w) p_S; at w = 1/2 at most log 2.

    teacher_weight: w, on the teacher
    scaled: apply tau^2 at temperatures other than the reference's 1
    """

    teacher_weight: float = 0.1
    temperature: float = 1.0
    scaled: bool = True

    about = About(
        "jsd",
        "Agarwal et al. 2023, arXiv 2306.13649",
        "w KL(p_T || m) + (1-w) KL(p_S || m), m = w p_T + (1-w) p_S",
        "server: averages unlike clients; client",
        "reference code",
    )

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        w = self.teacher_weight
        require(0 < w < 1, f"teacher_weight={w} of objective=jsd: a number between 0 and 1 is needed")

    @property
    def needs(self) -> frozenset[str]:
        return LOGITS

    def loss(self, s: Signals) -> Tensor:
        student, teacher = _log_pair(s, self.temperature)
        w = self.teacher_weight
        middle = torch.logaddexp(math.log(w) + teacher, math.log(1 - w) + student)
        divergence = w * kl(teacher, middle) + (1 - w) * kl(student, middle)
        return (self.temperature**2 if self.scaled else 1.0) * divergence


def _log_pair(s: Signals, temperature: float) -> tuple[Tensor, Tensor]:
    return log_probs(s.student_logits, temperature), log_probs(s.teacher_logits, temperature)
