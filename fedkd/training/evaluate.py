"""Evaluation of one model on one split, as a row of `clients.parquet`.

Sums are kept beside means (correct by class, calibration bins), so that figures can be pooled over clients
exactly instead of being averages of averages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.data.samples import Samples

BINS = 15
"""Equal-width confidence bins of the calibration error."""


@dataclass(frozen=True)
class Row:
    """What one model did on one split of one client; `round` and `client` are added by whoever collects.

    model: personal (the client's own) or global (the received arrays)
    stage: before or after this round's local training
    class_correct, class_total: (M,) counts by true class
    bin_count, bin_confidence, bin_correct: (BINS,) sums over samples by confidence
    """

    split: str
    model: str
    stage: str
    num_examples: int
    loss: float
    accuracy: float
    class_correct: list[int]
    class_total: list[int]
    bin_count: list[int]
    bin_confidence: list[float]
    bin_correct: list[int]


def evaluate(
    predict: Callable[[Tensor], Tensor], samples: Samples, num_classes: int, **which: Any
) -> Row | None:
    """The row of `predict(x) -> (n, M)` on `samples`; None where there are no samples.

    which: the row's split, model and stage.
    """
    count = len(samples)
    if count == 0:
        return None
    logits = predict(samples.x)
    confidence, guess = F.softmax(logits, dim=1).max(dim=1)
    answered = confidence.isfinite()  # a network that has diverged gives no answer, which is a wrong one
    confidence = confidence.where(answered, 0.0)
    right = (guess == samples.y) & answered
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    return Row(
        num_examples=count,
        loss=float(F.cross_entropy(logits, samples.y)),
        accuracy=int(right.sum()) / count,
        class_correct=torch.bincount(samples.y[right], minlength=num_classes).tolist(),
        class_total=torch.bincount(samples.y, minlength=num_classes).tolist(),
        bin_count=torch.bincount(bins, minlength=BINS).tolist(),
        bin_confidence=torch.bincount(bins, confidence.double(), minlength=BINS).tolist(),
        bin_correct=torch.bincount(bins[right], minlength=BINS).tolist(),
        **which,
    )
