"""The comparisons of worst-class training, against hand-made values."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedkd.robust.class_baselines import (
    GroupDRO,
    ada_alpha,
    ada_margin_gains,
    logit_adjusted,
    post_shift,
    teacher_margins,
)
from fedkd.robust.worst_class import class_risks, shift
from fedkd.seeds import torch_rng

PROBABILITIES = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
LABELS = torch.tensor([0, 0, 1, 2])


def skewed(rows: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Logits of the ideal standard network on a long-tailed three-class problem."""
    draw = torch_rng(0, "skewed")
    prior = torch.tensor([0.8, 0.15, 0.05])
    y = torch.multinomial(prior, rows, replacement=True, generator=draw)
    x = torch.randn(rows, 3, generator=draw) + 1.5 * F.one_hot(y, 3)
    return 1.5 * x + prior.log(), y, prior.numpy()


@pytest.mark.parametrize("objective", ["robust", "balanced", "tradeoff"])
def test_post_shift_lowers_the_objective_it_is_fitted_to(objective: str) -> None:
    logits, y, prior = skewed(6000)
    before, after = class_risks(logits, y), class_risks(logits + post_shift(logits, y, prior, objective), y)
    share = {"robust": 1.0, "balanced": 0.0, "tradeoff": 0.5}[objective]
    risk = [(1 - share) * r.mean() + share * r.max() for r in (before, after)]
    assert risk[1] < risk[0] - 0.1
    if objective == "robust":
        assert after.max() - after.min() < 0.03 < before.max() - before.min()


def test_post_shift_never_raises_the_worst_error_where_it_is_fitted() -> None:
    for seed in range(20):
        draw = torch_rng(seed, "small")
        logits, y = torch.randn(12, 4, generator=draw), torch.randint(4, (12,), generator=draw)
        moved = logits + post_shift(logits, y, np.full(4, 0.25), updates=30)
        assert np.nanmax(class_risks(moved, y)) <= np.nanmax(class_risks(logits, y))


def test_post_shift_leaves_a_standard_network_alone() -> None:
    logits, y, prior = skewed(500)
    torch.testing.assert_close(post_shift(logits, y, prior, "standard"), torch.zeros(3))


def test_logit_adjustment_is_the_balanced_objective() -> None:
    logits, y, prior = skewed(50)
    balanced = F.cross_entropy(shift(logits, 1 / (3 * prior)), y)
    torch.testing.assert_close(F.cross_entropy(logit_adjusted(logits, prior), y), balanced)
    torch.testing.assert_close(logit_adjusted(logits, prior, tau=0.0), logits)


def test_group_dro_by_hand() -> None:
    dro = GroupDRO(gamma=np.log(2))
    losses = torch.tensor([0.5, 1.5, 2.0], requires_grad=True)
    loss, state = dro.step(losses, torch.tensor([0, 0, 2]), dro.init(3))
    # Group means 1, 0 (none), 2: q is (2, 1, 4)/7.
    torch.testing.assert_close(loss, torch.tensor((2 * 1 + 4 * 2) / 7))
    loss.backward()
    torch.testing.assert_close(losses.grad, torch.tensor([1 / 7, 1 / 7, 4 / 7]))
    loss, _ = dro.step(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0, 1, 2]), state)
    assert float(loss) == pytest.approx(1)
    with_nothing, _ = dro.step(torch.zeros(2), torch.tensor([1, 1]), state)
    assert float(with_nothing) == 0


def test_teacher_margins_by_hand() -> None:
    margins = teacher_margins(PROBABILITIES, LABELS)
    torch.testing.assert_close(margins, torch.tensor([(0.5 - 0.3) / 2, -0.1, 0.5]))
    torch.testing.assert_close(teacher_margins(PROBABILITIES[:1], LABELS[:1])[1:], torch.zeros(2))


def test_ada_alpha_copies_the_teacher_only_where_it_is_right() -> None:
    targets = ada_alpha(PROBABILITIES, LABELS, teacher_margins(PROBABILITIES, LABELS))
    want = [[0.97, 0.02, 0.01], [0.93, 0.06, 0.01], [0, 1, 0], [0.05, 0.1, 0.85]]
    torch.testing.assert_close(targets, torch.tensor(want))


def test_ada_margin_gains_most_where_the_teacher_is_unsure() -> None:
    np.testing.assert_allclose(ada_margin_gains(torch.tensor([0.5, -0.1, 0.04, 1.0])), [2, 20, 20, 1])
