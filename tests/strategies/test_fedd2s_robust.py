"""The flagship: what travels, the lesson by hand, and the simpler method wherever an ingredient is off."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from clients.fedd2s_robust import FedD2SRobust
from fedkd.errors import ConfigError
from fedkd.generators.base import Generator, volume
from fedkd.generators.ensemble import Ensemble, LabelShare
from fedkd.seeds import torch_rng
from simulations.config import resolve
from simulations.run import prepare
from strategies.fedd2s_robust import imagine
from strategies.fedgen import Fitting
from tests.strategies.fedd2s_game import EACH_ROUND, TINY, Game, rows, same

METHOD = "method=fedd2s_robust"
SMALL = [METHOD, "method.strategy.fitting.steps=3", "method.strategy.samples=60"]
CLOCK = "method.strategy.schedule._target_=fedkd.personalization.cuts.Clock"
QUICK = [*SMALL, CLOCK, *EACH_ROUND]
PLAIN = "weighting.alpha=0"
APART = "method.strategy.average_body=false"
AS_FEDD2S = [APART, "method.strategy.distill_path=output_frozen_head", "method.strategy.temperature=3"]


class Table(Generator):
    """Sample y is row y of a table."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__({1: rows.shape[1:]}, len(rows), nz=volume(rows.shape[1:]))
        self.register_buffer("rows", rows)

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.rows[labels]  # type: ignore[index]


def linear(weight: list[list[float]]) -> nn.Module:
    layer = nn.Linear(2, len(weight), bias=False)
    layer.weight.data = torch.tensor(weight)
    return layer


