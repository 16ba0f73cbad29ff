"""Centralised distillation: a step by hand, and what must hold for objectives and class methods."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.models.mlp import mlp
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.bdkd import BDKDOnline
from fedkd.objectives.combined import Combined
from fedkd.objectives.lelp import LELP
from fedkd.objectives.logits import CE, KD
from fedkd.objectives.mst import MST
from fedkd.objectives.nd import ND
from fedkd.objectives.seats import terms
from fedkd.objectives.taid import TAID
from fedkd.objectives.tgeo import TGeo
from fedkd.robust.class_methods import (
    AdaAlpha,
    ClassMethod,
    GroupDROTraining,
    LogitAdjustment,
    Margin,
    PostShift,
)
from fedkd.training.distill import Distillation
from fedkd.training.learner import Learner, follow_validation
from fedkd.training.program import Batch, Params
from fedkd.training.settings import LocalSettings


def samples(count: int, seed: int) -> Samples:
    draw = torch.Generator().manual_seed(seed)
    y = (torch.rand(count, generator=draw) < 0.3).long() + (torch.rand(count, generator=draw) < 0.2).long()
    x = F.one_hot(y, 4).float() + 0.7 * torch.randn(count, 4, generator=draw)
    return Samples(x, y, torch.arange(count))


DATA = ClientData(0, "pooled", samples(48, 0), samples(40, 1), samples(40, 2), 3)


def network(seed: int, width: int = 6) -> StagedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp((4,), 3, hidden=(width,))


def stage(
    objective: Objective, method: ClassMethod | None = None, teachers: int = 1, **settings: Any
) -> Distillation:
    told = [network(100 + k, width=8) for k in range(teachers)]
    rest = {name: settings.pop(name) for name in ("validation",) if name in settings}
    local = LocalSettings(**{"batch_size": 16, "lr": 0.1, **settings})
    return Distillation(
        objective, method or Margin("standard", 0.5), network(1), told, DATA, local, 3, seed=5, **rest
    )


def play(distillation: Distillation) -> Params:
    for _ in distillation.rounds():
        pass
    return distillation.params


def same(a: Params, b: Params) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_one_full_batch_step_of_kd_by_hand() -> None:
    distillation = stage(KD(2.0), batch_size=48)
    student, teacher = network(1), network(100, width=8)
    q = F.softmax(teacher(DATA.train.x) / 2, 1)
    loss = 4 * (q * (q.log() - F.log_softmax(student(DATA.train.x) / 2, 1))).sum(1).mean()
    loss.backward()
    number, first = next(distillation.rounds())
    assert number == 1 and first == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None
        moved = (parameter - 0.1 * parameter.grad).detach()
        torch.testing.assert_close(distillation.params[f"network.{name}"], moved)


def test_kept_logits_train_as_those_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = stage(KD())
    assert kept.cached.keys() == {"teacher_logits", "ensemble_logits"}
    monkeypatch.setattr(Distillation, "_stays", lambda self: False)
    asked = stage(KD())
    assert not asked.cached
    trained = play(asked)
    for name, value in play(kept).items():
        torch.testing.assert_close(trained[name], value)


def test_the_same_twice_bit_for_bit() -> None:
    assert same(play(stage(TAID())), play(stage(TAID())))


def test_tradeoff_at_alpha_zero_is_balanced_bit_for_bit_and_standard_is_no_method_at_all() -> None:
    balanced = play(stage(KD(), Margin("balanced", 0.5)))
    assert same(play(stage(KD(), Margin("tradeoff", 0.0, warmup=0))), balanced)
    assert same(
        play(stage(KD(), Margin("tradeoff", 1.0, warmup=0))),
        play(stage(KD(), Margin("robust", 0.3, warmup=0))),
    )
    assert not same(play(stage(KD())), balanced)
    adjusted = play(stage(KD(), LogitAdjustment("standard", 0.5)))
    for name, value in adjusted.items():
        torch.testing.assert_close(value, balanced[name], rtol=1e-3, atol=1e-5)


def test_priors_are_the_teachers_where_it_is_followed_and_the_labels_elsewhere() -> None:
    teacher = F.softmax(network(100, width=8)(DATA.train.x), 1).mean(0)
    torch.testing.assert_close(torch.as_tensor(stage(KD()).state["prior"]).float(), teacher)
    counts = torch.bincount(DATA.train.y, minlength=3) / 48
    torch.testing.assert_close(torch.as_tensor(stage(CE(), teachers=0).state["prior"]).float(), counts)


def test_validation_labels_may_be_the_teachers() -> None:
    assert torch.equal(stage(KD()).targets, DATA.val.y)
    told = stage(KD(), validation="teacher").targets
    torch.testing.assert_close(told, F.softmax(network(100, width=8)(DATA.val.x), 1))


def test_a_fitted_shift_is_in_the_finished_network() -> None:
    plain, method = stage(CE(), teachers=0, epochs=20), PostShift("robust", 0.5)
    shifted = stage(CE(), method, teachers=0, epochs=20)
    play(plain)
    play(shifted)
    shift = method.finish(plain.predict(DATA.val.x), DATA.val.y, shifted.state)
    assert shift is not None and float(shift.abs().max()) > 0
    want = F.log_softmax(plain.predict(DATA.test.x) + shift, 1)
    torch.testing.assert_close(shifted.predict(DATA.test.x), want)


def test_memory_and_parts_are_carried_through_the_rounds() -> None:
    taid = stage(TAID(t_start=0.2))
    play(taid)
    assert float(taid.memory["t"]) == pytest.approx(1.0) and float(taid.memory["steps"]) == 9
    lelp = stage(LELP(subclasses=2))
    before = lelp.params["parts.head.weight"]
    play(lelp)
    assert not torch.equal(before, lelp.params["parts.head.weight"])
    assert torch.allclose(lelp.predict(DATA.test.x).exp().sum(1), torch.ones(40))


def test_a_teacher_is_trained_only_by_an_objective_that_wants_to() -> None:
    online = stage(Combined(["ce", BDKDOnline()]))
    name = next(name for name in online.params if name.startswith("taught."))
    before = online.params[name]
    assert not torch.equal(play(online)[name], before)
    assert not any(name.startswith("taught.") for name in stage(Combined(["ce", "kd"])).params)


def test_several_teachers_speak_as_an_ensemble() -> None:
    mean = torch.stack([network(100 + k, width=8)(DATA.train.x) for k in range(3)]).mean(0)
    torch.testing.assert_close(stage(KD(), teachers=3).cached["teacher_logits"], mean.detach())
    play(stage(MST(k=2), teachers=3))
    with pytest.raises(ConfigError, match="which fedkd distill with 2 teachers does not provide"):
        stage(ND(), teachers=2)


@pytest.mark.parametrize(("lr", "moved"), [(0.0, False), (0.5, True)])
def test_tgeo_follows_the_validation_loss(lr: float, moved: bool) -> None:
    """The ratio's gradient is replaced; without a virtual step the validation loss does not depend on it."""
    distillation = stage(TGeo())
    learner, batch = distillation.learner, Batch(DATA.train.x, DATA.train.y)

    def loss(model: Learner) -> Tensor:
        return distillation.objective(distillation._signals(model, batch, 1, torch.Generator())).mean()

    rule = follow_validation(learner, loss, DATA.val, lr)
    assert rule is not None
    names = [name for name, _ in learner.named_parameters()]
    values = [parameter.detach() for parameter in learner.parameters()]
    gradients = [torch.full_like(value, 7.0) for value in values]
    rule(names, values, gradients)
    for name, gradient in zip(names, gradients, strict=True):
        if name.startswith("network."):
            assert (gradient == 7).all()
        else:
            assert (float(gradient.abs().max()) > 0) is moved and not (gradient == 7).any()


def test_other_objectives_keep_their_gradients() -> None:
    assert follow_validation(stage(KD()).learner, lambda model: torch.zeros(()), DATA.val, 0.1) is None


REFUSALS = {
    "reads what a teacher says": (CE(), AdaAlpha("standard", 0.5), 0),
    "shifts the student's logits, which objective=nd does not read": (ND(), Margin("robust", 0.5), 1),
    "weights samples, and objective=mst couples": (MST(), GroupDROTraining("standard", 0.5), 1),
    "and objective=lelp predicts with other heads": (LELP(), PostShift("robust", 0.5), 1),
    "objective=kd needs teacher_logits, which fedkd distill does not provide": (
        KD(),
        Margin("standard", 0.5),
        0,
    ),
}


@pytest.mark.parametrize("sentence", REFUSALS)
def test_what_does_not_go_together_is_refused(sentence: str) -> None:
    objective, method, teachers = REFUSALS[sentence]
    with pytest.raises(ConfigError, match=sentence):
        stage(objective, method, teachers)


def test_terms_of_nested_combinations() -> None:
    assert terms(Combined([CE(), Combined([KD(), ND()])])) == [CE(), KD(), ND()]
    assert terms(replace(KD(), temperature=1.0)) == [KD(1.0)]
