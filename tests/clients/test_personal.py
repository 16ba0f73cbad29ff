"""Ditto, APFL, pFedMe, Per-FedAvg, FedRoD, FedALA against reference steps made without the training loop."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clients.apfl import APFL, _step
from clients.ditto import Ditto
from clients.fedala import FedALA
from clients.fedavg import FedAvg, FineTuned
from clients.fedrod import FedRoD
from clients.local import Local
from clients.perfedavg import PerFedAvg
from clients.pfedme import PFedMe
from clients.split import FedBABU
from fedkd.errors import ConfigError
from fedkd.models.mlp import mlp
from fedkd.models.staged import StagedModel
from fedkd.training.program import Params, joined, part

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


def step(p: Params, g: Params, lr: float = LR) -> Params:
    return {name: value - lr * g[name] for name, value in p.items()}


def mix(p: Params, q: Params, alpha: Any) -> Params:
    return {name: alpha * p[name] + (1 - alpha) * q[name] for name in p}


def close(a: Params, b: Params) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name])


# -- Ditto -------------------------------------------------------------------------------------------------


def test_ditto_pulls_the_personal_model_towards_the_received_one(bench: Make) -> None:
    local = bench(epochs=2)
    received, own = local.initial, local.shifted(0.5)
    expected = own
    for _ in range(2):
        gradient = slope(ce(local), expected)
        pulled = {name: gradient[name] + 0.7 * (expected[name] - received[name]) for name in own}
        expected = step(expected, pulled)
    reply = local.work(Ditto(strength=0.7), received, joined(personal=own))
    close(part(reply.state, "personal"), expected)
    assert local.same(reply.trained, part(reply.state, "personal"))
    assert local.same(local.personal(Ditto(), received, reply.state), reply.trained)


def test_ditto_of_strength_zero_is_local_training_beside_fedavg(bench: Make) -> None:
    local = bench(**SEVERAL)
    ditto = alone = None
    for number in (1, 2):
        received = local.initial if number == 1 else local.shifted(0.3)
        reply = local.work(Ditto(strength=0.0), received, ditto, at=number)
        ditto, alone = reply.state, local.work(Local(), {}, alone, at=number).state
        assert local.same(part(ditto, "personal"), alone)
        assert local.same(reply.upload["arrays"], local.work(FedAvg(), received, at=number).upload["arrays"])
    assert local.same(local.personal(Ditto(), received), received)


# -- APFL --------------------------------------------------------------------------------------------------


def test_apfl_trains_the_private_model_through_the_mixture(bench: Make) -> None:
    local = bench(epochs=2)
    shared, private, alpha = local.initial, local.shifted(0.5), torch.tensor(0.3)

    def mixed_loss(anchor: Params) -> Callable[[Params], Tensor]:
        return lambda p: ce(local)(mix(p, anchor, alpha))

    for _ in range(2):
        gradient = slope(mixed_loss(shared), private)
        shared, private = step(shared, slope(ce(local), shared)), step(private, gradient)
    mixed = mix(private, shared, alpha)
    gradient = slope(ce(local), mixed)
    inner = sum(((private[n] - shared[n]) * gradient[n]).sum() for n in mixed)
    state = {"alpha": alpha, **joined(private=local.shifted(0.5))}
    reply = local.work(APFL(), local.initial, state)
    close(reply.upload["arrays"], shared)
    close(part(reply.state, "private"), private)
    torch.testing.assert_close(reply.state["alpha"], alpha - LR * inner)
    close(reply.trained, mix(private, shared, alpha - LR * inner))
    assert local.trainer.progress.first_loss == pytest.approx(float(ce(local)(local.initial)))


def test_apfl_at_its_ends_is_local_training_and_the_global_model(bench: Make) -> None:
    local = bench(**SEVERAL)
    alone = local.work(Local(), {}).state
    own = local.work(APFL(alpha=1.0, adaptive=False))
    assert local.same(part(own.state, "private"), alone) and local.same(own.trained, alone)
    assert local.same(local.personal(APFL(), local.shifted(0.3), own.state), alone)
    none = local.work(APFL(alpha=0.0, adaptive=False))
    assert local.same(part(none.state, "private"), local.initial)
    assert local.same(local.personal(APFL(), local.shifted(0.3), none.state), local.shifted(0.3))
    for reply in (own, none):
        assert local.same(reply.upload["arrays"], local.work(FedAvg()).upload["arrays"])


@pytest.mark.parametrize(("moved", "alpha"), [(0.1, 0.3), (-0.1, 0.7), (9.0, 0.0), (-9.0, 1.0)])
def test_apfl_keeps_alpha_between_zero_and_one(moved: float, alpha: float) -> None:
    zero, two, probe = ({"w": torch.tensor([value, 0.0])} for value in (0.0, 2.0, -moved))
    assert float(_step(torch.tensor(0.5), two, zero, zero, probe, {"w"})) == pytest.approx(alpha)


# -- pFedMe ------------------------------------------------------------------------------------------------


def test_pfedme_follows_the_inner_solution_on_each_batch(bench: Make) -> None:
    local = bench(epochs=2)
    theta = anchor = local.initial
    for _ in range(2):
        for _ in range(3):
            gradient = slope(ce(local), theta)
            theta = step(theta, {name: gradient[name] + 2.0 * (theta[name] - anchor[name]) for name in theta})
        anchor = {name: anchor[name] - 0.05 * 2.0 * (anchor[name] - theta[name]) for name in theta}
    reply = local.work(PFedMe(strength=2.0, outer_lr=0.05, inner_steps=3))
    close(reply.upload["arrays"], anchor)
    close(part(reply.state, "personal"), theta)
    assert list(reply.upload["arrays"]) == list(local.initial)  # FedAvgM pairs arrays by their place
    received = local.shifted(1.0)
    assert local.same(local.personal(PFedMe(), received, reply.state), reply.trained)
    assert local.same(local.personal(PFedMe(), received), received)


# -- Per-FedAvg --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second_order", [False, True])
def test_perfedavg_steps_along_the_loss_after_adaptation(bench: Make, second_order: bool) -> None:
    local = bench()
    (order,) = local.order(local.task(), 1)
    first, second = order[::2], order[1::2]

    def adapted(p: Params) -> Params:
        loss = F.cross_entropy(logits(p, local.x[first]), local.y[first])
        slopes = torch.autograd.grad(loss, list(p.values()), create_graph=True)
        return {
            n: v - 0.5 * (g if second_order else g.detach())
            for (n, v), g in zip(p.items(), slopes, strict=True)
        }

    gradient = slope(
        lambda p: F.cross_entropy(logits(adapted(p), local.x[second]), local.y[second]), local.initial
    )
    reply = local.work(PerFedAvg(adapt_lr=0.5, second_order=second_order))
    close(reply.trained, step(local.initial, gradient))
    expected = F.cross_entropy(logits(local.initial, local.x[first]), local.y[first])
    assert local.trainer.progress.first_loss == pytest.approx(float(expected))


def test_perfedavg_is_used_after_plain_steps_and_serves_single_samples(bench: Make) -> None:
    local = bench(momentum=0.9, lr=3.0)
    expected = local.initial
    for _ in range(2):
        expected = step(expected, slope(ce(local), expected), 0.5)
    close(local.personal(PerFedAvg(adapt_lr=0.5, adapt_steps=2)), expected)
    single = bench(batch_size=1)
    assert not single.same(single.work(PerFedAvg()).trained, single.initial)


# -- FedRoD ------------------------------------------------------------------------------------------------


def test_fedrod_balances_the_generic_model_and_trains_a_head_on_top(bench: Make) -> None:
    local = bench(classes=3)  # the client has no sample of the third class
    counts = torch.tensor([2.0, 3.0, 0.0])
    generic = local.initial
    head = {W2: torch.zeros(3, 3), B2: torch.zeros(3)}
    balanced = slope(lambda p: F.cross_entropy((logits(p, local.x) + counts.log())[:, :2], local.y), generic)
    z, below = features(generic, local.x), logits(generic, local.x)
    own = slope(lambda p: F.cross_entropy(below + z @ p[W2].T + p[B2], local.y), head)
    reply = local.work(FedRoD())
    close(reply.upload["arrays"], step(generic, balanced))
    close(part(reply.state, "head"), step(head, own))
    assert reply.state.keys() == {f"head.{W2}", f"head.{B2}"}
    assert local.trainer.progress.first_loss == pytest.approx(float(F.cross_entropy(below, local.y)))


def test_fedrod_uses_the_sum_of_both_heads(bench: Make) -> None:
    local = bench()
    received, head = local.shifted(0.2), {W2: torch.ones(2, 3), B2: torch.tensor([0.0, 2.0])}
    used = local.personal(FedRoD(), received, joined(head=head))
    z = features(received, local.x)
    expected = logits(received, local.x) + z @ head[W2].T + head[B2]
    torch.testing.assert_close(local.trainer.predict(used, local.x), expected)
    assert local.same(local.personal(FedRoD(), received), received)


# -- FedALA ------------------------------------------------------------------------------------------------


def test_fedala_learns_how_much_of_the_received_head_to_take(bench: Make) -> None:
    local = bench()
    own, received = local.shifted(-0.5), local.shifted(0.5)
    weights = {W2: torch.full((2, 3), 0.5), B2: torch.full((2,), 0.9)}

    def mixed(w: Params) -> Params:
        return received | {n: own[n] + (received[n] - own[n]) * w[n] for n in w}

    gradient = slope(lambda w: ce(local)(mixed(w)), weights)
    weights_after = {name: value.clamp(0, 1) for name, value in step(weights, gradient, 2.0).items()}
    start = mixed(weights_after)
    state = joined(own=own, weights=weights)
    reply = local.work(FedALA(weight_lr=2.0), received, state)
    close(part(reply.state, "weights"), weights_after)
    close(reply.upload["arrays"], step(start, slope(ce(local), start)))
    close(local.personal(FedALA(weight_lr=2.0), received, state), start)
    assert any(((value == 0) | (value == 1)).any() for value in weights_after.values())


def test_fedala_begins_as_fedavg_and_then_with_weights_of_one(bench: Make) -> None:
    local = bench(**SEVERAL)
    reply = local.work(FedALA())
    assert local.same(reply.trained, local.work(FedAvg()).trained)
    assert part(reply.state, "weights") == {} and local.same(part(reply.state, "own"), reply.trained)
    received = local.shifted(0.5)
    nearly = local.personal(FedALA(layers=2, weight_lr=1e-20), received, reply.state)
    close(nearly, received)
    assert local.same(local.personal(FedALA(), received), received)
    assert (
        part(local.work(FedALA(layers=2), received, reply.state).state, "weights").keys()
        == local.initial.keys()
    )


# -- all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ditto(strength=-1), "strength=-1"),
        (lambda: Ditto(personal_epochs=0), "personal_epochs=0"),
        (lambda: APFL(alpha=1.5), "alpha=1.5"),
        (lambda: PFedMe(strength=15, outer_lr=0.1), "product below 1"),
        (lambda: PFedMe(inner_steps=0), "inner_steps=0"),
        (lambda: PerFedAvg(adapt_lr=0), "adapt_lr=0"),
        (lambda: PerFedAvg(adapt_steps=0), "adapt_steps=0"),
        (lambda: FedALA(layers=0), "layers=0"),
        (lambda: FedALA(weight_lr=0), "weight_lr=0"),
        (lambda: FedALA(layers=3).check(mlp((2,), 2)), "this model has 2 blocks"),
        (lambda: FedRoD().check(StagedModel([torch.nn.Linear(2, 2), torch.nn.ReLU()], (2,))), "linear layer"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize("program", [Ditto(), APFL(), PFedMe(), PerFedAvg(), FedRoD(), FedALA()])
def test_the_risk_reported_is_that_of_the_received_model(bench: Make, program: Any) -> None:
    local = bench()
    state = local.work(program).state or {}
    received = local.shifted(0.5)
    assert local.same(program.start(local.task(received), state), received)


@pytest.mark.parametrize("method", [FineTuned, FedBABU])
def test_fine_tuning_may_have_a_step_of_its_own(bench: Make, method: Any) -> None:
    """One step of plain SGD from the received model: as long as the factor says, in the same direction."""
    local = bench()
    whole = local.personal(method(finetune_epochs=1))
    tenth = local.personal(method(finetune_epochs=1, finetune_lr=0.1))
    assert local.same(whole, local.work(FedAvg()).trained)
    for name, start in local.initial.items():
        torch.testing.assert_close(tenth[name] - start, 0.1 * (whole[name] - start), rtol=1e-3, atol=1e-7)
    with pytest.raises(ConfigError, match="finetune_lr=0: a positive factor"):
        method(finetune_epochs=1, finetune_lr=0)
    with pytest.raises(ConfigError, match="finetune_epochs=0: a whole number from 1"):
        method(finetune_epochs=0)
    assert "method.client.finetune_lr" in method.search_space
