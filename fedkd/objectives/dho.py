"""DHO, dual-head optimisation, for students with few labels. Kang et al., arXiv 2505.07675.

    L = w_ce CE(label head, y) + w_kd (KD(labelled) + KD(unlabelled))
    KD = tau^2 KL(p_T(tau) || p_head(tau))

The student's own head learns labels only, a second head the teacher only; the backbone sees both. Each mean
is over its own split, so a labelled sample counts for more than in a pooled mean. Inference mixes the heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.objectives.base import About, Objective, Shapes, mean
from fedkd.objectives.logits import positive
from fedkd.objectives.ops import cross_entropy, kl, log_probs
from fedkd.objectives.signals import EMBEDDING, Signals

ALPHAS = tuple(i * 0.05 for i in range(21))
BETAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class DHO(Objective):
    """Defaults of the few-shot scripts; the low-shot one has both weights 1 and `normalized` on.

    normalized: the second head reads 100 times the unit-length embedding
    alpha, beta: inference, p = alpha softmax(label head) + (1 - alpha) softmax(second head / beta)
    """

    temperature: float = 2.0
    ce_weight: float = 0.5
    kd_weight: float = 0.5
    normalized: bool = False
    alpha: float = 0.5
    beta: float = 0.5

    about = About(
        "dho",
        "Kang et al. 2025, arXiv 2505.07675",
        "w_ce CE(head 1, y) + w_kd (KD(head 2, labelled) + KD(head 2, unlabelled))",
        "client with few labels: head 1 stays local; stands alone",
        "reference code",
    )
    few_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        positive("beta", self.beta)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"student_logits", "teacher_logits", "labels", f"student_features@{EMBEDDING}"})

    @property
    def per_sample(self) -> bool:
        return False

    def modules(self, shapes: Shapes) -> dict[str, nn.Module]:
        return {"head": nn.Linear(shapes.student[EMBEDDING][0], shapes.num_classes)}

    def second(self, s: Signals) -> Tensor:
        """Logits (B, C) of the distillation head."""
        z = s.student_features[EMBEDDING]
        return s.part("head")(100.0 * F.normalize(z, dim=-1) if self.normalized else z)

    def loss(self, s: Signals) -> Tensor:
        labelled = torch.ones_like(s.labels) if s.labelled is None else s.labelled
        student = log_probs(self.second(s), self.temperature)
        distilled = self.temperature**2 * kl(log_probs(s.teacher_logits, self.temperature), student)
        known = mean(cross_entropy(s.student_logits, s.labels), labelled)
        followed = mean(distilled, labelled) + mean(distilled, labelled == 0)
        return self.ce_weight * known + self.kd_weight * followed

    def predict(self, s: Signals) -> Tensor:
        mixed = mixed_heads(s.student_logits, self.second(s), self.alpha, self.beta)
        return mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()


def mixed_heads(label_logits: Tensor, kd_logits: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha softmax(label head) + (1 - alpha) softmax(distillation head / beta), (B, C)."""
    return alpha * F.softmax(label_logits, dim=-1) + (1 - alpha) * F.softmax(kd_logits / beta, dim=-1)


def choose_mixture(
    label_logits: Tensor,
    kd_logits: Tensor,
    labels: Tensor,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
) -> tuple[float, float, float]:
    """(accuracy, alpha, beta) of the first best pair on held-out data: beta outside, alpha inside."""
    best = (-1.0, alphas[0], betas[0])
    for beta in betas:
        for alpha in alphas:
            right = mixed_heads(label_logits, kd_logits, alpha, beta).argmax(-1) == labels
            accuracy = int(right.sum()) / len(labels)
            if accuracy > best[0]:
                best = (accuracy, alpha, beta)
    return best
