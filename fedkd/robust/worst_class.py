"""Worst-class training: class gains, margins, and the multipliers behind them.

S. Wang et al., "Robust Distillation for Worst-class Performance", UAI 2023, arXiv 2206.06479. Definitions and
algorithm are reconstructed (no released code); the identities behind them can be derived.

    class risk    R_y = (1/pi_y) E_x[ p_y(x) l(y, f(x)) ],  p one-hot labels or teacher probabilities
    objective     sum_y w_y R_y:   standard w = pi, balanced 1/M, robust w = multipliers of the worst class,
                  tradeoff w = (1 - alpha)/M + alpha * multipliers
    margin form   soft cross entropy of p and `logits - log c`, class gains c = w/pi; unshifted at test time

A round of the algorithm: `class_risks` on validation data, `ClassMultipliers.update`, then training steps
under `shift(logits, gains)`. The prior and the validation targets are one-hot or the teacher's; say which.
Validation must be disjoint from training, where an interpolating network has zero risk in every class.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.robust.multipliers import Exponentiated, State, check_step
from fedkd.schedule import Delayed, Value

OBJECTIVES = ("standard", "balanced", "robust", "tradeoff")

LEAST = 1e-6
"""Smallest class weight and prior inside a gain, so that `log c` is finite for a class without samples."""


def as_probabilities(targets: Tensor, num_classes: int) -> Tensor:
    """Targets as float64 (n, M): labels (n,) become one-hot, probabilities (n, M) stay."""
    one_hot = F.one_hot(targets, num_classes) if targets.ndim == 1 else targets
    return one_hot.detach().double()


def class_priors(targets: Tensor, num_classes: int) -> np.ndarray:
    """Class frequencies (M,) of labels, or the mean of the teacher's probabilities."""
    return as_probabilities(targets, num_classes).mean(0).cpu().numpy()


def class_risks(logits: Tensor, targets: Tensor) -> np.ndarray:
    """0-1 risk of each class (M,) on validation data; NaN for a class without mass there.

    One formula for both kinds of targets: `sum_x p_y 1[argmax f(x) != y] / sum_x p_y`.
    """
    p = as_probabilities(targets, logits.shape[1])
    missed = p.sum(0) - (p * F.one_hot(logits.argmax(1), logits.shape[1])).sum(0)
    return (missed / p.sum(0)).cpu().numpy()


def pooled_class_risks(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Class risks (M,) at a server from the clients' validation counts (K, M); NaN where nobody has any."""
    right, count = np.sum(correct, axis=0), np.sum(total, axis=0)
    return np.where(count > 0, 1 - right / np.maximum(count, 1), np.nan)


def class_weights(objective: str, prior: np.ndarray, multipliers: np.ndarray, alpha: float) -> np.ndarray:
    """The weights w (M,) of the class risks under one of the `OBJECTIVES`."""
    uniform = np.full(len(prior), 1 / len(prior))
    return {
        "standard": np.asarray(prior, np.float64),
        "balanced": uniform,
        "robust": multipliers,
        "tradeoff": (1 - alpha) * uniform + alpha * multipliers,
    }[objective]


def class_gains(weights: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """`c = w / pi` (M,): how much more a class counts than its share of the data. All ones if w = pi."""
    return np.maximum(weights, LEAST) / np.maximum(prior, LEAST)


def shift(logits: Tensor, gains: np.ndarray | Tensor) -> Tensor:
    """`logits - log c` (..., M), for training. Raising c_y makes the trained network predict y more often."""
    return logits - torch.as_tensor(gains, dtype=logits.dtype, device=logits.device).log()


def undo_gains(probabilities: Tensor, gains: np.ndarray | Tensor) -> Tensor:
    """Scores (n, M) of a robust teacher as those of a standard one: divided by its gains, rows renormalised.

    A robust teacher's scores are `c_y eta_y(x)` normalised for each input; a student needs `eta`.
    """
    plain = probabilities / torch.as_tensor(gains, dtype=probabilities.dtype, device=probabilities.device)
    return plain / plain.sum(1, keepdim=True)


class ClassMultipliers:
    """The adversary over classes: exponentiated gradient on validation risks.

    A class without validation data (NaN) keeps its multiplier.

    objective: standard, balanced, robust or tradeoff; the multipliers act in the last two
    alpha: of tradeoff, from 0 balanced to 1 robust
    gamma: step of an update, or a schedule of them, for risks in [0, 1] and one update an epoch (the
        published value is unknown)
    warmup: updates without a step
    floor: smallest multiplier
    """

    def __init__(
        self,
        objective: str = "robust",
        alpha: float = 0.5,
        gamma: Value = 0.1,
        warmup: int = 5,
        floor: float = 1e-6,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ConfigError(f"risk={objective}: one of {', '.join(OBJECTIVES)} is needed")
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha={alpha}: a number in [0, 1] is needed")
        if warmup < 0:
            raise ConfigError(f"warmup={warmup}: a whole number from 0 is needed")
        check_step(gamma)
        self.objective, self.alpha = objective, alpha
        self.adversary = Exponentiated(Delayed(gamma, warmup + 1), floor=floor)

    def init(self, num_classes: int) -> State:
        """All classes equal."""
        return self.adversary.init(np.ones(num_classes))

    def update(self, risks: np.ndarray, state: State) -> State:
        """The state after validation risks `(M,)`, NaN where unknown."""
        return self.adversary.update(risks, state, _uniform(state))[1]

    def multipliers(self, state: State) -> np.ndarray:
        """The multipliers (M,), summing to one."""
        return self.adversary.shares(state, _uniform(state))

    def gains(self, state: State, prior: np.ndarray) -> np.ndarray:
        """The gains (M,) to train with, given the class priors of the training targets."""
        return class_gains(class_weights(self.objective, prior, self.multipliers(state), self.alpha), prior)


def _uniform(state: State) -> np.ndarray:
    return np.full(len(state["tilt"]), 1 / len(state["tilt"]))
