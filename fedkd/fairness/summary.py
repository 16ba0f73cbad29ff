"""One round's figures over clients, under the names that `rounds.csv` and the reports use."""

import numpy as np
from numpy.typing import ArrayLike

from fedkd.fairness import metrics
from fedkd.fairness.calibration import calibration_error
from fedkd.fairness.mix import mix_accuracy, null_floor, worst_class


def summarise(
    accuracy: ArrayLike,
    sizes: ArrayLike,
    class_correct: ArrayLike,
    class_total: ArrayLike,
    *,
    bin_count: ArrayLike | None = None,
    bin_confidence: ArrayLike | None = None,
    bin_correct: ArrayLike | None = None,
    class_accuracy: ArrayLike | None = None,
    mix: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Figures over all evaluated clients; those without a test sample are left out.

    accuracy, sizes: `(K,)` on each client's test split, and its number of samples
    class_correct, class_total: `(K, M)` counts by class
    bin_count, bin_confidence, bin_correct: `(K, bins)` sums by confidence, for the calibration error
    class_accuracy, mix: `(K, M)` or `(M,)` accuracy by class on the whole test set, and `(K, M)` label
        shares, for the accuracy under the label mix
    seed: of the simulated null floor
    """
    counts = np.asarray(sizes, dtype=np.int64)
    tested = counts > 0
    if not tested.any():
        return {}
    a, counts = np.asarray(accuracy, dtype=np.float64)[tested], counts[tested]
    pooled = metrics.weighted_mean(a, counts)
    figures = {
        "mean": metrics.mean(a),
        "weighted_mean": pooled,
        "worst10": metrics.worst(a),
        "best10": metrics.best(a),
        "min": float(a.min()),
        "max": float(a.max()),
        "std": metrics.std(a),
        "jain": metrics.jain(a),
        "gini": metrics.gini(a),
        "worst_class": worst_class(class_correct, class_total),
        "null_worst10": null_floor(min(pooled, 1.0), counts, seed=seed),
    }
    if class_accuracy is not None and mix is not None:
        figures |= _under_the_mix(class_accuracy, mix)
    if bin_count is not None and bin_confidence is not None and bin_correct is not None:
        figures["ece"] = calibration_error(bin_count, bin_confidence, bin_correct)
    return figures


def _under_the_mix(class_accuracy: ArrayLike, mix: ArrayLike) -> dict[str, float]:
    mixed = mix_accuracy(class_accuracy, mix)
    mixed = mixed[~np.isnan(mixed)]
    return {"mix_mean": metrics.mean(mixed), "mix_worst10": metrics.worst(mixed)} if mixed.size else {}


def describe(accuracy: ArrayLike) -> dict[str, float | bool]:
    """Every measure of evenness that has a name, for one round in depth."""
    return {
        "variance": metrics.variance(accuracy),
        "spread": metrics.spread(accuracy),
        "gap": metrics.gap(accuracy),
        "angle": metrics.angle(accuracy),
        "entropy": metrics.entropy(accuracy),
        "kl_to_uniform": metrics.kl_to_uniform(accuracy),
        "cvar10": metrics.cvar(accuracy, 0.1),
        "cvar25": metrics.cvar(accuracy, 0.25),
        "all_zero": metrics.all_zero(accuracy),
    }
