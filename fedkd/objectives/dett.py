"""DeTT, distillation under the teacher's own last layer. J. Lee, J. Lee, 2023, arXiv 2302.11187.

    L = c_y ||proj(hS) - hT||^2,   student prediction: the teacher's last layer on proj(hS)

The debiased teacher's last layer is transplanted and stays fixed; below it the student matches the teacher's
features on reweighted samples. From the abstract. Reconstructed: `proj` (linear) where the widths differ, the
sum over the width, and the weights: class costs, balanced unless `student.risk` moves them.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fedkd.objectives.base import About, Objective, Observed, Shapes
from fedkd.objectives.margin import class_costs
from fedkd.objectives.ops import log_probs, one_hot
from fedkd.objectives.signals import EMBEDDING, Signals


@dataclass(frozen=True)
class DeTT(Objective):
    """One value a sample. The student's own last layer is not trained."""

    about = About(
        "dett",
        "Lee, Lee 2023, arXiv 2302.11187",
        "c_y ||proj(hS) - hT||^2, the teacher's last layer on top",
        "worst class: the debiased teacher's last layer is kept; stands alone",
        "reconstructed",
    )

    @property
    def needs(self) -> frozenset[str]:
        features = {f"student_features@{EMBEDDING}", f"teacher_features@{EMBEDDING}"}
        return frozenset({"teacher_head", "labels", "class_costs"} | features)

    def modules(self, shapes: Shapes) -> dict[str, nn.Module]:
        own, target = shapes.student[EMBEDDING][0], shapes.teacher[EMBEDDING][0]
        return {} if own == target else {"projector": nn.Linear(own, target)}

    def learn(self, seen: Observed, seed: int) -> dict[str, Any]:
        return {"class_costs": class_costs(one_hot(seen.labels, seen.logits.shape[1]).double().mean(0))}

    def loss(self, s: Signals) -> Tensor:
        teacher = s.teacher_features[EMBEDDING]
        away = (self._projected(s) - teacher).square().sum(-1)
        return s.class_costs.to(away)[s.labels] * away

    def predict(self, s: Signals) -> Tensor:
        weight, bias = s.teacher_head
        return log_probs(self._projected(s) @ weight.mT + bias)

    def _projected(self, s: Signals) -> Tensor:
        z = s.student_features[EMBEDDING]
        return s.parts["projector"](z) if "projector" in s.parts else z
