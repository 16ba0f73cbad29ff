"""FedD2S with each of its choices: weights, models, averaged bodies, adaptive cuts, FedGKT; refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clients.app import STATE
from clients.arrays import tensors_from_record
from clients.fedd2s import FedD2S as Client
from fedkd.errors import ConfigError
from fedkd.personalization.heads import above
from simulations.config import choices_of, resolve
from simulations.engine.opening import open_grid
from simulations.loop import Plan, play
from simulations.observe import ObservedGrid
from simulations.run import client_program, prepare
from strategies.fedd2s import FedD2S
from tests.strategies.fedd2s_game import EACH_ROUND, TINY, Game, rows, same


@pytest.mark.parametrize(
    "more",
    [
        ["method=fedd2s", "weighting=uniform"],
        ["method=fedd2s", "weighting=eg", "method.strategy.protocol=heads"],
        ["method=fedd2s_adaptive"],
        ["method=fedd2s", "method.strategy.schedule.reverse=true", "objective=jsd"],
        ["method=fedgkt"],
    ],
)
def test_whole_runs(more: list[str], tmp_path: Path) -> None:
    table = rows(tmp_path / "out", *more)
    before = table[(table["stage"] == "before") & (table["split"] == "test")]
    assert set(before["model"]) == {"personal"} and len(before) == 3 * 4
    assert before[before["round"] == 3]["loss"].mean() < before[before["round"] == 1]["loss"].mean()


def test_client_weights_reach_the_head_through_num_examples() -> None:
    plain, even = Game().round(), Game("weighting=uniform").round()
    alike = Game("weighting=uniform", "weighting.alpha=0").round()
    heads = even.strategy.strategy.memory.heads
    assert not same(plain.heads[3], heads[3]) and same(plain.heads[3], alike.heads[3])


def test_fedgkt_is_a_fixed_cut_with_its_own_weights() -> None:
    game = Game("method=fedgkt", "model.hidden=[16,12]").round(2)
    assert all(word["cut"] == 1 for word in game.grid.words.values())
    assert all(word["distill-path"] == "output_full" for word in game.grid.words.values())
    learner, client = game.strategy.learner, game.prepared.runtime.program
    assert (learner.kl_weight, learner.ce_weight) == (1.0, 1.0)
    assert isinstance(client, Client) and (client.ce_weight, client.kl_weight) == (1.0, 1.0)


def test_bodies_are_averaged_where_asked_and_only_below_the_cut() -> None:
    game = Game(*EACH_ROUND, "method.strategy.average_body=true").round()
    network = game.prepared.runtime.trainer(0)[0].network
    for cut in (2, 1):
        sizes = {k: len(sent["representations"]["y"]) for k, sent in game.grid.back.items()}
        body = {
            name: sum(game.grid.back[k]["arrays"][name] * n for k, n in sizes.items()) / sum(sizes.values())
            for name in network.keys(0, cut)
        }
        game.round()
        for sent in game.grid.sent.values():
            assert sent["arrays"].keys() == body.keys()
            for name, value in body.items():
                torch.testing.assert_close(sent["arrays"][name], value)


def test_different_models_learn_together_where_their_cuts_meet() -> None:
    target = "fedkd.models.mlp.mlp"
    kinds = [{"_target_": target, "hidden": hidden} for hidden in ([16, 12, 8], [24, 12, 8])]
    config = resolve([*TINY, "method=fedd2s", "method.strategy.schedule.cuts=[3,2]"])
    config["model"]["per_client"] = kinds
    prepared = prepare(config)
    grid: Any = open_grid(config, client_program(prepared))
    observed = ObservedGrid(grid, grid.get_node_ids(), prepared.federation.train_clients.tolist())
    play(prepared.strategy, observed, prepared.arrays, Plan(0, 3), [])
    assert not observed.last.failures
    shapes = [
        tensors_from_record(s.array_records[STATE])["blocks.0.1.weight"].shape[0]
        for _, s in sorted(grid.client_states().items())
    ]
    assert shapes == [16, 24, 16, 24]
    config["method"]["strategy"]["schedule"]["cuts"] = [1]
    with pytest.raises(ConfigError, match=r"model\.per_client: at cut 1"):
        prepare(config)
    config["method"]["strategy"] |= {"schedule": {**config["method"]["strategy"]["schedule"], "cuts": [3]}}
    config["method"]["strategy"]["protocol"] = "heads"
    with pytest.raises(ConfigError, match=r"model\.per_client: weights travel here"):
        prepare(config)


def test_adaptive_runs_report_who_is_harmed_and_who_left() -> None:
    game = Game("method=fedd2s_adaptive", "method.strategy.schedule.patience=1")
    figures: list[dict[str, Any]] = []
    aggregate = game.strategy.aggregate_train

    def listen(*given: Any) -> Any:
        arrays, told = aggregate(*given)
        figures.append(told)
        return arrays, told

    game.strategy.aggregate_train = listen
    game.round(4)
    for told in figures:
        assert {"alone", "harmed", "harm_margin", "val_accuracy", "cut", "train_loss"} <= set(told)
        assert 0 <= told["alone"] <= 1 and 0 <= told["harmed"] <= 1
    assert figures[-1]["cut"] < figures[0]["cut"] == 3


@pytest.mark.parametrize("drop", ["GlobalDrop", "ClientDrop"])
def test_adaptive_dropping_leaves_nobody_worse_than_alone_on_validation(drop: str, tmp_path: Path) -> None:
    """Whole runs: every client uses what its validation split prefers; local-only training is among it."""
    schedule = (f"method.strategy.schedule._target_=fedkd.personalization.cuts.{drop}", "rounds=5")
    run = ("method=fedd2s_adaptive", "method.strategy.schedule.patience=1", *schedule)
    tables = [
        rows(tmp_path / name, *words) for name, words in (("a", run), ("b", ("method=local", "rounds=5")))
    ]
    ours, alone = (
        table.query("split == 'val' and stage == 'before' and round == 5").set_index("client")["accuracy"]
        for table in tables
    )
    assert len(ours) == len(alone) == 4
    assert (ours >= alone).all()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("method.strategy.protocol=generator", "one of representations, heads is needed here"),
        ("method.strategy.schedule.cuts=[2,3]", "deep to shallow"),
        ("method.strategy.server_epochs=0", r"server_epochs=0"),
        ("method.strategy.teacher_view=head_ensemble", "needs the clients' heads"),
        ("method.strategy.temperature=0", "positive number"),
        ("objective=sinkd", "couples samples"),
    ],
)
def test_wrong_choices_are_told_before_anything_runs(wrong: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve([*TINY, "method=fedd2s", wrong])


def test_cuts_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 is no boundary of a model of 4 blocks"):
        prepare(resolve([*TINY, "method=fedd2s", "method.strategy.schedule.cuts=[5]"]))
    with pytest.raises(ConfigError, match="one block and cannot be cut"):
        prepare(resolve([*TINY, "method=fedd2s", "model.hidden=[]"]))


@pytest.mark.parametrize("method", ["fedd2s", "fedd2s_adaptive", "fedgkt"])
def test_every_end_of_the_search_space_is_a_configuration(method: str) -> None:
    config = resolve([*TINY, f"method={method}"])
    space = prepare(config).runtime.program.search_space
    assert isinstance(prepare(config).strategy, FedD2S) and "local.lr" in space
    for key, values in space.items():
        ends = values if isinstance(values, list) else [values["low"], values["high"]]
        assert len({str(resolve([*TINY, f"method={method}", f"{key}={end}"])) for end in ends}) == len(ends)


def test_heads_hold_the_blocks_above_their_cut() -> None:
    game = Game(*EACH_ROUND).round(3)
    initial = game.prepared.runtime.trainer(0)[1]
    assert sorted(game.heads) == [1, 2, 3]
    assert all(head.keys() == above(initial, cut).keys() for cut, head in game.heads.items())


def test_every_study_is_a_configuration() -> None:
    names = [name for name in choices_of("experiment") if name.startswith("fedd2s")]
    configs = {name: resolve([f"experiment={name}"]) for name in names}
    settings = ("fedd2s_full", "fedd2s_cifar10", "fedd2s_digits", "fedd2s_cifar100", "fedd2s_cifar100_full")
    strategies = {name: str(config["method"]) for name, config in configs.items() if name not in settings}
    assert len(names) > 10 and len(set(strategies.values())) == len(strategies)
    assert all(configs[name]["choices"]["method"].startswith("fedd2s") for name in strategies)
