"""The plug-ins of docs/extend.md, run from the very text of the page."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from simulations.cli import main

PAGE = (Path(__file__).parent.parent / "docs" / "extend.md").read_text()
FILES: dict[str, str] = dict(re.findall(r"<!-- test: (\S+)\.py -->\n```python\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    fedkd ")]
TINY = ["engine=inline", "clients=4", "rounds=2", "model=mlp"]
SMALL = ["data.max_samples=400"]


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with the files of the page."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name, None)


def command(name: str) -> list[str]:
    (line,) = [line for line in COMMANDS if f"{name}." in line]
    small = [] if name == "rings" else SMALL
    return [*shlex.split(line)[1:], *TINY, *small]


def played(words: list[str], out: str) -> pd.DataFrame:
    assert main([*words, f"out={out}"]) == 0
    return pd.read_parquet(Path(out) / "clients.parquet")


def test_the_page_shows_all_seven_in_under_forty_lines_each() -> None:
    assert list(FILES) == [
        *["slow_server", "confident", "squared", "prototypes", "worst_only", "rings", "headline"]
    ]
    assert len(COMMANDS) == len(FILES)
    for name, text in FILES.items():
        assert len(text.splitlines()) < 40, name


@pytest.mark.parametrize("name", [name for name in FILES if name != "headline"])
def test_each_runs_and_changes_the_numbers(name: str, at_home: Path) -> None:
    words = command(name)
    plain = [word for word in words if f"{name}." not in word and not word.startswith(tuple(own_keys(name)))]
    own = played(words, "own")
    assert (at_home / "own" / "summary.json").exists()
    assert not own["loss"].equals(played(plain, "plain")["loss"])


def own_keys(name: str) -> list[str]:
    """The keys that only the plug-in has."""
    keys = {"slow_server": "method.strategy.share", "confident": "method.client.smoothing"}
    keys |= {"squared": "objective.weight", "prototypes": "generator.nz", "worst_only": "weighting.count"}
    return [keys.get(name, "data.points")]


def test_the_slow_server_does_what_it_says(at_home: Path) -> None:
    words = [word for word in command("slow_server") if "share" not in word]
    still = played([*words, "method.strategy.share=0"], "still")
    still = still.query("model == 'global' and split == 'test' and stage == 'before'")
    first, second = (still[still["round"] == number]["loss"].tolist() for number in (1, 2))
    assert first == second
    whole = played([*words, "method.strategy.share=1"], "whole")
    plain = played(["run", "method=fedavg", *TINY, *SMALL], "plain")
    assert whole["loss"].tolist() == pytest.approx(plain["loss"].tolist(), rel=1e-4)


def test_the_callback_says_who_is_worst_off_and_changes_nothing(at_home: Path) -> None:
    own = played(command("headline"), "own")
    rows = own.query("split == 'test' and stage == 'before' and model == 'personal'")
    lines = [line.split() for line in (at_home / "own" / "headline.txt").read_text().splitlines()]
    assert [int(line[0]) for line in lines] == [1, 2]
    for number, _, client, gap in lines:
        accuracy = rows[rows["round"] == int(number)].set_index("client")["accuracy"]
        assert int(client) == accuracy.idxmin()
        assert gap == f"{accuracy.mean() - accuracy.min():.3f}"
    plain = played(["run", *TINY, *SMALL], "plain")
    pd.testing.assert_frame_equal(own, plain)


def test_a_callback_that_is_none_is_refused(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *TINY, *SMALL, "callbacks=[rings.Rings]", "out=own"]) == 2
    assert "'rings.Rings' is no subclass of simulations.loop.Watcher" in capsys.readouterr().err
    assert not (at_home / "own").exists()
