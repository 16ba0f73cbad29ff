"""FF-G2M, from a graph network to an MLP. Wu et al., AAAI 2023, arXiv 2305.10758.

    low:  mean over edges (i,j) and self-loops of KL(softmax(h_j) || softmax(z_i))
    high: mean over edges of KL(softmax(|h_i - h_j| / tau) || softmax(|z_i - z_j| / tau))
    L = lam CE(labelled) + (1 - lam) (low + high)

z: student's logits, h: teacher's, both raw. Nodes of high degree count in proportion. A graph split over
clients keeps the edges inside each client.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedkd.objectives.base import About, Objective, mean, require
from fedkd.objectives.logits import LOGITS, positive
from fedkd.objectives.ops import cross_entropy, kl, log_probs
from fedkd.objectives.signals import Signals


@dataclass(frozen=True)
class FFG2M(Objective):
    """Full batch over a graph's nodes; labels only where `labelled` says so.

    tau: temperature of the edge code; tuned values 1.0 to 1.5
    lam: weight of the labels; tuned values 0 to 0.5
    low, high: weights of the two frequencies, for ablations
    """

    tau: float = 1.5
    lam: float = 0.1
    low: float = 1.0
    high: float = 1.0

    about = About(
        "ffg2m",
        "Wu et al. 2023, arXiv 2305.10758",
        "lam CE + (1-lam)(mean_edges KL(h_j || z_i) + mean_edges KL(|h_i-h_j|/tau || |z_i-z_j|/tau))",
        "graph network to MLP; stands alone",
        "reference code",
    )
    few_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("tau", self.tau)
        require(0 <= self.lam <= 1, f"lam={self.lam} of objective=ffg2m: 0 to 1 is needed")

    @property
    def needs(self) -> frozenset[str]:
        return LOGITS | {"labels", "edges"}

    @property
    def per_sample(self) -> bool:
        return False

    def loss(self, s: Signals) -> Tensor:
        student, teacher = s.student_logits, s.teacher_logits
        known = mean(cross_entropy(student, s.labels), s.labelled)
        low = low_frequency(student, teacher, with_loops(s.edges, student.shape[0]))
        high = high_frequency(student, teacher, s.edges, self.tau)
        return self.lam * known + (1 - self.lam) * (self.low * low + self.high * high)


def with_loops(edges: Tensor, nodes: int) -> Tensor:
    """(2, E) -> (2, E + nodes): a self-loop for every node added."""
    loops = torch.arange(nodes, device=edges.device)
    return torch.cat([edges, loops.expand(2, -1)], dim=1)


def low_frequency(student: Tensor, teacher: Tensor, edges: Tensor) -> Tensor:
    """Every node imitates the teacher at itself and at its neighbours; row 0 of `edges` is the student's."""
    source, target = edges
    return _mean(kl(log_probs(teacher)[target], log_probs(student)[source]))


def high_frequency(student: Tensor, teacher: Tensor, edges: Tensor, tau: float) -> Tensor:
    """Differences across an edge imitate the teacher's; 0 where there is no edge."""
    i, j = edges
    codes = [log_probs((x[i] - x[j]).abs(), tau) for x in (teacher, student)]
    return _mean(kl(*codes))


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.shape[0], 1)
