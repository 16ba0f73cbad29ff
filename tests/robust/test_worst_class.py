"""Worst-class training against hand-made values, and the acceptance checks of its specification."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.robust.worst_class import (
    OBJECTIVES,
    ClassMultipliers,
    class_gains,
    class_priors,
    class_risks,
    class_weights,
    pooled_class_risks,
    shift,
    undo_gains,
)
from fedkd.schedule import Exponential
from fedkd.seeds import torch_rng

PRIOR = np.array([0.5, 0.3, 0.2])
LAMBDA = np.array([0.1, 0.2, 0.7])


def teacher(rows: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and probabilities in float64."""
    draw = torch_rng(seed, "test")
    logits = 3 * torch.randn(rows, classes, generator=draw, dtype=torch.float64)
    return logits, torch.randn(rows, classes, generator=draw, dtype=torch.float64).softmax(1)


def test_shifted_cross_entropy_is_the_margin_loss() -> None:
    logits, p = teacher(16, 3)
    c = torch.tensor([0.2, 1.0, 3.5], dtype=torch.float64)
    rivals = (c[:, None] / c).log() - (logits[:, :, None] - logits[:, None, :])
    others = rivals.masked_fill(torch.eye(3, dtype=torch.bool), -torch.inf).exp().sum(2)
    margin = (p * torch.log1p(others)).sum(1)
    torch.testing.assert_close(F.cross_entropy(shift(logits, c), p, reduction="none"), margin)
    flat = F.cross_entropy(shift(logits, np.full(3, 7.0)), p)
    torch.testing.assert_close(flat, F.cross_entropy(logits, p), rtol=0, atol=1e-6)


def test_margin_gradient_vanishes_where_scores_are_gained_probabilities() -> None:
    _, p = teacher(5, 3)
    c = torch.tensor([0.2, 1.0, 3.5], dtype=torch.float64)
    logits = (p * c).log().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(shift(logits, c), p), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
    # A robust teacher's scores, and what is left of its gains.
    torch.testing.assert_close(undo_gains(logits.detach().softmax(1), c), p)


def descend(weight: Tensor, x: Tensor, targets: Tensor, gains: np.ndarray, steps: int = 50) -> Tensor:
    """Full-batch gradient steps of a linear network (features, classes) on the margin loss."""
    for _ in range(steps):
        weight = weight.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(shift(x @ weight, gains), targets), weight)
        weight = weight - 0.5 * gradient
    return weight.detach()


