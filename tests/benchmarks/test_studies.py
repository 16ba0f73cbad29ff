"""A study as it is started from a shell: killed again and again, it ends in the same table."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks import studies
from benchmarks.studies import Study

TINY = Study(
    "tiny",
    "A tiny study",
    "Four clients.",
    "baselines_fashion",
    ("local", "fedavg"),
    trials=2,
    seeds="1",
    more=("data.max_samples=400", "clients=4", "rounds=2", "evaluate_every=2", "engine=inline"),
)


def start(out: Path) -> subprocess.Popen[bytes]:
    words = (
        "from pathlib import Path; from tests.benchmarks.test_studies import TINY; "
        f"TINY.play(Path({str(out)!r}), 'page')"
    )
    return subprocess.Popen([sys.executable, "-c", words], start_new_session=True)


def kill_after(out: Path, pattern: str) -> None:
    """Start, and end all of its processes by SIGKILL as soon as there is such a file."""
    process = start(out)
    while not any(out.glob(pattern)):
        assert process.poll() is None, "it ended by itself"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def table(out: Path) -> pd.DataFrame:
    found = pd.read_csv(out / "tiny" / "page" / "compare.csv")
    return found[[name for name in found if "seconds" not in name]]


def test_killed_and_started_again_it_ends_in_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after(tmp_path / "killed", "tiny/tuned/trials/*/summary.json")
    kill_after(tmp_path / "killed", "tiny/runs/*/summary.json")
    for out in ("killed", "whole"):
        assert start(tmp_path / out).wait() == 0
    pd.testing.assert_frame_equal(table(tmp_path / "killed"), table(tmp_path / "whole"), check_exact=True)
    chosen = [
        yaml.safe_load((tmp_path / out / "tiny" / "tuned" / "fedavg.yaml").read_text())["chosen"]
        for out in ("killed", "whole")
    ]
    assert chosen[0] == chosen[1]
    monkeypatch.setattr(studies, "DOCS", tmp_path)
    page = TINY.section(tmp_path / "whole", "page")
    assert "fedkd tune experiment=baselines_fashion method=local,fedavg data.max_samples=400" in page
    assert (
        page.count("\n| fedavg | local.lr=") == 1
        and (tmp_path / "figures" / "page_tiny_tradeoff.png").exists()
    )


def test_a_page_keeps_the_sections_of_studies_that_are_not_played_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "DOCS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# Old head\n\n## A tiny study\n\n| a table |\n\n## Gone\n\nnothing\n")
    studies.write("page", "# Head\n", [TINY], tmp_path / "nowhere")
    assert page.read_text() == "# Head\n\n## A tiny study\n\n| a table |\n"
