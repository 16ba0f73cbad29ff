"""SCAFFOLD, FedDyn, FedNova, MOON, FedNTD clients against reference steps made without the training loop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clients.fedavg import FedAvg
from clients.feddyn import FedDyn
from clients.fednova import FedNova, progress
from clients.fedntd import FedNTD, without
from clients.moon import Moon
from clients.scaffold import Scaffold
from fedkd.errors import ConfigError
from fedkd.training.program import ClientProgram, Params, Reply, State, joined, part

Make = Callable[..., Any]
W1, B1, W2, B2 = "blocks.0.1.weight", "blocks.0.1.bias", "blocks.1.0.weight", "blocks.1.0.bias"
LR = 0.1
SEVERAL = {"batch_size": 2, "momentum": 0.9, "epochs": 2}


def features(p: Params, x: Tensor) -> Tensor:
    return torch.relu(x @ p[W1].T + p[B1])


def logits(p: Params, x: Tensor) -> Tensor:
    return features(p, x) @ p[W2].T + p[B2]


def slope(loss: Callable[[Params], Tensor], at: Params) -> Params:
    leaves = {name: value.clone().requires_grad_() for name, value in at.items()}
    return dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))


def ce(local: Any) -> Callable[[Params], Tensor]:
    return lambda p: F.cross_entropy(logits(p, local.x), local.y)


def step(p: Params, g: Params) -> Params:
    return {name: value - LR * g[name] for name, value in p.items()}


def close(a: Params, b: Params) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name])


def told(
    local: Any, program: ClientProgram, knowledge: dict[str, Params], state: State | None = None
) -> Reply:
    """One round at a client that also receives `knowledge`."""
    task = replace(local.task(), knowledge=knowledge)
    reply: Reply = local.trainer.drive(program.work(task, state or {}), task)
    return reply


def full(local: Any, value: float) -> Params:
    return {name: torch.full_like(p, value) for name, p in local.initial.items()}


# -- SCAFFOLD ----------------------------------------------------------------------------------------------


def test_scaffold_corrects_each_step_and_updates_its_control_by_option_two(bench: Make) -> None:
    local = bench(epochs=3)
    common, own = full(local, 0.2), full(local, -0.1)
    y = local.initial
    for _ in range(3):
        g = slope(ce(local), y)
        y = step(y, {name: g[name] - own[name] + common[name] for name in g})
    new = {n: own[n] - common[n] + (local.initial[n] - y[n]) / (3 * LR) for n in y}
    reply = told(local, Scaffold(), {"control": common}, joined(control=own))
    close(reply.upload["arrays"], y)
    close(part(reply.state, "control"), new)
    close(reply.upload["control"], {name: new[name] - own[name] for name in new})


def test_scaffold_without_controls_is_fedavg_bit_for_bit(bench: Make) -> None:
    local = bench(**SEVERAL)
    reply = told(local, Scaffold(), {"control": full(local, 0.0)})
    assert local.same(reply.upload["arrays"], local.work(FedAvg()).upload["arrays"])


def test_scaffold_controls_are_mean_gradients_under_weight_decay_and_have_no_buffers(bench: Make) -> None:
    local = bench(norm="batch", weight_decay=0.5)
    names = {name for name, _ in local.trainer.network.named_parameters()}
    common = {name: torch.zeros_like(local.initial[name]) for name in sorted(names)}
    decayed = told(local, Scaffold(), {"control": common})
    plain = bench(norm="batch")
    assert local.same(
        decayed.upload["control"], told(plain, Scaffold(), {"control": common}).upload["control"]
    )
    assert decayed.upload["control"].keys() == names < decayed.upload["arrays"].keys()


# -- FedDyn ------------------------------------------------------------------------------------------------


def test_feddyn_follows_the_paper_with_its_dual_variable(bench: Make) -> None:
    local, alpha, state = bench(epochs=2), 0.3, None
    dual, received = full(local, 0.0), local.initial
    for _ in range(3):
        theta = received
        for _ in range(2):
            g = slope(ce(local), theta)
            theta = step(theta, {n: g[n] - dual[n] + alpha * (theta[n] - received[n]) for n in g})
        dual = {n: dual[n] - alpha * (theta[n] - received[n]) for n in dual}
        reply = local.work(FedDyn(alpha), received, state)
        close(reply.upload["arrays"], theta)
        state, received = reply.state, {n: v + 0.1 for n, v in theta.items()}
        close(
            {n: -alpha * v for n, v in part(reply.state, "drift").items()}, {n: dual[n] for n in sorted(dual)}
        )


# -- FedNova -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_fednova_progress_is_the_sum_of_the_coefficients_of_the_gradients(momentum: float) -> None:
    velocity = total = 0.0
    for _ in range(7):
        velocity = momentum * velocity + 1
        total += velocity
    assert progress(7, momentum) == pytest.approx(total)


def test_fednova_counts_its_steps_and_trains_as_fedavg(bench: Make) -> None:
    local = bench(batch_size=2, epochs=2)
    reply = local.work(FedNova())
    assert reply.metrics == {"local-steps": 6.0}
    assert local.same(reply.upload["arrays"], local.work(FedAvg()).upload["arrays"])


# -- MOON --------------------------------------------------------------------------------------------------


def test_moon_draws_features_to_the_received_model_and_away_from_the_previous(bench: Make) -> None:
    local = bench()
    received, previous = local.shifted(0.3), local.shifted(-0.4)

    def loss(p: Params) -> Tensor:
        z = features(p, local.x)
        near, far = (F.cosine_similarity(z, features(q, local.x)) / 0.5 for q in (received, previous))
        return ce(local)(p) + 2.0 * -(near.exp() / (near.exp() + far.exp())).log().mean()

    reply = local.work(Moon(strength=2.0), received, joined(previous=previous))
    close(reply.trained, step(received, slope(loss, received)))
    assert local.same(part(reply.state, "previous"), reply.trained)
    assert local.trainer.progress.first_loss == pytest.approx(float(ce(local)(received)))


def test_moon_of_strength_zero_or_without_a_previous_model_is_fedavg_bit_for_bit(bench: Make) -> None:
    local = bench(**SEVERAL)
    fedavg = local.work(FedAvg()).trained
    assert local.same(
        local.work(Moon(strength=0.0), state=joined(previous=local.shifted(1.0))).trained, fedavg
    )
    assert local.same(local.work(Moon()).trained, fedavg)
    assert not local.same(local.work(Moon(), state=joined(previous=local.shifted(1.0))).trained, fedavg)


# -- FedNTD ------------------------------------------------------------------------------------------------


def test_not_true_logits_are_all_but_the_true_one() -> None:
    z = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    assert without(z, torch.tensor([0, 1, 2])).tolist() == [[2.0, 3.0], [4.0, 6.0], [7.0, 8.0]]


def test_fedntd_keeps_the_received_models_view_of_the_other_classes(bench: Make) -> None:
    local = bench(classes=3, epochs=2)
    teacher = logits(local.initial, local.x)
    others = torch.stack([torch.tensor([c for c in range(3) if c != y]) for y in local.y])

    def loss(p: Params) -> Tensor:
        own, seen = (F.softmax(z.gather(1, others) / 2.0, 1) for z in (logits(p, local.x), teacher))
        return ce(local)(p) + 0.5 * 4.0 * (seen * (seen / own).log()).sum(1).mean()

    expected = local.initial
    for _ in range(2):  # the first step has no gradient from the term: the model is its own teacher
        expected = step(expected, slope(loss, expected))
    close(local.work(FedNTD(strength=0.5, temperature=2.0)).trained, expected)


def test_fedntd_of_strength_zero_is_fedavg_bit_for_bit(bench: Make) -> None:
    local = bench(classes=3, **SEVERAL)
    fedavg = local.work(FedAvg()).trained
    assert local.same(local.work(FedNTD(strength=0.0)).trained, fedavg)
    assert not local.same(local.work(FedNTD()).trained, fedavg)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FedDyn(alpha=0), "alpha=0"),
        (lambda: FedNova(momentum=1.0), "momentum=1.0"),
        (lambda: FedNova(optimizer="adam"), "local.optimizer=adam"),
        (lambda: Moon(strength=-1), "strength=-1"),
        (lambda: Moon(temperature=0), "temperature=0"),
        (lambda: FedNTD(strength=-1), "strength=-1"),
        (lambda: FedNTD(temperature=0), "temperature=0"),
    ],
)
def test_mistakes_are_told_by_key(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
