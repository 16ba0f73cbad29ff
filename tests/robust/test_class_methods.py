"""Class methods as transforms of signals, of the batch's loss, and of the finished network."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.objectives.base import Shapes, make_parts
from fedkd.objectives.dett import DeTT
from fedkd.objectives.logits import CE
from fedkd.objectives.signals import EMBEDDING, Signals
from fedkd.robust.class_methods import (
    AdaAlpha,
    AdaMargin,
    ClassMethod,
    GroupDROTraining,
    LogitAdjustment,
    Margin,
    PostShift,
    PriorShift,
)
from fedkd.robust.prior_shift import prior_shift, worst_in_ball
from fedkd.robust.worst_class import class_risks

PRIOR = np.array([0.6, 0.3, 0.1])
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [1.0, 0.0, 0.9]])
LABELS = torch.tensor([0, 1, 2])


def signals(**more: Any) -> Signals:
    return Signals(student_logits=LOGITS, teacher_logits=LOGITS.flip(0), labels=LABELS, **more)


def test_margin_at_standard_risk_changes_nothing() -> None:
    method, s = Margin("standard", 0.5, warmup=0), signals()
    state = method.update(np.array([0.0, 0.0, 1.0]), method.begin(PRIOR))
    assert method.adjust(s, state) is s and not method.shifts(CE().needs)


def test_margin_shifts_by_the_gains_of_its_risk() -> None:
    balanced = Margin("balanced", 0.5)
    seen = balanced.adjust(signals(), balanced.begin(PRIOR)).student_logits
    torch.testing.assert_close(seen, LOGITS - torch.tensor([1 / 1.8, 1 / 0.9, 1 / 0.3]).log())
    robust = Margin("robust", 0.5, gamma=np.log(2), warmup=0)
    state = robust.update(np.array([0.0, 0.0, 1.0]), robust.begin(PRIOR))
    np.testing.assert_allclose(state["multipliers"], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(state["gains"], [0.25 / 0.6, 0.25 / 0.3, 0.5 / 0.1])
    costs = robust.adjust(signals(class_costs=torch.ones(3)), state)
    torch.testing.assert_close(costs.class_costs.double(), torch.as_tensor(state["gains"]), rtol=1e-6, atol=0)
    assert costs.student_logits is LOGITS


def test_logit_adjustment_is_balanced_up_to_a_constant() -> None:
    method, balanced = LogitAdjustment("standard", 0.5), Margin("balanced", 0.5)
    ours = method.adjust(signals(), method.begin(PRIOR)).student_logits
    theirs = balanced.adjust(signals(), balanced.begin(PRIOR)).student_logits
    torch.testing.assert_close(F.softmax(ours, 1), F.softmax(theirs, 1))


def test_group_dro_weights_the_losses_of_the_classes() -> None:
    method = GroupDROTraining("standard", 0.5, gamma=np.log(2))
    values = torch.tensor([0.0, 0.0, 1.0])
    total, state = method.total(values, LABELS, method.begin(PRIOR))
    np.testing.assert_allclose(state["multipliers"], [0.25, 0.25, 0.5])
    assert float(total) == pytest.approx(0.5)


def test_ada_alpha_mixes_labels_into_the_teacher() -> None:
    method = AdaAlpha("standard", 0.5)
    state = method.begin(PRIOR, torch.tensor([1.0, -0.5, 0.5]))
    told = F.softmax(method.adjust(signals(), state).teacher_logits, 1)
    teacher, truth = F.softmax(LOGITS.flip(0), 1), torch.eye(3)
    want = torch.stack([teacher[0], truth[1], 0.5 * truth[2] + 0.5 * teacher[2]])
    torch.testing.assert_close(told, want)


def test_ada_margin_gains_from_the_teachers_margins() -> None:
    method = AdaMargin("standard", 0.5, least=0.1)
    state = method.begin(PRIOR, torch.tensor([0.5, 0.25, -1.0]))
    np.testing.assert_allclose(state["gains"], [2, 4, 10])
    seen = method.adjust(signals(), state).student_logits
    torch.testing.assert_close(seen, LOGITS - torch.tensor([2.0, 4.0, 10.0]).log())


@pytest.mark.parametrize("least", [0.0, -0.1, float("nan")])
def test_ada_margin_needs_a_positive_least_margin(least: float) -> None:
    with pytest.raises(ConfigError, match=r"least=.* of ada_margin: a positive number is needed"):
        AdaMargin("standard", 0.5, least=least)


@pytest.mark.parametrize(
    "method", [PostShift("robust", 0.5), PriorShift("standard", 0.5)], ids=["post", "prior"]
)
def test_a_fitted_shift_does_not_raise_the_worst_risk(method: ClassMethod) -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    logits = 1.5 * F.one_hot(labels, 3) + torch.randn(100, 3, generator=draw) + torch.tensor(PRIOR).log()
    shift = method.finish(logits, labels, method.begin(PRIOR))
    assert shift is not None and float(shift.abs().max()) > 0
    assert class_risks(logits + shift, labels).max() < class_risks(logits, labels).max()


def test_the_worst_prior_in_a_ball() -> None:
    """Radius 0: the mean; a radius of log M and more: the maximum; two classes in between by hand."""
    risks = np.array([0.1, 0.5, np.nan])
    assert worst_in_ball(risks, 0.0) == pytest.approx(0.3, abs=1e-6)
    assert worst_in_ball(risks, 2.0) == pytest.approx(0.5)
    g = 0.8  # KL((0.2, 0.8) || uniform) is the radius
    delta = g * np.log(g) + (1 - g) * np.log(1 - g) + np.log(2)
    assert worst_in_ball(risks, delta) == pytest.approx(0.1 * 0.2 + 0.5 * 0.8, abs=1e-9)


def test_prior_shift_keeps_what_cannot_be_improved_and_refuses_a_negative_radius() -> None:
    labels = torch.tensor([0, 1, 2])
    assert float(prior_shift(10 * torch.eye(3), labels, PRIOR).abs().max()) == 0
    with pytest.raises(ConfigError, match="delta=-1"):
        prior_shift(torch.eye(3), labels, PRIOR, delta=-1)


def test_dett_matches_features_and_predicts_with_the_teachers_head() -> None:
    objective = DeTT()
    shapes = Shapes(3, student={EMBEDDING: (2,)}, teacher={EMBEDDING: (2,)})
    assert len(make_parts(objective, shapes, 0)) == 0
    head = (torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), torch.tensor([0.0, 0.0, 0.5]))
    s = Signals(
        student_features={EMBEDDING: torch.tensor([[1.0, 0.0], [0.0, 2.0]])},
        teacher_features={EMBEDDING: torch.tensor([[0.0, 0.0], [0.0, 1.0]])},
        teacher_head=head,
        labels=torch.tensor([0, 2]),
        class_costs=torch.tensor([0.5, 1.0, 3.0]),
    )
    torch.testing.assert_close(objective(s), torch.tensor([0.5, 3.0]))
    want = F.log_softmax(torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 0.5]]), 1)
    torch.testing.assert_close(objective.predict(s), want)


def test_a_risk_that_a_method_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="risk=robust with method=group_dro: standard is needed"):
        GroupDROTraining("robust", 0.5)
    with pytest.raises(
        ConfigError, match="risk=standard with method=post_shift: balanced or robust or tradeoff"
    ):
        PostShift("standard", 0.5)
    with pytest.raises(
        ConfigError, match="risk=worst: one of standard, balanced, robust, tradeoff is needed"
    ):
        Margin("worst", 0.5)
