"""The files in docs/examples run alone, and say something sensible."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent / "docs" / "examples"
LINES = {
    "fedd2s": ["each alone", "FedD2S"],
    "fedgen": ["FedAvg", "FedGen"],
    "flagship": ["each alone", "equal weights", "flagship"],
    "afl": ["equal weights", "AFL"],
}


def test_there_is_one_for_each_headline_method_of_about_a_hundred_lines() -> None:
    files = {path.stem: path.read_text() for path in FOLDER.glob("*.py")}
    assert set(files) == set(LINES)
    assert all(len(text.splitlines()) <= 135 for text in files.values())


@pytest.mark.parametrize("name", LINES)
def test_it_runs_alone_and_learns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{name}.py", "--clients", "4", "--rounds", "4", "--samples", "800"]
    monkeypatch.setattr(sys, "argv", words)
    with torch.random.fork_rng():
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    shown = capsys.readouterr().out.splitlines()
    assert [re.split(r"\s+mean", line)[0] for line in shown] == LINES[name]
    for line in shown:
        mean, worst = map(float, re.findall(r"(?:mean|worst tenth) (\d\.\d+)", line))
        assert 0.3 < mean <= 1 and 0 <= worst <= mean  # ten classes: chance is 0.1
    assert len({re.split(r"\s{2,}", line, maxsplit=1)[-1] for line in shown}) == len(shown)
