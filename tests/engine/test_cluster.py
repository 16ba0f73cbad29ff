"""A whole run on a Ray cluster of several nodes."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_on_a_cluster_has_the_numbers_of_one_process(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.engine.cluster_run", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert "equal" in done.stdout, done.stderr[-3000:]
