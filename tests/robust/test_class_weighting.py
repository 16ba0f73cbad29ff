"""Class multipliers of a federation: priors, gains and steps by hand; margins as a view of a network."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedkd.models.shifted import Offset, Shifted
from fedkd.models.staged import StagedModel
from fedkd.personalization.heads import frozen_head, head_network, head_with, judge
from fedkd.robust.class_weighting import ClassWeighting
from fedkd.robust.worst_class import shift

COUNTS = np.array([[6.0, 2.0], [1.0, 3.0]])
CORRECT, TOTAL = np.array([[3, 0], [1, 0]]), np.array([[3, 1], [1, 3]])


def after(weighting: ClassWeighting, weight: list[float]) -> dict[str, object]:
    state = weighting.init(3, 2)
    return weighting.observe(np.array([0, 2]), COUNTS, np.array(weight), CORRECT, TOTAL, state)


def test_nothing_is_known_before_the_first_round() -> None:
    weighting = ClassWeighting()
    np.testing.assert_array_equal(weighting.gains(weighting.init(3, 2)), [1, 1])


def test_balanced_gains_are_by_the_pooled_prior() -> None:
    """Weights as the sizes 8 and 4: the prior is that of the union, (7, 5) / 12."""
    weighting = ClassWeighting(alpha=0.0)
    state = after(weighting, [8.0, 4.0])
    np.testing.assert_allclose(weighting.prior(state), [7 / 12, 5 / 12])
    np.testing.assert_allclose(weighting.gains(state), [0.5 * 12 / 7, 0.5 * 12 / 5])


def test_the_prior_counts_clients_as_the_server_does() -> None:
    """All weight on the second client, whose labels are (1/4, 3/4)."""
    weighting = ClassWeighting(alpha=0.0)
    np.testing.assert_allclose(weighting.gains(after(weighting, [0.0, 5.0])), [2, 2 / 3])


def test_the_class_at_risk_gains_by_an_exponential_step() -> None:
    """Risks (0, 1) at gamma 0.1: multipliers as (1, e^0.1)."""
    weighting = ClassWeighting(alpha=1.0, gamma=0.1)
    state = after(weighting, [8.0, 4.0])
    wanted = np.array([1, math.exp(0.1)]) / (1 + math.exp(0.1))
    np.testing.assert_allclose(weighting.multipliers(state), wanted)
    np.testing.assert_allclose(weighting.gains(state), wanted / [7 / 12, 5 / 12])


def test_a_class_that_nobody_holds_has_gain_one() -> None:
    weighting = ClassWeighting(alpha=0.0)
    nobody = np.zeros((1, 2), np.int64)
    state = weighting.observe(
        np.array([1]), np.array([[4.0, 0.0]]), np.array([4.0]), nobody, nobody, weighting.init(3, 2)
    )
    np.testing.assert_allclose(weighting.gains(state), [0.5, 1])


def network() -> StagedModel:
    torch.manual_seed(0)
    return StagedModel([nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)], (3,))


def test_a_shifted_view_has_margins_at_every_cut_and_the_same_weights() -> None:
    base, gains = network(), torch.tensor([2.0, 0.5])
    view, x = Shifted(base, -gains.log()), torch.randn(5, 3)
    wanted = shift(base(x), gains)
    assert torch.equal(view(x), wanted)
    for cut in (0, 1, 2):
        z = base.features(x, cut)
        assert torch.equal(view.features(x, cut), z)
        assert torch.equal(view.head(z, cut), wanted)
    z = base.features(x, 1)
    params = frozen_head(view, 1)
    for logits in (head_with(view, params, z, 1), judge(view, params, z, 1), head_network(view, 1)(z)):
        assert torch.equal(logits, wanted)
    assert torch.equal(view.all_features(x)[-1], wanted)
    assert torch.equal(Offset(-gains.log())(base(x)), wanted)
    assert view.state_dict().keys() == base.state_dict().keys()
    assert all(own is other for own, other in zip(view.parameters(), base.parameters(), strict=True))


def test_equal_gains_leave_the_loss_and_its_gradient() -> None:
    base, x, y = network(), torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    plain = torch.autograd.grad(F.cross_entropy(base(x), y), list(base.parameters()))
    view = Shifted(base, torch.full((2,), -math.log(3.0)))
    moved = torch.autograd.grad(F.cross_entropy(view(x), y), list(view.parameters()))
    for own, other in zip(plain, moved, strict=True):
        torch.testing.assert_close(own, other)
