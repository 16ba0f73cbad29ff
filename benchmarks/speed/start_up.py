"""From the command to the end of round 1 of the demo, under this project's engine and under Flower's own."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.contest import ROOT

DEMO = ["method=fedavg_ft", "clients=20", "partition=dirichlet", "partition.alpha=0.3", "model.width=16"]
DEMO += ["rounds=1"]


def until_round_one(flower: bool) -> float:
    """Seconds until the first round is in `rounds.csv`."""
    module = "benchmarks.speed.start_up" if flower else "simulations.cli"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [sys.executable, "-m", module, *([] if flower else ["run"]), *DEMO, f"out={out}"]
        began = time.perf_counter()
        quiet = subprocess.DEVNULL
        with subprocess.Popen(words, cwd=ROOT, stdout=quiet, stderr=quiet) as process:
            while not _lines(out / "rounds.csv") > 1:
                if process.poll() is not None and not _lines(out / "rounds.csv") > 1:
                    raise RuntimeError(f"{' '.join(words)} ended without a round")
                time.sleep(0.005)
            return time.perf_counter() - began


def _lines(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


def under_flower(words: list[str]) -> None:
    """The same run under `flwr.simulation`."""
    from flwr.simulation import run_simulation

    from clients.app import app
    from simulations.config import resolve
    from simulations.server_app import make_server_app

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(make_server_app(resolve(words)), app, num_supernodes=20, backend_config=resources)  # type: ignore[arg-type]


if __name__ == "__main__":
    under_flower(sys.argv[1:])
