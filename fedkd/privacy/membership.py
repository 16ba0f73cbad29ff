"""Membership inference: was this sample in the training split? An attacker scores samples, draws a threshold.

Scores, higher for members, of a sample (x, y) under logits z:

    loss        log p_y: Yeom et al., CSF 2018, arXiv 1709.01604
    confidence  max_m p_m, for who does not know the label: Salem et al., NDSS 2019, arXiv 1806.01246
    calibrated  phi - mean over references of phi, phi = log p_y - log(1 - p_y): models that did not train on
                the sample say how hard it is. Offline LiRA of Carlini et al., S&P 2022, arXiv 2112.03570,
                with one variance for all samples, as its authors advise for few references

Reconstructed: references are the other clients' models and not shadow models trained for the purpose, so the
attack costs nothing beyond what clients exchange; a reference that holds no sample of class y is not asked
about it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FPR = (0.1, 0.01)
"""The shares of non-members that may be taken for members."""


@dataclass(frozen=True)
class Attack:
    """How well one score tells members from others.

    auc: chance that a member scores higher than a non-member, ties half; 0.5 is chance
    chance_sd: standard deviation of the AUC of a score that knows nothing, with as many samples
    tpr: share of members found while at most the given share of non-members is accused; None where there are
        too few non-members to tell
    tpr_chance: what a score that knows nothing finds on average under the same rule
    """

    members: int
    others: int
    auc: float
    chance_sd: float
    tpr: dict[float, float | None]
    tpr_chance: dict[float, float]


def attack(members: Tensor, others: Tensor) -> Attack:
    """Judge the scores of members `(m,)` and non-members `(n,)`, neither of them empty."""
    from scipy.stats import rankdata  # half a second, which a report without attacks does without

    inside, outside = members.double().numpy(), others.double().numpy()
    m, n = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))[:m]
    auc = (ranks.sum() - m * (m + 1) / 2) / (m * n)
    chance_sd = math.sqrt((m + n + 1) / (12 * m * n))
    found = {share: tpr_at(inside, outside, share) if n * share >= 1 else None for share in FPR}
    return Attack(m, n, float(auc), chance_sd, found, {share: chance_tpr(n, share) for share in FPR})


def tpr_at(members: np.ndarray, others: np.ndarray, fpr: float) -> float:
    """The largest share of members above a threshold that at most the share `fpr` of the others exceeds."""
    allowed = _allowed(len(others), fpr)
    if allowed >= len(others):
        return 1.0
    return float((members > np.sort(others)[::-1][allowed]).mean())


def chance_tpr(others: int, fpr: float) -> float:
    """The expectation of `tpr_at` where members and others score alike: (k + 1) / (n + 1), k of n accused."""
    return min(1.0, (_allowed(others, fpr) + 1) / (others + 1))


def _allowed(others: int, fpr: float) -> int:
    return math.floor(fpr * others + 1e-9)


def roc(members: Tensor, others: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of all thresholds, ascending from (0, 0) to (1, 1); ties move both."""
    scores = torch.cat([members, others]).double().numpy()
    inside = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    true, false = np.cumsum(inside[order])[ends], np.cumsum(1 - inside[order])[ends]
    return np.concatenate([[0.0], false / len(others)]), np.concatenate([[0.0], true / len(members)])


def loss_score(logits: Tensor, y: Tensor) -> Tensor:
    """log p_y, (n,), float64, of logits (n, M)."""
    return _of(logits.double().log_softmax(1), y)


def confidence_score(logits: Tensor, y: Tensor) -> Tensor:
    """max_m p_m on a logarithmic scale, (n,); the label is not looked at."""
    return logits.double().log_softmax(1).amax(1)


def phi(logits: Tensor, y: Tensor) -> Tensor:
    """log p_y - log(1 - p_y), (n,): the logit of y over the log-sum of the others; finite for sure models."""
    logits = logits.double()
    others = logits.scatter(1, y[:, None], -torch.inf)
    return _of(logits, y) - others.logsumexp(1)


def calibrated_score(own: Tensor, references: Tensor, asked: Tensor) -> Tensor:
    """phi `(n,)` minus the mean of the `references` `(R, n)` that are `asked` `(R, n)`; all if none is."""
    asked = asked | ~asked.any(0)
    return own - (references * asked).sum(0) / asked.sum(0)


def _of(values: Tensor, y: Tensor) -> Tensor:
    return values.gather(1, y[:, None])[:, 0]


def pooled(scores: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Members' and others' scores of several clients as one attacker with one threshold sees them."""
    inside, outside = zip(*scores, strict=True)
    return torch.cat(inside), torch.cat(outside)
