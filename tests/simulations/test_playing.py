"""Runs side by side: when, with which numbers, and what happens to the others when one of them fails."""

import operator
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from fedkd.errors import ConfigError
from simulations import playing, sweep
from simulations.config import resolve
from simulations.playing import Job, places, player, take_parallel
from simulations.run import run
from simulations.workers import Workers

WORDS = ["clients=4", "rounds=2", "model=mlp", "data.max_samples=300"]


def jobs(count: int, *overrides: str, parallel: int | None = None) -> list[Job]:
    return [Job(resolve([f"seed={k}", *WORDS, *overrides]), parallel=parallel) for k in range(count)]


# -- worker processes --------------------------------------------------------------------------------------


def test_every_call_is_done_whatever_happens_to_another(tmp_path: Path) -> None:
    calls: list[Any] = [
        (os.mkdir, (tmp_path / "a",)),
        (os._exit, (3,)),
        (operator.truediv, (1, 0)),
        (os.mkdir, (tmp_path / "b",)),
        (resolve, (["rounds=0"],)),
        (os.mkdir, (tmp_path / "c",)),
    ]
    with Workers(2) as workers:
        ended = dict(workers.play(calls))
        again = dict(workers.play([(os.mkdir, (tmp_path / "d",))]))
    assert [ended[k].error for k in (0, 3, 5)] == ["", "", ""] == [again[0].error] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c", "d"}
    assert ended[1].error == "its process ended with code 3"
    assert ended[2].error == "ZeroDivisionError: division by zero"
    assert "Traceback" in ended[2].trace
    assert (ended[4].error, ended[4].trace) == ("rounds=0: a whole number from 1 is needed", "")


def test_leaving_ends_the_workers_at_once() -> None:
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), Workers(2) as workers:
        for _ in workers.play([(time.sleep, (0,)), (time.sleep, (600,)), (time.sleep, (600,))]):
            processes = [worker.process for worker in workers._workers]
            raise KeyboardInterrupt
    assert time.perf_counter() - began < 60
    assert not any(process.is_alive() for process in processes)


def test_workers_without_work_end_by_themselves() -> None:
    """So that what their libraries tidy up at an exit is tidied up; who is at work is stopped."""
    with Workers(1) as workers:
        assert dict(workers.play([(time.sleep, (0,))]))[0].error == ""
        (worker,) = workers._workers
    assert worker.process.exitcode == 0


# -- how many at a time ------------------------------------------------------------------------------------


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "cpu_count", lambda: 4)
    monkeypatch.setattr(playing, "MEMORY_A_RUN", 1)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("count", "overrides", "expected"),
    [
        (4, (), 4),
        (9, (), 4),
        (3, (), 1),
        (9, ("engine.threads_per_worker=2",), 2),
        (9, ("engine.workers=2",), 1),
        (9, ("engine.gpus_per_worker=1",), 1),
        (9, ("engine.address=auto",), 1),
        (9, ("engine=inline",), 1),
        (0, (), 1),
    ],
)
def test_places(count: int, overrides: tuple[str, ...], expected: int) -> None:
    assert places(jobs(count, *overrides), run) == expected


@pytest.mark.usefixtures("four_cores")
def test_the_user_has_the_last_word_on_places() -> None:
    assert places(jobs(9, parallel=2), run) == 2
    assert places(jobs(9, parallel=1), run) == 1
    assert places(jobs(3, "engine=inline", parallel=8), run) == 3
    with pytest.raises(ConfigError, match="neither GPUs nor a cluster"):
        places(jobs(9, "engine.gpus_per_worker=1", parallel=2), run)
    assert places(jobs(9, parallel=2), lambda config, out: None) == 1  # no other process can import that


def test_memory_limits_the_places(four_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "MEMORY_A_RUN", 2**62)
    assert places(jobs(9), run) == 1


def test_the_override_is_not_one_of_the_runs() -> None:
    assert take_parallel(["seed=1", "sweep.parallel=3"]) == (["seed=1"], 3)
    assert take_parallel(["seed=1"]) == (["seed=1"], None)
    assert [job.parallel for job in sweep.plan([*WORDS, "seed=1,2", "sweep.parallel=2"])] == [2, 2]


# -- whole runs --------------------------------------------------------------------------------------------


def test_runs_side_by_side_have_the_numbers_of_runs_alone(tmp_path: Path) -> None:
    """One of three runs fails; the numbers of the others are those of a run in this process."""
    words = [*WORDS, "method=fedavg,local", "seed=1", f"out={tmp_path / 'sweep'}", "sweep.parallel=2"]
    together = sweep.plan(words)
    broken = Job(together[0].config | {"out": str(tmp_path / "broken"), "participation": 99}, parallel=2)
    assert sweep.carry_out([broken, *together], run) == 1
    assert broken.status == "failed: participation=99 is more than the 4 clients that train"
    assert [job.status for job in together] == ["done", "done"]
    assert (tmp_path / "compare.md").exists()
    alone = resolve([*WORDS, "method=local", "seed=1", "engine=inline", f"out={tmp_path / 'alone'}"])
    run(alone, tmp_path / "alone")
    here, there = (
        pd.read_parquet(folder / "clients.parquet") for folder in (tmp_path / "alone", together[1].out)
    )
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert [job.status for job in sweep.plan(words)] == ["done before"] * 2


def test_a_run_that_was_begun_on_ray_goes_on_in_this_process(tmp_path: Path) -> None:
    both = jobs(2, parallel=2)
    for job, engine in zip(both, ("ray", "inline"), strict=True):
        job.config["out"] = str(tmp_path / engine)
        job.out.mkdir()
        choices = job.config["choices"] | {"engine": engine}
        (job.out / "config.yaml").write_text(yaml.safe_dump(job.config | {"choices": choices}))
    here: list[Path] = []
    with player(both, run, here.append) as play:
        assert [job.status for job in play(both)] == ["done", "done"]
    assert here == [tmp_path / "ray"]  # another process filled a copy of the list
