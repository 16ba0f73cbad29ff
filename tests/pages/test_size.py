"""Large runs: how big the page is, how long it takes, and how much memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from simulations.config import resolve

CLASSES = [
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]
MEASURE = """
import resource, sys, time
from pathlib import Path
from simulations.report import write_report
begun = time.perf_counter()
write_report(Path(sys.argv[1]))
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def made_up(out: Path, clients: int, rounds: int) -> Path:
    """A folder as a run of that size leaves it: two models, two splits, counts, weights, failures."""
    out.mkdir()
    config = resolve([f"clients={clients}", f"rounds={rounds}", "method=fedd2s_robust", "model=mlp"])
    (out / "config.yaml").write_text(yaml.safe_dump({**config, "out": str(out)}))
    chance, who = np.random.default_rng(0), np.arange(clients)
    total = [chance.multinomial(30, mix).tolist() for mix in chance.dirichlet(np.full(10, 0.3), clients)]
    skill = chance.uniform(0.4, 0.9, clients)
    told, multipliers, writer = [], [], None
    for number in range(1, rounds + 1):
        parts = []
        for which in [(split, model) for split in ("val", "test") for model in ("personal", "global")]:
            cells = {"round": number, "client": who, "split": which[0], "model": which[1], "stage": "before"}
            right = chance.binomial(30, skill * (1 - 0.5 ** (number / 20))) / 30
            counts = {"class_correct": total, "class_total": total, "bin_count": [[2] * 15] * clients}
            parts.append(
                pd.DataFrame({**cells, "num_examples": 30, "loss": 1.5, "accuracy": right, **counts})
            )
        table = pa.Table.from_pandas(pd.concat(parts), preserve_index=False)
        writer = writer or pq.ParquetWriter(out / "clients.parquet", table.schema)
        writer.write_table(table)
        figures = {"mean": right.mean(), "worst10": 0.3, "best10": 0.8, "cut": 1 + (number < 50)}
        spent = {"bytes_up": 10**7, "bytes_down": 10**7, "bytes_up_head": 10**7, "seconds": 1.0}
        told.append({"round": number, **figures, **spent, "failures": int(number % 7 == 0), "retries": 0})
        weight = {"base": 1 / clients, "weight": chance.dirichlet(np.full(clients, 50.0)), "scale": 1.0}
        multipliers.append(pd.DataFrame({"round": number, "client": who, **weight, "risk": 0.5}))
    assert writer is not None
    writer.close()
    pd.DataFrame(told).to_csv(out / "rounds.csv", index=False)
    pd.concat(multipliers).to_csv(out / "multipliers.csv", index=False)
    people = {"client": who, "name": who, "unseen": False, "train": 100, "val": 30, "test": 30}
    mix = pd.DataFrame(total, columns=CLASSES)
    pd.concat([pd.DataFrame(people), mix], axis=1).to_csv(out / "population.csv", index=False)
    (out / "summary.json").write_text("{}")
    return out


def measured(out: Path) -> tuple[float, float]:
    """Seconds and gigabytes that the report of a folder takes, in a process of its own."""
    words = [sys.executable, "-c", MEASURE, str(out)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return float(told[-2]), float(told[-1])


def test_a_hundred_clients_over_a_hundred_rounds_fit_into_six_megabytes(tmp_path: Path) -> None:
    out = made_up(tmp_path / "run", 100, 100)
    measured(out)
    assert (out / "report.html").stat().st_size < 6e6


@pytest.mark.slow
def test_a_thousand_clients_over_two_hundred_rounds_take_twenty_seconds_and_two_gigabytes(
    tmp_path: Path,
) -> None:
    out = made_up(tmp_path / "run", 1000, 200)
    seconds, gigabytes = measured(out)
    assert seconds < 20
    assert gigabytes < 2
