"""What `track=tensorboard` wrote, read back by TensorBoard itself."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.app import ArrayRecord

from fedkd.errors import ConfigError
from simulations.config import resolve
from simulations.loop import Plan, Round
from simulations.observe import Exchange
from simulations.run import prepare, run
from simulations.tracking import TensorBoard

TINY = ["engine=inline", "clients=4", "rounds=3", "model=mlp", "data.max_samples=300", "method=fedavg_ft"]


def read(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "histograms": 0})
    events.Reload()
    from tensorboard.util.tensor_util import make_ndarray

    tags = events.Tags()["tensors"]
    return {tag: {e.step: float(make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)} for tag in tags}


def test_every_figure_of_rounds_csv_can_be_read_back(tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = resolve([*TINY, "evaluate_every=2", "track=tensorboard", f"out={out}"])
    run(config, out)
    found, rounds = read(out / "tensorboard"), pd.read_csv(out / "rounds.csv", index_col="round")
    for tag, column in {
        **{f"fairness/{name}": name for name in ("mean", "worst10", "best10", "gini", "null_worst10")},
        **{f"cost/{name}": name for name in ("bytes_up", "bytes_down", "seconds", "failures")},
        "method/train_loss": "train_loss",
    }.items():
        written = rounds[column].dropna().to_dict()
        assert found[tag] == pytest.approx(written, rel=1e-6), tag
    assert set(found["fairness/mean"]) == {2, 3}


def test_the_histogram_counts_every_client(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    run(resolve([*TINY, "track=tensorboard", f"out={out}"]), out)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    rows = pd.read_parquet(out / "clients.parquet")
    rows = rows.query("split == 'test' and stage == 'before' and model == 'personal'")
    for event in events.Histograms("clients/accuracy"):
        accuracy = rows[rows["round"] == event.step]["accuracy"]
        value = event.histogram_value
        assert (value.num, value.min, value.max) == (4, accuracy.min(), accuracy.max())
        assert value.sum == pytest.approx(accuracy.sum())


def test_going_on_from_a_round_replaces_what_came_after_it(tmp_path: Path) -> None:
    for first, level in ((1, 0.1), (2, 0.2)):
        tracker = TensorBoard(tmp_path)
        tracker.started(Plan(0, 3, first))
        for number in range(first, 4):
            tracker.round_done(
                Round(number, Exchange(bytes_up=Counter()), metrics={"cut": level}), ArrayRecord()
            )
        tracker.finished()
    found = read(tmp_path / "tensorboard")["method/cut"]
    assert found == {1: np.float32(0.1), 2: np.float32(0.2), 3: np.float32(0.2)}


def test_a_run_without_tracking_writes_none_and_a_missing_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run(resolve([*TINY, "rounds=1", f"out={out}"]), out)
    assert not (out / "tensorboard").exists()
    monkeypatch.setattr("simulations.tracking.find_spec", lambda name: None)
    assert importlib.util.find_spec("tensorboard") is not None
    with pytest.raises(ConfigError, match=r"^track=tensorboard: the package tensorboard is needed"):
        prepare(resolve([*TINY, "track=tensorboard"]))
