"""Every command of docs/tutorial.md, run in its order; what the page promises is there afterwards."""

import re
import shlex
from pathlib import Path

import pytest

from simulations.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
SMALLER = ["engine=inline", "data.max_samples=400"]


def commands() -> list[str]:
    return [line.strip() for line in PAGE.splitlines() if line.startswith("    fedkd ")]


def demo() -> str:
    """What `make demo` runs."""
    recipe = (ROOT / "Makefile").read_text().partition("\ndemo:")[2].split("\n\n")[0]
    return " ".join(recipe.partition("fedkd ")[2].replace("\\\n", " ").split())


def tried(words: list[str]) -> int:
    """A command at reduced size, where it plays a run."""
    return main([*words, *SMALLER] if words[0] == "run" else words)


def test_the_walk_from_the_demonstration_to_a_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["clients=4", "rounds=2", "model=mlp"]
    assert "    make demo\n" in PAGE
    kept = [word for word in shlex.split(demo()) if not word.startswith(("clients", "rounds", "model"))]
    assert tried([*kept, *few]) == 0, capsys.readouterr().err
    assert len(commands()) == 5
    for line in commands():
        assert tried(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    for page in re.findall(r"runs/\w+/\w+\.(?:html|parquet)", PAGE):
        assert (tmp_path / page).stat().st_size > 1000, page
    for line in re.findall(r"`fedkd ((?:resume|report) \S+)`", PAGE):
        assert tried(shlex.split(line)) == 0, line


def test_every_picture_and_page_that_is_named_exists() -> None:
    named = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(named) >= 6
    assert all((ROOT / "docs" / place).exists() for place in named)