def test_the_lesson_is_the_weighted_mean_of_the_heads_soft_labels() -> None:
    """Class 0 is held 1 : 3, class 1 by the second client alone, class 2 by nobody; weights 3 and 1."""
    heads = [linear([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), linear([[0.0, 2.0], [1.0, 0.0], [1.0, 1.0]])]
    counts, weights = torch.tensor([[1, 0, 0], [3, 2, 0]]), torch.tensor([3.0, 1.0])
    z = torch.tensor([[2.0, 1.0], [0.0, 3.0], [9.0, 9.0]])
    teachers = Ensemble(heads, counts, LabelShare(), "probabilities", weights)
    rng = torch_rng(0, "lesson")
    _, figures, lesson = imagine(Fitting(steps=0), Table(z), teachers, 4000, 2.0, rng, 1)
    first, second = ((head(z) / 2.0).softmax(1) for head in heads)
    expected = torch.stack([0.5 * first[0] + 0.5 * second[0], second[1]])  # 3 * 1 against 1 * 3
    torch.testing.assert_close(lesson.teacher, expected[lesson.y])
    torch.testing.assert_close(lesson.z, z[lesson.y])
    share = torch.bincount(lesson.y, minlength=3) / 4000
    torch.testing.assert_close(share, torch.tensor([6 / 8, 2 / 8, 0.0]), atol=0.03, rtol=0)
    assert lesson.weight.eq(1).all() and 0 <= figures["generator_accuracy"] <= 1


def test_heads_and_label_counts_leave_a_client_and_the_generator_stays() -> None:
    game = Game(*QUICK, PLAIN, APART).round(2)
    network = game.prepared.runtime.trainer(0)[0].network
    for client, sent in game.grid.back.items():
        held = game.prepared.federation.client(client).class_counts("train")
        assert set(sent) == {"head", "label_counts"}
        assert set(sent["head"]) == set(network.keys(2)) and torch.equal(sent["label_counts"]["counts"], held)
        assert set(game.grid.sent[client]) <= {"head"}
    before = {name: value.clone() for name, value in game.strategy.generator.state_dict().items()}
    game.round()
    assert {record["head"].keys() == set(network.keys(1)) for record in game.grid.back.values()} == {True}
    assert game.strategy.generator.cut == 1 and not same(game.strategy.generator.state_dict(), before)


def test_bodies_are_averaged_by_the_weights_and_private_blocks_stay() -> None:
    game = Game(*QUICK, "weighting.alpha=1").round()
    network = game.prepared.runtime.trainer(0)[0].network
    private = set(network.keys(3))
    sent = {client: game.grid.back[client]["arrays"] for client in game.grid.back}
    assert all(set(arrays) == set(network.state_dict()) - private for arrays in sent.values())
    game.round()
    received = [game.grid.sent[client]["arrays"] for client in sent]
    assert all(same(arrays, received[0]) for arrays in received[1:])
    assert set(received[0]) == set(network.state_dict()) - set(network.keys(2))
    for name, mean in received[0].items():
        each = torch.stack([arrays[name] for arrays in sent.values()])
        assert ((each.amin(0) - 1e-6 <= mean) & (mean <= each.amax(0) + 1e-6)).all()
        assert not torch.allclose(mean, each.mean(0)) or mean.dim() < 2  # weights are the worst clients'


@pytest.mark.parametrize("weighting", [PLAIN, "weighting.alpha=0.5"])
def test_without_the_generator_it_is_fedd2s_bit_for_bit(weighting: str, tmp_path: Path) -> None:
    trusting = [weighting, "method.client.trust=all"]
    plain = rows(tmp_path / "a", "method=fedd2s_adaptive", "weighting=eg", *trusting)
    trusting += AS_FEDD2S
    off = rows(tmp_path / "b", *SMALL, "method.strategy.protocol=representations", *trusting)
    on = rows(tmp_path / "c", *SMALL, *trusting)
    pd.testing.assert_frame_equal(off, plain, check_exact=True)
    assert not on.equals(plain)


def test_alpha_zero_is_the_generator_alone_and_more_is_not(tmp_path: Path) -> None:
    alone, zero, more = (
        rows(tmp_path / str(k), *QUICK, weighting)
        for k, weighting in enumerate(["weighting=samples", PLAIN, "weighting.alpha=1"])
    )
    pd.testing.assert_frame_equal(zero, alone, check_exact=True)
    assert not more.equals(alone)


def test_a_schedule_that_never_moves_is_one_cut_and_no_distillation_is_local_training(tmp_path: Path) -> None:
    one = rows(tmp_path / "a", *SMALL, "method.strategy.schedule.cuts=[-1]")
    slow = rows(
        tmp_path / "b",
        *SMALL,
        CLOCK,
        "method.strategy.schedule.cuts=[3]",
        "method.strategy.schedule.rate=99",
    )
    pd.testing.assert_frame_equal(one, slow, check_exact=True)
    none = rows(tmp_path / "c", *QUICK, PLAIN, APART, "method.client.kl_weight=0")
    pd.testing.assert_frame_equal(none, rows(tmp_path / "d", "method=local"), check_exact=True)


@pytest.mark.parametrize("growth", ["warm", "mean"])
def test_a_saved_server_goes_on_to_the_same_numbers(growth: str) -> None:
    more = [*QUICK, f"method.strategy.head_growth={growth}"]
    whole, stopped = Game(*more).round(3), Game(*more).round(2)
    fresh: Any = prepare(stopped.prepared.config).strategy
    fresh.load_state_dict({name: value.clone() for name, value in stopped.strategy.state_dict().items()})
    stopped.strategy = fresh
    stopped.round()
    assert same(fresh.state_dict(), whole.strategy.state_dict())


@pytest.mark.parametrize("more", [["generator=noise"], ["method.strategy.teacher_view=class_mean"]])
def test_a_placebo_and_class_means_run(more: list[str], tmp_path: Path) -> None:
    assert rows(tmp_path / "a", *QUICK, *more)["loss"].notna().all()


def test_the_method_brings_its_generator_and_weighting_unless_chosen() -> None:
    chosen = resolve([*TINY, METHOD])["choices"]
    assert (chosen["generator"], chosen["weighting"]) == ("latent", "eg")
    chosen = resolve([*TINY, METHOD, "weighting=samples", "generator=noise"])["choices"]
    assert (chosen["generator"], chosen["weighting"]) == ("noise", "samples")
    assert resolve([*TINY, "method=fedavg"])["choices"]["weighting"] == "samples"
    with pytest.raises(ConfigError, match="generator=null"):
        prepare(resolve([*TINY, METHOD, "generator=null"]))


def test_what_is_tuned_are_keys_of_the_method() -> None:
    for key, choices in FedD2SRobust.search_space.items():
        value = choices["low"] if isinstance(choices, dict) else choices[0]
        resolve([*TINY, METHOD, f"{key}={value}"])
