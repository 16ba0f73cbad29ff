"""What worst-class training is compared with.

Everything works on plain logits, probabilities and labels. Notation as in `fedkd.robust.worst_class`.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.robust.multipliers import Exponentiated, State
from fedkd.robust.worst_class import ClassMultipliers, class_risks
from fedkd.schedule import Value


def post_shift(
    logits: Tensor,
    targets: Tensor,
    prior: np.ndarray,
    objective: str = "robust",
    alpha: float = 0.5,
    gamma: float = 0.1,
    updates: int = 200,
) -> Tensor:
    """The shift `log c` (M,) to add to the logits of a finished network at prediction time.

    The multiplier loop with the network frozen. It returns the shift of least validation risk under the
    objective, no shift being the first candidate, so that risk never rises on the data it is fitted to.

    logits, targets: validation data; prior: class priors the network was trained with
    """
    adversary = ClassMultipliers(objective, alpha, gamma, warmup=0)
    state = adversary.init(logits.shape[1])
    best = torch.zeros(logits.shape[1], dtype=logits.dtype, device=logits.device)
    least = _objective_risk(class_risks(logits, targets), adversary, prior)
    for _ in range(updates):
        gains = torch.as_tensor(adversary.gains(state, prior), dtype=logits.dtype, device=logits.device)
        risks = class_risks(logits + gains.log(), targets)
        if (risk := _objective_risk(risks, adversary, prior)) < least:
            best, least = gains.log(), risk
        state = adversary.update(risks, state)
    return best


def _objective_risk(risks: np.ndarray, adversary: ClassMultipliers, prior: np.ndarray) -> float:
    if adversary.objective == "standard":
        return float(np.nansum(prior * risks))
    share = {"balanced": 0.0, "robust": 1.0}.get(adversary.objective, adversary.alpha)
    return float((1 - share) * np.nanmean(risks) + share * np.nanmax(risks))


def logit_adjusted(logits: Tensor, prior: np.ndarray | Tensor, tau: float = 1.0) -> Tensor:
    """`logits + tau log pi` (..., M), to train with (Menon et al., arXiv 2007.07314); tau = 1 is balanced."""
    return logits + tau * torch.as_tensor(prior, dtype=logits.dtype, device=logits.device).log()


class GroupDRO:
    """Group DRO on training losses (Sagawa et al., arXiv 1911.08731), groups being classes or any other.

        q_g <- q_g exp(gamma * loss_g);   loss = sum_g q_g loss_g

    Weighting in place of margins. A group without samples in the batch has loss zero, as published. With
    distillation losses in place of cross entropy it is group-DRO distillation.
    """

    def __init__(self, gamma: Value = 0.01) -> None:
        self.adversary = Exponentiated(gamma)

    def init(self, num_groups: int) -> State:
        """All groups equal."""
        return self.adversary.init(np.ones(num_groups))

    def step(self, losses: Tensor, groups: Tensor, state: State) -> tuple[Tensor, State]:
        """The loss of a batch (scalar) and the next state; losses (B,), groups (B,) int64."""
        count = len(state["tilt"])
        member = F.one_hot(groups, count).to(losses.dtype)
        mean = (losses @ member) / member.sum(0).clamp(min=1)
        prior = np.full(count, 1 / count)
        q, state = self.adversary.update(mean.detach().double().cpu().numpy(), state, prior)
        return (torch.as_tensor(q, dtype=losses.dtype, device=losses.device) * mean).sum(), state


def teacher_margins(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The teacher's margin on each class (M,): mean over class y of `p_y - max_{j != y} p_j`, 0 if empty.

    Negative where the teacher is wrong on average. The statistic of AdaAlpha and AdaMargin.
    """
    true = F.one_hot(labels, probabilities.shape[1]).to(probabilities.dtype)
    rival = probabilities.masked_fill(true.bool(), -torch.inf).amax(1)
    margin = (probabilities * true).sum(1) - rival
    return (margin @ true) / true.sum(0).clamp(min=1)


def ada_alpha(probabilities: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """Targets (B, M) of AdaAlpha (Lukasik et al., arXiv 2106.10494; reconstructed):

        (1 - a_y) one-hot + a_y teacher,  a_y = max(0, margin of the teacher on class y)

    so that a teacher that is wrong on a class on average is not copied there.
    """
    share = margins.clamp(min=0)[labels, None]
    true = F.one_hot(labels, probabilities.shape[1]).to(probabilities.dtype)
    return (1 - share) * true + share * probabilities


def ada_margin_gains(margins: Tensor, least: float = 0.05) -> np.ndarray:
    """Class gains (M,) of AdaMargin, to train with under `worst_class.shift`: `1 / max(margin_y, least)`.

    Lukasik et al., arXiv 2106.10494. Only its idea is known to us (the teacher's class statistics as margins
    of a logit-adjusted loss), so this form is ours: the margin takes the place of the prior, and a class on
    which the teacher is unsure is treated like a rare one.
    """
    return 1 / margins.double().clamp(min=least).cpu().numpy()
