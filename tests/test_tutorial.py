"""Every command of docs/tutorial.md, run in its order; what the page promises is there afterwards."""

import re
import shlex
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from simulations.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
PICTURES = ROOT / "docs" / "pictures"
SMALLER = ["engine=inline", "data.max_samples=400", "rounds=2"]


def commands() -> list[str]:
    return [line.strip() for line in PAGE.splitlines() if line.startswith("    fedkd ")]


def demo() -> str:
    """What `make demo` runs."""
    recipe = (ROOT / "Makefile").read_text().partition("\ndemo:")[2].split("\n\n")[0]
    return " ".join(recipe.partition("fedkd ")[2].replace("\\\n", " ").split())


def tried(words: list[str]) -> int:
    """A command at reduced size, where it plays a run."""
    return main([*words, *SMALLER] if words[0] == "run" else words)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures for papers are made but not drawn: other tests look at them, and they take half the time."""
    dot = Image.new("L", (1, 1))
    monkeypatch.setattr(Figure, "savefig", lambda figure, place, **how: dot.save(place, "PNG"))


def test_the_walk_from_the_demonstration_to_a_comparison(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "    make demo\n" in PAGE
    kept = [word for word in shlex.split(demo()) if not word.startswith(("clients", "model"))]
    assert tried([*kept, "clients=4", "model=mlp"]) == 0, capsys.readouterr().err
    assert len(commands()) == 7
    for line in commands():
        assert tried(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    for page in re.findall(r"runs/\w+/\w+\.(?:html|parquet)", PAGE):
        assert (tmp_path / page).stat().st_size > 1000, page
    in_passing = re.findall(r"`fedkd ((?:resume|report|privacy) \S+)`", PAGE)
    assert len(in_passing) == 3
    for line in in_passing:
        assert tried(shlex.split(line)) == 0, line
    assert '<section id="privacy"' in (tmp_path / "runs" / "first" / "report.html").read_text()


def test_every_picture_is_there_and_the_command_that_makes_it_is_named() -> None:
    shown = set(re.findall(r"!\[[^\]]+\]\(pictures/([^)]+)\)", PAGE))
    made = re.findall(
        r"^    (python docs/pictures/take\.py|cp) (runs/\S+) docs/pictures/(\S+)$", PAGE, re.MULTILINE
    )
    assert {name for _, _, name in made} == shown == {path.name for path in PICTURES.glob("*.png")}
    assert (PICTURES / "take.py").exists()
    written = set(re.findall(r"runs/\w+", "\n".join(commands()))) | {"runs/demo"}
    assert all(any(place.startswith(f"{folder}/") for folder in written) for _, place, _ in made)
