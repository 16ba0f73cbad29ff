"""The studies of the data-free page: the one-shot table by hand and from end to end."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.data_free import FLAGSHIP, WITHOUT
from benchmarks.one_shot import ROWS, OneShot, table
from clients.fedd2s_robust import FedD2SRobust
from simulations.config import resolve


@pytest.mark.parametrize("off", WITHOUT)
def test_what_was_tuned_goes_with_each_ingredient_off(off: str) -> None:
    words = dict(word.split("=", 1) for word in WITHOUT[off])
    for key, choices in FedD2SRobust.search_space.items():
        words.setdefault(key, str(choices["low"] if isinstance(choices, dict) else choices[0]))
    resolve([f"method={FLAGSHIP}", "data=fashion_mini", *(f"{key}={value}" for key, value in words.items())])


def test_the_share_of_the_way_by_hand() -> None:
    reached = dict.fromkeys(ROWS, 0.5) | {"fedavg": 0.25, "ensemble": 0.75, "noise": 0.25}
    frame = pd.DataFrame([{"seed": 1, "row": row, "accuracy": value} for row, value in reached.items()])
    lines = {line.split("|")[1].strip(): line for line in table(frame).splitlines() if line.startswith("|")}
    assert "| 0.500 ± 0.000 | 0.50 ± 0.00 | 0.50 |" in lines["DENSE"]
    assert "| 0.25 ± 0.00 |" not in lines["placebo: noise"] and "| 0.00 ± 0.00 |" in lines["placebo: noise"]
    assert "| 1.00 ± 0.00 |" in lines["ensemble of the clients (ceiling)"]


@pytest.mark.slow
def test_one_shot_from_end_to_end(tmp_path: Path) -> None:
    small = ("data=fashion_mini", "data.max_samples=200", "model.width=2", "local.epochs=1")
    quick = tuple(f"method.strategy.scheme.{key}" for key in ("epochs=2", "batch_size=8", "steps=2"))
    study = OneShot("tiny", "t", "s", "dense_fashion", (), 0, "1", ("engine=inline", *small, *quick))
    study.play(tmp_path, "data_free")
    text = study.section(tmp_path, "data_free")
    assert all(name in text for name in ROWS.values()) and "nan" not in text
