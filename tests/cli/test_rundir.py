"""The run folder's rules and its files."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedkd.errors import ConfigError
from simulations import rundir
from simulations.config import config_hash, resolve


@pytest.fixture
def config(toy: Path) -> dict[str, Any]:
    return resolve(["out=here"])


def finish(config: dict[str, Any]) -> Path:
    with rundir.claim(config) as out:
        rundir.write_text(out / rundir.SUMMARY, "{}")
    return out


def test_a_run_is_absent_then_unfinished_then_finished(config: dict[str, Any]) -> None:
    out = Path(config["out"])
    assert rundir.standing(out) == "absent"
    with rundir.claim(config):
        assert rundir.standing(out) == "unfinished"
    finish(config | {"overwrite": True})
    assert rundir.standing(out) == "finished"
    assert rundir.is_done(config)


def test_an_unfinished_run_is_refused_with_the_command_that_goes_on(config: dict[str, Any]) -> None:
    with rundir.claim(config):
        pass
    with pytest.raises(ConfigError, match="unfinished run is there; `fedkd resume here` goes on"):
        rundir.is_done(config)


def test_the_configuration_is_written_with_what_it_ran_on(config: dict[str, Any]) -> None:
    out = finish(config)
    written = yaml.safe_load((out / "config.yaml").read_text())
    assert written["about"]["hash"] == config_hash(config)
    assert written["about"]["versions"]["torch"]
    assert "git_commit" in written["about"]
    assert rundir.load_config(out) == config


def test_overwriting_starts_anew_in_run_folders_only(config: dict[str, Any]) -> None:
    out = finish(config)
    (out / "figures").mkdir()
    (out / "figures" / "old.png").write_text("old")
    with rundir.claim(config | {"overwrite": True}):
        assert {path.name for path in out.iterdir()} <= {"config.yaml", ".lock"}
    Path("papers").mkdir()
    Path("papers/thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="out=papers: the folder holds files that are not of a run"):
        rundir.claim(config | {"overwrite": True, "out": "papers"}).__enter__()
    assert Path("papers/thesis.tex").read_text() == "years of work"


def test_a_folder_below_a_file_is_refused_before_anything_is_built(config: dict[str, Any]) -> None:
    Path("notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"out=notes\.txt/a/b: 'notes\.txt' is a file"):
        rundir.standing(Path("notes.txt/a/b"))


def test_another_configurations_run_is_not_taken_for_this_one(config: dict[str, Any]) -> None:
    finish(config)
    assert rundir.is_done(resolve(["out=here", "engine=inline"]))
    for other in ("seed=1", "rounds=3"):
        with pytest.raises(ConfigError, match="out=here: a run of another configuration is there"):
            rundir.is_done(resolve(["out=here", other]))


def try_to_hold(out: Path, answer: Any) -> None:
    try:
        with rundir.hold(out):
            answer.put("held")
    except ConfigError as error:
        answer.put(str(error))


def test_two_processes_never_hold_the_same_folder(config: dict[str, Any]) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    for expected in ("another process is writing there", "held"):
        process = context.Process(target=try_to_hold, args=(Path("here").absolute(), answer))
        if expected == "held":
            process.start()
        else:
            with rundir.claim(config):
                process.start()
                process.join()
        process.join()
        assert expected in answer.get(timeout=20)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.csv"
    rundir.write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="killed"), rundir.replacing(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError("killed")
    assert path.read_bytes() == b"old"
    rundir.write_text(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "is not a run folder"), ("{", "cannot be read"), ("a: 1", "is not the configuration")],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        rundir.load_config(tmp_path)