def blobs(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Overlapping classes of falling size, with a constant feature; float64."""
    draw = torch_rng(seed, "blobs")
    share = 0.5 ** torch.arange(classes, dtype=torch.float64)
    y = torch.multinomial(share, rows, replacement=True, generator=draw)
    x = torch.randn(rows, classes, generator=draw, dtype=torch.float64) + 1.5 * F.one_hot(y, classes)
    return torch.cat([x, torch.ones(rows, 1)], 1), y


def test_raising_a_gain_raises_the_predictions_of_its_class() -> None:
    x, y = blobs(600, 3, 0)
    start = torch.zeros(4, 3, dtype=torch.float64)
    predicted = [
        int((x @ descend(start, x, y, np.array([1.0, c, 1.0]))).argmax(1).eq(1).sum()) for c in (0.25, 1, 4)
    ]
    assert predicted[0] < predicted[1] - 30 and predicted[1] < predicted[2] - 30


def test_objectives_give_their_gains() -> None:
    def gains(objective: str, alpha: float = 0.5) -> np.ndarray:
        return class_gains(class_weights(objective, PRIOR, LAMBDA, alpha), PRIOR)

    np.testing.assert_array_equal(gains("standard"), np.ones(3))
    np.testing.assert_allclose(gains("balanced"), [2 / 3, 10 / 9, 5 / 3])
    np.testing.assert_allclose(gains("robust"), [0.2, 2 / 3, 3.5])
    np.testing.assert_allclose(gains("tradeoff", 0.25), 0.75 * gains("balanced") + 0.25 * gains("robust"))
    np.testing.assert_array_equal(gains("tradeoff", 0.0), gains("balanced"))
    np.testing.assert_array_equal(gains("tradeoff", 1.0), gains("robust"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gains_are_finite_for_a_class_without_samples(objective: str) -> None:
    prior = np.array([0.6, 0.4, 0.0])
    adversary = ClassMultipliers(objective)
    logits = shift(torch.zeros(2, 3), adversary.gains(adversary.init(3), prior))
    loss = F.cross_entropy(logits, torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]))
    assert torch.isfinite(logits).all() and torch.isfinite(loss)


def test_priors_and_risks_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.eye(3)[[0, 1, 1, 1]]
    np.testing.assert_array_equal(class_priors(labels, 3), [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(class_risks(logits, labels), [0.5, 0.0, np.nan])
    p = torch.tensor([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.3, 0.7, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(class_priors(p, 3), [0.5, 0.5, 0.0], atol=1e-7)
    np.testing.assert_allclose(class_risks(logits, p), [1.2 / 2, 0.2 / 2, np.nan], atol=1e-7)
    correct, total = np.array([[3, 0, 0], [1, 2, 0]]), np.array([[4, 1, 0], [4, 2, 0]])
    np.testing.assert_allclose(pooled_class_risks(correct, total), [0.5, 1 / 3, np.nan])


def test_multipliers_by_hand() -> None:
    adversary = ClassMultipliers(gamma=np.log(2), warmup=1)
    state = adversary.update(np.array([1.0, 0.0, 0.0]), adversary.init(3))
    np.testing.assert_array_equal(adversary.multipliers(state), np.full(3, 1 / 3))
    state = adversary.update(np.array([1.0, 0.0, 0.0]), state)
    np.testing.assert_allclose(adversary.multipliers(state), [0.5, 0.25, 0.25])
    state = adversary.update(np.array([0.0, 1.0, np.nan]), state)
    np.testing.assert_allclose(adversary.multipliers(state), [0.375, 0.375, 0.25])
    np.testing.assert_allclose(adversary.gains(state, PRIOR), [0.75, 1.25, 1.25])


def train(objective: str, x: Tensor, y: Tensor, start: Tensor, rounds: int, alpha: float = 0.5) -> Tensor:
    """The algorithm of section 5 on a linear network, first half training, second half validation."""
    (x_train, x_val), (y_train, y_val), classes = x.chunk(2), y.chunk(2), start.shape[1]
    adversary, prior = ClassMultipliers(objective, alpha, warmup=0), class_priors(y_train, classes)
    state, weight = adversary.init(classes), start
    for _ in range(rounds):
        state = adversary.update(class_risks(x_val @ weight, y_val), state)
        weight = descend(weight, x_train, y_train, adversary.gains(state, prior), steps=10)
    return weight


def test_robust_training_equalises_the_errors_of_two_classes() -> None:
    """Gaussians at -1 and +1 with priors 0.95 and 0.05: both errors approach Phi(-1) = 0.159."""
    draw = torch_rng(0, "toy")
    y = (torch.rand(40_000, generator=draw) < 0.05).long()
    feature = torch.randn(40_000, generator=draw, dtype=torch.float64) + 2 * y - 1
    x = torch.stack([feature, torch.ones_like(feature)], 1)
    start = torch.zeros(2, 2, dtype=torch.float64)
    standard = class_risks(x @ train("standard", x, y, start, 80), y)
    robust = class_risks(x @ train("robust", x, y, start, 80), y)
    assert standard[1] - standard[0] > 0.4
    assert abs(robust[1] - robust[0]) < 0.02
    np.testing.assert_allclose(robust, 0.159, atol=0.02)


def test_tradeoff_at_alpha_zero_is_balanced_training_bit_for_bit() -> None:
    x, y = blobs(400, 3, 1)
    start = torch.zeros(4, 3, dtype=torch.float64)
    balanced = train("balanced", x, y, start, 5)
    assert torch.equal(train("tradeoff", x, y, start, 5, alpha=0.0), balanced)
    assert not torch.equal(train("tradeoff", x, y, start, 5, alpha=0.5), balanced)


def test_the_step_may_be_a_schedule_after_the_warm_up() -> None:
    halving = Exponential(start=4 * np.log(2), factor=0.5)  # log 2 at the second update
    adversary = ClassMultipliers(gamma=halving, warmup=1)
    state = adversary.init(2)
    for wanted in (1.0, 2.0, 2.0 * 2**0.5):
        state = adversary.update(np.array([1.0, 0.0]), state)
        first, second = adversary.multipliers(state)
        assert first / second == pytest.approx(wanted)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_permuting_classes_permutes_the_result(objective: str) -> None:
    x, y = blobs(400, 4, 2)
    order = torch.tensor([2, 0, 3, 1])
    start = torch.randn(5, 4, generator=torch_rng(0, "start"), dtype=torch.float64)
    weight = train(objective, x, y, start, 5)
    moved = train(objective, x, order.argsort()[y], start[:, order], 5)
    torch.testing.assert_close(moved, weight[:, order], rtol=1e-9, atol=1e-9)


def test_gains_may_differ_between_vectorised_clients() -> None:
    logits, gains = (
        torch.randn(3, 5, 4, generator=torch_rng(0, "v")),
        torch.tensor(np.arange(1, 13).reshape(3, 4) / 6),
    )
    together = torch.func.vmap(shift)(logits, gains)
    torch.testing.assert_close(
        together, torch.stack([shift(z, c) for z, c in zip(logits, gains, strict=True)])
    )


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="risk=worst: one of standard, balanced, robust, tradeoff"):
        ClassMultipliers("worst")
    with pytest.raises(ConfigError, match="alpha=2"):
        ClassMultipliers("tradeoff", alpha=2)
    with pytest.raises(ConfigError, match="gamma=-1: a number from 0"):
        ClassMultipliers("robust", gamma=-1)
    with pytest.raises(ConfigError, match="warmup=-1"):
        ClassMultipliers("robust", warmup=-1)
