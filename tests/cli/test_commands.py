"""The commands in one process: help, list, single runs and sweeps over a run that only writes its folder."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulations import rundir, sweep
from simulations.cli import available, main
from simulations.overrides import expand_sweep

Started = list[tuple[str, int]]


@pytest.fixture
def started(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """Runs that were started, as (method, seed); seed 13 raises, seed 99 is interrupted."""
    calls: Started = []

    def run(config: dict[str, Any], out: Path) -> None:
        calls.append((config["choices"]["method"], config["seed"]))
        with rundir.claim(config) as folder:
            if config["seed"] == 13:
                raise RuntimeError("bad luck")
            if config["seed"] == 99:
                raise KeyboardInterrupt
            rundir.write_text(folder / rundir.SUMMARY, '{"mean": 0.8125, "worst10": 0.5}')

    module = types.ModuleType("simulations.run")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "simulations.run", module)
    fit = types.ModuleType("simulations.fit")
    fit.check_fit = list  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "simulations.fit", fit)
    monkeypatch.setattr("simulations.commands.run._resume", lambda: None)
    yield calls


def test_help_shows_every_command_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    page = capsys.readouterr().out
    assert {"run", "partition", "list"} <= set(available())
    for name, module in available().items():
        assert f"  {name:<10} {module.SUMMARY}\n" in page
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: fedkd {name}" in capsys.readouterr().out


def test_list_shows_the_comment_or_the_docstring(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods"]) == 0
    assert capsys.readouterr().out.split()[1:] == [
        "fedavg_ft",
        "The",
        "default.",
        "fedprox",
        "Averages,",
        "tied.",
    ]
    assert main(["list"]) == 0
    assert "Label skew." in capsys.readouterr().out


def test_a_finished_run_is_not_repeated(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "seed=4"]) == main(["run", "seed=4"]) == 0
    assert started == [("fedavg_ft", 4)]
    assert "this run is finished: runs/fedavg_ft-fashion_mini-" in capsys.readouterr().out
    assert main(["run", "seed=4", "overwrite=true"]) == 0
    assert len(started) == 2


def test_an_interrupted_run_tells_how_to_go_on(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "seed=99", "out=here"]) == 130
    assert "fedkd: interrupted; `fedkd resume here` goes on" in capsys.readouterr().err
    assert main(["run", "seed=99", "out=here"]) == 2
    assert "an unfinished run is there" in capsys.readouterr().err


def test_a_sweep_runs_what_is_left_and_survives_a_failure(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["run", "method=fedavg_ft,fedprox", "-m", "seed=1,13"]
    assert main(line) == 1
    assert started == [("fedavg_ft", 1), ("fedavg_ft", 13), ("fedprox", 1), ("fedprox", 13)]
    told = capsys.readouterr()
    assert "4 runs, 0 of them finished before" in told.out
    assert "0.8125" in told.out
    assert "failed: RuntimeError: bad luck" in told.err
    started.clear()
    assert main(line) == 1
    assert started == []  # two are finished; two are unfinished, which only `resume` goes on with
    assert "4 runs, 2 of them finished before" in capsys.readouterr().out


def test_nothing_starts_before_all_combinations_are_good(started: Started, toy: Path) -> None:
    assert main(["run", "-m", "partition.alpha=1,0.1,-1"]) == 2
    assert main(["run", "-m", "clients=5,20", "participation=10"]) == 2
    assert started == []
    assert list(toy.iterdir()) == []


def test_an_interrupted_sweep_stops(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "seed=99,1"]) == 130
    assert started == [("fedavg_ft", 99)]
    assert "the same command again does what is left" in capsys.readouterr().err


def test_a_sweep_goes_on_with_unfinished_runs_where_that_is_possible(started: Started) -> None:
    assert main(["run", "-m", "seed=13"]) == 1
    resumed: list[Path] = []
    jobs = sweep.plan(["seed=13,14"])
    failed = sweep.carry_out(jobs, lambda config, out: None, resumed.append)
    assert failed == 0
    assert resumed == [jobs[0].out]


def test_out_holds_the_runs_of_a_sweep_and_equal_runs_count_once(toy: Path) -> None:
    jobs = sweep.plan(["seed=1,2", "participation=1,1.0", "out=demo"])
    assert [job.out.parent for job in jobs] == [Path("demo")] * 2
    assert [job.out.name[-2:] for job in jobs] == ["s1", "s2"]


def test_a_sweep_is_the_product_in_the_order_it_was_written() -> None:
    assert expand_sweep(["a=1,2", "b=x", "c=range(0,4,2)", "d='p,q'"]) == [
        ["a=1", "b=x", "c=0", "d='p,q'"],
        ["a=1", "b=x", "c=2", "d='p,q'"],
        ["a=2", "b=x", "c=0", "d='p,q'"],
        ["a=2", "b=x", "c=2", "d='p,q'"],
    ]
