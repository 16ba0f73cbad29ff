"""Membership scores and attacks by hand, and what they say of models whose training is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.privacy.membership import (
    attack,
    calibrated_score,
    chance_tpr,
    confidence_score,
    loss_score,
    phi,
    pooled,
    roc,
    tpr_at,
)


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_auc_counts_pairs_and_ties_half() -> None:
    # pairs (member, other): (3,2) win, (3,1) win, (1,2) loss, (1,1) tie
    assert attack(t(3, 1), t(2, 1)).auc == pytest.approx(2.5 / 4)
    assert attack(t(2, 3), t(0, 1)).auc == 1.0
    assert attack(t(1, 1, 1), t(1, 1)).auc == 0.5


def test_the_chance_deviation_is_that_of_random_ranks() -> None:
    m, n = 2, 2  # the six orders of two members among four: AUC 0, 1/4, 1/2, 1/2, 3/4, 1
    found = attack(t(1, 2), t(3, 4)).chance_sd
    assert found == pytest.approx(np.std([0, 0.25, 0.5, 0.5, 0.75, 1]))
    assert found == pytest.approx(np.sqrt((m + n + 1) / (12 * m * n)))


def test_tpr_spends_no_more_than_the_allowed_false_positives() -> None:
    others = np.arange(10.0)
    members = np.array([8.5, 9.5, 9.0, 3.0])
    assert tpr_at(members, others, 0.1) == 0.75  # one of ten may be above the threshold 8
    assert tpr_at(members, others, 0.05) == 0.25  # none: only 9.5 is above 9
    assert tpr_at(members, others, 1.0) == 1.0
    assert tpr_at(np.array([9.0]), np.full(10, 9.0), 0.1) == 0.0  # a tie is not above


def test_tpr_is_unknown_where_non_members_are_too_few() -> None:
    found = attack(torch.arange(30.0), torch.arange(20.0))
    assert found.tpr[0.01] is None and found.tpr[0.1] is not None


def test_chance_tpr_is_the_mean_over_random_scores() -> None:
    rng = np.random.default_rng(0)
    found = np.mean([tpr_at(rng.random(1), rng.random(20), 0.1) for _ in range(20_000)])
    assert chance_tpr(20, 0.1) == pytest.approx(3 / 21)
    assert found == pytest.approx(3 / 21, abs=0.01)


def test_roc_steps_over_ties_at_once() -> None:
    false, true = roc(t(3, 2), t(2, 1))
    assert false.tolist() == [0, 0, 0.5, 1] and true.tolist() == [0, 0.5, 1, 1]
    assert np.trapezoid(true, false) == pytest.approx(attack(t(3, 2), t(2, 1)).auc)


def test_scores_by_hand_and_finite_for_sure_models() -> None:
    logits, y = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    p = logits.double().softmax(1)
    assert torch.allclose(loss_score(logits, y), p[:, 0].log())
    assert torch.allclose(confidence_score(logits, y), p.amax(1).log())
    assert torch.allclose(phi(logits, y), t(2, -1))  # two classes: the difference of the logits
    sure = torch.tensor([[1000.0, 0.0]])
    assert phi(sure, torch.tensor([0])).item() == 1000 and loss_score(sure, torch.tensor([1])).item() == -1000


def test_references_that_do_not_know_the_class_are_not_asked() -> None:
    references = t(1, 5, 9).expand(2, 3) * t(1, 3)[:, None]  # rows 1 5 9 and 3 15 27
    asked = torch.tensor([[True, True, False], [False, True, False]])
    assert calibrated_score(t(10, 10, 10), references, asked).tolist() == [9, 0, -8]


def test_pooling_is_one_threshold_for_all() -> None:
    inside, outside = pooled([(t(1), t(0)), (t(11), t(10))])
    assert attack(inside, outside).auc == 0.75  # each client alone would be told apart


def blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Samples whose labels are half noise: a model can only learn them by heart."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, 30, generator=rng), torch.randint(3, (n,), generator=rng)


def test_an_untrained_model_is_at_chance_and_one_that_knows_by_heart_is_far_above() -> None:
    x, y = blobs(200, 0)
    other_x, other_y = blobs(200, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 3))

    def judged() -> float:
        with torch.no_grad():
            return attack(loss_score(model(x), y), loss_score(model(other_x), other_y)).auc

    noise = attack(torch.zeros(200), torch.zeros(200)).chance_sd
    assert abs(judged() - 0.5) < 3 * noise
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert judged() > 0.5 + 10 * noise
