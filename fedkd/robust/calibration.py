"""Per-class calibration of a teacher, which decides whether a student can learn the worst class from it.

A student's class risks are those under the teacher's scores, and are off by no more than the scores are,
class by class (Wang et al., UAI 2023, arXiv 2206.06479, find the same in experiments). Scores speak of the
training mix, so validation samples of another mix are weighted back to it (`mix_weights`).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ConfigError


def class_calibration(
    probabilities: Tensor, labels: Tensor, weights: Tensor | None = None, bins: int = 15
) -> np.ndarray:
    """Calibration error of each class (M,): mean over equal-mass bins of |mean p_y - frequency of y|.

    weights: (n,) how much each sample counts; all the same by default
    """
    p = probabilities.detach().double().cpu().numpy()
    gap = p - np.eye(p.shape[1])[labels.cpu().numpy()]
    mass = np.ones(len(p)) if weights is None else weights.double().cpu().numpy()
    errors = []
    for column, away in zip(p.T, gap.T, strict=True):
        order = np.argsort(column, kind="stable")
        held = mass[order]
        place = (bins * (np.cumsum(held) - held / 2) / held.sum()).astype(int)  # of each sample's middle
        total = np.bincount(place, held)
        errors.append(np.mean(np.abs(np.bincount(place, held * away[order])[total > 0]) / total[total > 0]))
    return np.array(errors)


def mix_weights(labels: Tensor, others: Tensor, num_classes: int) -> Tensor:
    """A weight for each of `others` (n,), float64, that gives them the class mix of `labels`."""
    wanted, held = (torch.bincount(y, minlength=num_classes).double() for y in (labels, others))
    return (wanted / wanted.sum() / (held / held.sum()).clamp(min=1e-12))[others]


def vector_scaling(
    logits: Tensor, labels: Tensor, weights: Tensor, ridge: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """Scale and shift (M,) of the logits that minimise the weighted cross entropy: `scale z + shift`.

    Vector scaling of Guo et al., ICML 2017 (arXiv 1706.04599), with positive scales.

    ridge: on log scale and shift, so that those of a class without samples stay finite
    """
    z, w = logits.detach().double(), (weights / weights.sum()).double()
    log_scale, shift = (torch.zeros(z.shape[1], dtype=z.dtype, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.LBFGS([log_scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        risk = w @ F.cross_entropy(z * log_scale.exp() + shift, labels, reduction="none")
        total = risk + ridge * (log_scale.square().sum() + shift.square().sum())
        total.backward()
        return total

    optimizer.step(loss)
    return log_scale.detach().exp(), shift.detach()


def rescale(layer: nn.Linear, scale: Tensor, shift: Tensor) -> None:
    """Put `scale z + shift` (M,) into the layer that makes the logits z."""
    if layer.bias is None:
        raise ConfigError("calibration needs a bias in the last layer of the model, which has none")
    with torch.no_grad():
        layer.weight.mul_(scale.to(layer.weight)[:, None])
        layer.bias.mul_(scale.to(layer.bias)).add_(shift.to(layer.bias))
