"""Equal tuning: the same effort for every method, on validation alone, and the same choice after a kill."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml

from fedkd.errors import ConfigError
from simulations import tune
from simulations.cli import main
from simulations.config import resolve
from simulations.run import run
from simulations.tuning.search import BATCH, Rung, Trial, ladder, search
from simulations.tuning.space import contains, distribution, search_space
from simulations.tuning.tuning import LEAN
from tests.simulations.folders import write_run

BEST = 0.02
LR = {"low": 0.005, "high": 0.3, "log": True}
TINY = ["clients=4", "model=mlp", "rounds=15", "trials=6", "engine=inline"]


def quality(lr: float, best: float = BEST) -> float:
    """A validation accuracy with its peak at `best`."""
    return 0.9 - 0.1 * abs(float(np.log(lr / best)))


class Player:
    """Stands for the runs: validation is best at BEST, test accuracy at the largest step.

    stop: the run in which it is interrupted
    broken: whether a run with this step size fails
    """

    def __init__(self, stop: int = 0, broken: Callable[[float], bool] = lambda lr: False) -> None:
        self.stop, self.broken = stop, broken
        self.played: list[Mapping[str, Any]] = []

    def __call__(self, config: dict[str, Any], out: Path) -> None:
        self.played.append(config)
        if len(self.played) == self.stop:
            out.mkdir(parents=True)
            (out / "config.yaml").write_text(yaml.safe_dump(config))
            raise KeyboardInterrupt
        lr, last = config["local"]["lr"], config["rounds"]
        if self.broken(lr):
            raise RuntimeError("it diverged")
        for file in out.glob("*"):
            file.unlink()
        if out.exists():
            out.rmdir()
        write_run(out, config, {last: [lr] * 4}, {last: [quality(lr)] * 4})


def tuned(out: Path, *overrides: str, player: Player | None = None) -> Player:
    player = player or Player()
    tune.carry_out(tune.plan([*TINY, f"out={out}", *overrides]), player.__call__)
    return player


# -- the search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trials", "rounds", "rungs"),
    [
        (10, 10, [(10, 10)]),
        (10, 15, [(5, 10), (15, 4)]),
        (10, 50, [(5, 10), (16, 4), (50, 2)]),
        (3, 500, [(500, 3)]),
        (1, 100, [(100, 1)]),
    ],
)
def test_few_rounds_come_first_where_that_saves_time(
    trials: int, rounds: int, rungs: list[tuple[int, int]]
) -> None:
    assert ladder(trials, rounds) == [Rung(*rung) for rung in rungs]
    assert sum(rung.rounds * rung.trials for rung in ladder(trials, rounds)) <= trials * rounds


def searched(seed: int = 0, trials: int = 12, best: float = BEST) -> list[Trial]:
    study = optuna.create_study(direction="maximize")
    going = search(study, {"local.lr": LR}, {"local.lr": 0.05}, ladder(trials, 20), seed)
    batch = next(going)
    while True:
        assert len(batch) <= BATCH
        try:
            batch = going.send([quality(trial.params["local.lr"], best) for trial in batch])
        except StopIteration as end:
            found: list[Trial] = end.value
            return found


def test_a_search_begins_with_the_defaults_and_promotes_the_best() -> None:
    played = searched()
    first, second = ([trial for trial in played if trial.rounds == rounds] for rounds in (6, 20))
    assert first[0].params == {"local.lr": 0.05}
    assert [trial.number for trial in first] == list(range(12))
    ranked = sorted(first, key=lambda trial: -trial.value)
    assert {trial.number for trial in second} == {trial.number for trial in ranked[:4]}
    assert all(contains(LR, trial.params["local.lr"]) for trial in played)


def test_a_search_learns_from_its_values() -> None:
    """Its best of 12 is closer to a peak at the edge than the best of 12 random draws."""
    found = [max(trial.value for trial in searched(seed, best=0.006)) for seed in range(8)]
    random = np.exp(np.random.default_rng(0).uniform(np.log(0.005), np.log(0.3), (1000, 12)))
    assert np.mean(found) > np.mean([max(quality(lr, 0.006) for lr in draw) for draw in random])


def test_a_search_is_a_function_of_its_seed() -> None:
    assert searched(3) == searched(3)
    assert searched(3)[1] != searched(4)[1]


def test_the_space_is_what_the_parts_of_the_method_declare() -> None:
    assert search_space(resolve(["method=local"])) == {"local.lr": LR}
    assert search_space(resolve(["method=fedprox"])).keys() == {"local.lr", "method.strategy.proximal_mu"}
    assert search_space(resolve(["method=ditto"])).keys() == {"local.lr", "method.client.strength"}
    assert search_space(resolve(["method=fedprox"]), {"local.lr"}).keys() == {"method.strategy.proximal_mu"}
    with pytest.raises(ConfigError, match="method=local: nothing is left to tune"):
        search_space(resolve(["method=local"]), {"local.lr"})


def test_domains() -> None:
    assert distribution([1, "a"]) == optuna.distributions.CategoricalDistribution([1, "a"])
    assert distribution({"low": 1, "high": 9}) == optuna.distributions.IntDistribution(1, 9)
    assert distribution(LR) == optuna.distributions.FloatDistribution(0.005, 0.3, log=True)
    assert not contains(LR, {"schedule": "cosine"})
    assert contains([1, 2], 2)


# -- the command -------------------------------------------------------------------------------------------


def test_every_method_gets_the_same_effort_and_its_best_on_validation(tmp_path: Path) -> None:
    tuned(tmp_path, "method=local,fedprox")
    records = [yaml.safe_load((tmp_path / f"{name}.yaml").read_text()) for name in ("local", "fedprox")]
    assert [record["cost"]["rounds"] for record in records] == [6 * 5 + 2 * 15] * 2
    for record in records:
        trials = pd.read_csv(tmp_path / f"{record['method']}.csv")
        last = trials[trials["rounds"] == 15]
        assert (len(trials), len(last)) == (8, 2)
        assert record["val_mean"] == pytest.approx(quality(record["chosen"]["local.lr"]))
        assert record["val_mean"] == pytest.approx(last["val_mean"].max())
        assert record["cost"]["seconds"] == 60
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "local.journal"))
    study = optuna.load_study(study_name="local", storage=optuna.storages.JournalStorage(journal))
    assert len(study.trials) == 6


def test_a_run_uses_the_choice(tmp_path: Path) -> None:
    tuned(tmp_path, "method=fedprox")
    chosen = yaml.safe_load((tmp_path / "fedprox.yaml").read_text())["chosen"]
    config = resolve(["method=fedprox", f"tuned={tmp_path}"])
    assert config["local"]["lr"] == chosen["local.lr"]
    assert config["method"]["strategy"]["proximal_mu"] == chosen["method.strategy.proximal_mu"]


def test_a_choice_for_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "fedavg.yaml").write_text(yaml.safe_dump({"chosen": {"weighting.q": 1.0}}))
    words = ["method=fedavg", f"tuned={tmp_path}"]
    assert resolve([*words, "weighting=qffl"])["weighting"]["q"] == 1.0
    with pytest.raises(ConfigError, match=r"unknown key 'weighting\.q'.*; tuned=\.\.\. sets it"):
        resolve([*words, "weighting=eg"])


@pytest.mark.parametrize("stop", [1, 3, 6, 8])
def test_killed_and_started_again_it_ends_in_the_same_choice(stop: int, tmp_path: Path) -> None:
    tuned(tmp_path / "whole", "method=local")
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "killed", "method=local", player=Player(stop))
    rest = tuned(tmp_path / "killed", "method=local")
    assert len(rest.played) == 8 - (stop - 1)
    for name in ("local.yaml", "local.csv"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert tuned(tmp_path / "killed", "method=local").played == []


def test_another_tuning_is_not_overwritten(tmp_path: Path) -> None:
    tuned(tmp_path, "method=local")
    with pytest.raises(ConfigError, match="local was tuned differently there"):
        tuned(tmp_path, "method=local", "local.epochs=2")
    tuned(tmp_path, "method=local", "local.epochs=2", "overwrite=true")


def test_a_trial_that_fails_counts_as_zero(tmp_path: Path) -> None:
    tuned(tmp_path, "method=local", player=Player(broken=lambda lr: lr > 0.04))
    trials = pd.read_csv(tmp_path / "local.csv")
    failed = trials["local.lr"] > 0.04
    assert failed.any()
    assert (trials.loc[failed, "val_mean"] == 0).all()
    assert not failed[trials["rounds"] == 15].any()
    with pytest.raises(ConfigError, match=r"none of 4 trials could be played; failed: .*it diverged"):
        tuned(tmp_path / "all", "method=local", player=Player(broken=lambda lr: True))


def test_equal_trials_are_played_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "simulations.tuning.tuning.search_space", lambda config, fixed: {"local.lr": [0.01, 0.05]}
    )
    assert len(tuned(tmp_path, "method=local").played) == 4
    assert len(pd.read_csv(tmp_path / "local.csv")) == 8
    assert yaml.safe_load((tmp_path / "local.yaml").read_text())["cost"]["rounds"] == 2 * 5 + 2 * 15


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trials=0"], "trials=0: a whole number of trials"),
        (["seed=1,2"], "'seed=1,2' names several values"),
        (["split.val=0"], "split.val=0: tuning needs validation samples"),
        (["method=nosuch"], "unknown method 'nosuch'"),
        (["sweep.parallel=half"], "sweep.parallel=half: a whole number"),
    ],
)
def test_mistakes_are_told_before_any_trial(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *words]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_real_tuning(tmp_path: Path) -> None:
    words = ["data.max_samples=300", "rounds=1", "trials=2", "clients=3", "model=mlp", "engine=inline"]
    assert main(["tune", *words, f"out={tmp_path}", "method=fedavg"]) == 0
    record = yaml.safe_load((tmp_path / "fedavg.yaml").read_text())
    rows = pd.read_parquet(next((tmp_path / "trials").glob("*")) / "clients.parquet")
    assert record["cost"]["bytes_up"] > 0
    assert set(rows["stage"]) == {"before"}
    assert json.dumps(record["chosen"])


def test_a_trial_whose_clients_leave_cuts_apart_has_its_page(tmp_path: Path) -> None:
    """Nobody is evaluated on test data there, and the page tells who worked at which cut all the same."""
    words = ["method=fedd2s_adaptive", "method.strategy.schedule.patience=1", "engine=inline", "clients=8"]
    small = ["rounds=5", "model=mlp", "model.hidden=[8,8,8,8]", "data.max_samples=600", *LEAN]
    config = resolve([*words, *small, f"out={tmp_path / 'trial'}"])
    run(config, tmp_path / "trial")
    assert pd.read_csv(tmp_path / "trial" / "cuts.csv").groupby("round")["cut"].nunique().max() > 1
    assert "client-cuts-chart" in (tmp_path / "trial" / "report.html").read_text()
