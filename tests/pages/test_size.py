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
from simulations.report import write_page
from simulations.reporting.folder import RunFolder
from tests.pages.reading import charts

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
import re, sys, time
from pathlib import Path
from simulations.report import write_report
write_report(Path(sys.argv[1]))
# getrusage would also count the memory of the process that this one was started from
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(time.process_time(), int(peak) / 1e6)
"""


def made_up(out: Path, clients: int, rounds: int) -> Path:
    """A folder as a run of that size leaves it: two models, two splits, counts, weights, cuts, failures."""
    out.mkdir()
    config = resolve([f"clients={clients}", f"rounds={rounds}", "method=fedd2s_robust", "model=mlp"])
    (out / "config.yaml").write_text(yaml.safe_dump({**config, "out": str(out)}))
    chance, who = np.random.default_rng(0), np.arange(clients)
    total = np.stack([chance.multinomial(30, mix) for mix in chance.dirichlet(np.full(10, 0.3), clients)])
    accuracy = rows_of(out, total, rounds, chance)
    mean = accuracy.mean(axis=1)
    number = np.arange(1, rounds + 1)
    told = {"round": number, "mean": mean, "worst10": 0.3, "best10": 0.8, "cut": 1 + (number < 50)}
    spent = {"bytes_up": 10**7, "bytes_down": 10**7, "bytes_up_head": 10**7, "seconds": 1.0}
    faults = {"failures": (number % 7 == 0).astype(int), "retries": 0}
    pd.DataFrame(told | spent | faults).to_csv(out / "rounds.csv", index=False)
    long = pd.DataFrame({"round": np.repeat(number, clients), "client": np.tile(who, rounds)})
    weight = chance.dirichlet(np.full(clients, 50.0), rounds).ravel().round(8)
    long.assign(base=1 / clients, weight=weight, scale=1.0, risk=0.5).to_csv(
        out / "multipliers.csv", index=False
    )
    long.assign(cut=chance.integers(1, 4, len(long))).to_csv(out / "cuts.csv", index=False)
    people = {"client": who, "name": who, "unseen": False, "train": 100, "val": 30, "test": 30}
    mix = pd.DataFrame(total, columns=CLASSES)
    pd.concat([pd.DataFrame(people), mix], axis=1).to_csv(out / "population.csv", index=False)
    (out / "summary.json").write_text("{}")
    return out


def rows_of(out: Path, total: np.ndarray, rounds: int, chance: np.random.Generator) -> np.ndarray:
    """Write `clients.parquet`; accuracy of the last of four models and splits, by round and client."""
    clients = len(total)
    skill = chance.uniform(0.4, 0.9, clients) * (1 - 0.5 ** (np.arange(1, rounds + 1)[:, None] / 20))
    kinds = [(split, model) for split in ("val", "test") for model in ("personal", "global")]
    accuracy = chance.binomial(30, skill, (len(kinds), rounds, clients)) / 30
    counts = pa.array(np.tile(total, (len(kinds), 1)).tolist())
    fixed = {"stage": "before", "num_examples": 30, "loss": 1.5}
    same = {"class_correct": counts, "class_total": counts}
    same["bin_count"] = pa.array([[2] * 15] * (len(kinds) * clients))
    same |= {key: pa.array([value] * (len(kinds) * clients)) for key, value in fixed.items()}
    same["split"], same["model"] = (pa.array(np.repeat(names, clients)) for names in zip(*kinds, strict=True))
    same["client"] = pa.array(np.tile(np.arange(clients), len(kinds)))
    tables = [
        pa.table(
            {"round": [number + 1] * (len(kinds) * clients), "accuracy": accuracy[:, number].ravel(), **same}
        )
        for number in range(rounds)
    ]
    pq.write_table(pa.concat_tables(tables), out / "clients.parquet")
    return accuracy[-1]


def measured(out: Path) -> tuple[float, float]:
    """Seconds (of this process, whatever else the machine does) and gigabytes that a report takes."""
    words = [sys.executable, "-c", MEASURE, str(out)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return float(told[-2]), float(told[-1])


def test_a_hundred_clients_over_a_hundred_rounds_fit_into_six_megabytes(tmp_path: Path) -> None:
    page = write_page(RunFolder(made_up(tmp_path / "run", 100, 100)))
    assert page.stat().st_size < 6e6
    assert {"clients-chart", "weights-chart", "client-cuts-chart"} <= charts(page).keys()


@pytest.mark.slow
def test_a_thousand_clients_over_two_hundred_rounds_take_twenty_seconds_and_two_gigabytes(
    tmp_path: Path,
) -> None:
    out = made_up(tmp_path / "run", 1000, 200)
    seconds, gigabytes = measured(out)
    assert seconds < 20
    assert gigabytes < 2
