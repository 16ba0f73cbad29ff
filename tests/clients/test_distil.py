"""FedAvg whose clients learn from the received model: by hand, what stays at the client, and resume."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from benchmarks.drivers import difference, ended, start, tiny
from clients.distil import Distil
from clients.fedavg import FedAvg
from fedkd.objectives.combined import Combined
from fedkd.objectives.logits import CE, KD
from fedkd.objectives.ofa import OFA
from fedkd.objectives.taid import TAID
from fedkd.training.program import part
from simulations.saved import newest

Make = Callable[..., Any]


def test_with_cross_entropy_alone_it_is_fedavg_bit_for_bit(bench: Make) -> None:
    local = bench(epochs=3, momentum=0.9)
    assert local.same(local.work(Distil(CE())).upload["arrays"], local.work(FedAvg()).upload["arrays"])


def test_two_steps_of_ce_and_kd_by_hand(bench: Make) -> None:
    local = bench(epochs=2)
    received = local.shifted(0.1)

    def logits(p: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = torch.relu(local.x @ p["blocks.0.1.weight"].T + p["blocks.0.1.bias"])
        return hidden @ p["blocks.1.0.weight"].T + p["blocks.1.0.bias"]

    weights, told = dict(received), F.softmax(logits(received) / 2, 1)
    for _ in range(2):
        leaves = {n: t.clone().requires_grad_() for n, t in weights.items()}
        own = logits(leaves)
        kl = (told * (told.log() - F.log_softmax(own / 2, 1))).sum(1).mean()
        loss = F.cross_entropy(own, local.y) + 4 * kl
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        weights = {n: t - 0.1 * g for (n, t), g in zip(weights.items(), slopes, strict=True)}
    sent = local.work(Distil(Combined([CE(), KD(2.0)])), received).upload["arrays"]
    for name, value in weights.items():
        torch.testing.assert_close(sent[name], value)


def test_parts_and_memory_go_on_where_the_last_round_left_them(bench: Make) -> None:
    local = bench(epochs=2)
    program = Distil(Combined([CE(), OFA(exits=(1,)), TAID(t_start=0.2)]), rounds=4)
    first = local.work(program)
    assert first.upload["arrays"].keys() == local.initial.keys()
    second = local.work(program, state=first.state, at=2)
    steps = [int(part(reply.state, "memory")["2/steps"]) for reply in (first, second)]
    assert steps == [2, 4]
    t = [float(part(reply.state, "memory")["2/t"]) for reply in (first, second)]
    assert t == [
        pytest.approx(0.2 + 0.8 / 4),
        pytest.approx(0.2 + 0.8 / 2, abs=2e-4),
    ]  # the ramp, or ahead of it
    exits = [part(reply.state, "parts") for reply in (first, second)]
    assert exits[0].keys() == exits[1].keys() and any("exit_1" in name for name in exits[0])
    assert not any(torch.equal(exits[0][name], exits[1][name]) for name in exits[0])
    fresh = part(local.work(program, at=2).state, "parts")
    assert any(not torch.equal(fresh[name], exits[1][name]) for name in fresh)


@pytest.mark.parametrize("objective", ["[ce,taid]", "[ce,dackl]"])
def test_a_killed_run_goes_on_with_them(objective: str, tmp_path: Path) -> None:
    config = tiny("method=fedavg_kd", f"objective={objective}")
    assert ended(start(config, tmp_path / "undisturbed")) == 0
    assert ended(start(config, tmp_path / "cut", kill_at=25)) == -signal.SIGKILL
    saved = newest(tmp_path / "cut")
    assert saved is not None and saved.round >= 1
    kept = {name for state in saved.clients.values() for record in state.values() for name in record}
    assert any("memory" in name or "parts" in name for name in kept)
    assert ended(start(config, tmp_path / "cut")) == 0
    assert difference(tmp_path / "undisturbed", tmp_path / "cut") == 0
