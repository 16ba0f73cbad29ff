"""MST-Distill, a mixture of specialised teachers. Li et al., ACM MM 2025, arXiv 2507.07015.

    L = w_t CE + w_k (1/k) sum_{r<=k} tau^2 KL(p_{T,sel_r}(tau) || p_S(tau)) + w_b LB

A gate on the student's logits selects the k teachers of each sample. As in the reference the selection
carries no gradient, so only the load balance LB trains the gate, and LB reaches the student. `routing=gated`
weights the selected teachers by the gate, which then learns; it is this library's addition.

This is the paper's third stage. The first two, co-training of student and teachers and the training of the
mask networks that specialise a teacher (`MaskNet`), are played by no program here: teachers are taken as they
are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor, nn

from fedkd.objectives.base import About, Objective, Shapes, require
from fedkd.objectives.logits import positive
from fedkd.objectives.ops import cross_entropy, kl, log_probs
from fedkd.objectives.signals import Signals


class Gate(nn.Sequential):
    """Student logits (B, C) -> teacher logits (B, M); two linear layers with nothing between, as released."""

    def __init__(self, num_classes: int, teachers: int) -> None:
        super().__init__(nn.Linear(num_classes, 2 * num_classes), nn.Linear(2 * num_classes, teachers))


@dataclass(frozen=True)
class MST(Objective):
    """Stage 3, routing. Couples samples through the load balance (per-sample at balance 0).

    k: teachers a sample
    task, kl, balance: the three weights
    mode: load balance as KL(uniform || mean gate) / M, or as the coefficient of variation of the gate's sums
    routing: equal (the reference), gated (see above), or mixed (KL to the gate-weighted mean of teacher
        logits, as in the reference's unused variant)
    """

    k: int = 1
    temperature: float = 4.0
    task: float = 1.0
    kl: float = 1.0
    balance: float = 1.0
    mode: Literal["KL", "CV"] = "KL"
    routing: Literal["equal", "gated", "mixed"] = "equal"

    about = About(
        "mst",
        "Li et al. 2025, arXiv 2507.07015",
        "CE + mean over k selected teachers of tau^2 KL(p_T || p_S) + load balance",
        "server with several teachers (clients or clusters); stands alone",
        "reference code",
    )

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        require(self.k >= 1, f"k={self.k} of objective=mst: a whole number from 1 is needed")
        for name, known in (("mode", ("KL", "CV")), ("routing", ("equal", "gated", "mixed"))):
            given = getattr(self, name)
            require(given in known, f"{name}={given} of objective=mst: one of {', '.join(known)} is needed")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"student_logits", "ensemble_logits"} | ({"labels"} if self.task else set()))

    @property
    def per_sample(self) -> bool:
        return self.balance == 0

    def modules(self, shapes: Shapes) -> dict[str, nn.Module]:
        enough = shapes.teachers >= self.k
        require(enough, f"k={self.k} of objective=mst: there are only {shapes.teachers} teachers")
        return {"gate": Gate(shapes.num_classes, shapes.teachers)}

    def loss(self, s: Signals) -> Tensor:
        gate = s.part("gate")(s.student_logits)
        each = self.kl * self._distilled(s, gate)
        if self.task:
            each = each + self.task * cross_entropy(s.student_logits, s.labels)
        return each if self.balance == 0 else each.mean() + self.balance * load_balance(gate, self.mode)

    def _distilled(self, s: Signals, gate: Tensor) -> Tensor:
        if self.routing == "mixed":
            return mixed_teacher_kl(s.student_logits, s.ensemble_logits, gate.softmax(-1), self.temperature)
        student = log_probs(s.student_logits, self.temperature)
        every = kl(log_probs(s.ensemble_logits, self.temperature), student).mT
        values, selected = gate.topk(self.k, dim=-1)
        picked = every.gather(-1, selected)
        shares = values.softmax(-1) if self.routing == "gated" else torch.full_like(picked, 1 / self.k)
        return self.temperature**2 * (shares * picked).sum(-1)


def mixed_teacher_kl(student: Tensor, ensemble: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """(B,): tau^2 KL to the share-weighted mean of the teachers' logits; the target carries no gradient."""
    target = torch.einsum("bm,mbc->bc", shares, ensemble).detach()
    return temperature**2 * kl(log_probs(target, temperature), log_probs(student, temperature))


def load_balance(gate: Tensor, mode: str) -> Tensor:
    """Gate logits (B, M) -> 0 where the teachers share the batch evenly."""
    batch, teachers = gate.shape
    if mode == "KL":
        log_mean = log_probs(gate).logsumexp(0) - log(batch)
        return (-log(teachers) - log_mean).mean() / teachers
    load = gate.softmax(-1).sum(0)
    return load.std() / load.mean() if teachers > 1 else load.sum() * 0.0


def co_training(logits: Sequence[Tensor], labels: Tensor, temperature: float = 4.0) -> Tensor:
    """Stage 1, (B,): every model's CE plus tau^2 KL from each of the others; no side is held fixed."""
    task = torch.stack([cross_entropy(z, labels) for z in logits]).sum(0)
    tempered = [log_probs(z, temperature) for z in logits]
    pairs = [kl(p, q) for i, p in enumerate(tempered) for j, q in enumerate(tempered) if i != j]
    return task + temperature**2 * torch.stack(pairs).sum(0)


def specialization(student: Tensor, masked_teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Stage 2, (B,): the masks learn KL(student || masked teacher); the student is the fixed target."""
    target = log_probs(student.detach(), temperature)
    return temperature**2 * kl(target, log_probs(masked_teacher, temperature))


class MaskNet(nn.Module):
    """A mask in (0, 1) for the activation of one teacher layer: self-attention over its features.

    Vectors (B, F) as released. Maps (B, F, H, W) get one value a channel, from the channels' means; this
    form is reconstructed.
    """

    def __init__(self, features: int, heads: int = 3) -> None:
        super().__init__()
        hidden = max(features // (2 * heads), 1) * heads
        self.embed = nn.Linear(features, hidden * features)
        self.mha = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.fc = nn.Linear(hidden, 1)

    def mask(self, x: Tensor) -> Tensor:
        """(B, F, ...) -> (B, F)."""
        pooled = x.flatten(2).mean(-1) if x.dim() > 2 else x
        tokens = self.embed(pooled).unflatten(-1, (pooled.shape[-1], -1))
        attended, _ = self.mha(tokens, tokens, tokens, need_weights=False)
        return torch.sigmoid(self.fc(attended)).squeeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask(x)
        return x * mask.reshape(*mask.shape, *[1] * (x.dim() - 2))
