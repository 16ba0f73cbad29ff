"""The studies of the data-free page: every command is understood, and the one-shot table by hand."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.data_free import STUDIES
from benchmarks.one_shot import ROWS, OneShot, table
from simulations.config import resolve
from simulations.overrides import expand_sweep


def test_every_command_resolves() -> None:
    places = ("-m", "trials=", "tuned=", "out=", "seed=")
    commands = [command for study in STUDIES for command in study.commands(Path("nowhere"), "page")]
    kept = [
        tuple(word for word in words if not word.startswith(places))
        for _, command, *words in commands
        if command != "compare"
    ]
    for words in dict.fromkeys(kept):
        for overrides in expand_sweep(words):
            resolve(overrides)


def test_names_are_folders_of_their_own() -> None:
    assert len({study.name for study in STUDIES}) == len(STUDIES)


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
