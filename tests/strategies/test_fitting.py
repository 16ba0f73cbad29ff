"""An upload of another shape costs one reply, whichever method it is for, and not the run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from clients import app
from simulations.config import resolve
from simulations.run import run
from strategies.fitting import misfit

TINY = ["engine=inline", "engine.raise_errors=false", "data.max_samples=300", "model=cnn", "clients=4"]
TINY += ["rounds=2", "evaluation.mix_samples=0"]
UPLOADS = {
    "fd": ["class_logits/counts"],
    "fedproto": ["prototypes/table"],
    "fedtgp": ["prototypes/counts"],
    "feddbe": ["feature_mean/mean"],
    "fedmd": ["public_logits/logits"],
    "scaffold": ["control/blocks.0.0.weight"],
    "fedkd": ["update/blocks.0.0.weight/u"],
    "ccvr": ["statistics/means"],
    "fedgen": ["label_counts/counts", "arrays/blocks.0.0.weight"],
    "dafkd": ["discriminator/weight"],
    "feddf model.per_client=[cnn,mlp] method.client.own_model=true method.strategy.student=initial": [
        "model/blocks.0.0.bias"
    ],
    "fedd2s": ["representations/z", "soft_labels/p", "representations/ids"],
    "fedd2s method.strategy.protocol=heads": ["head/blocks.2.1.bias"],
    "fedd2s method.strategy.head_growth=mean": ["soft_labels/p"],
    "fedavg weighting=drfa local.steps=2": ["snapshot/blocks.0.0.bias"],
    "fedd2s_robust": ["label_counts/counts"],
}


def content(**records: dict[str, tuple[int, ...]]) -> RecordDict:
    made = {
        record: ArrayRecord({name: Array(np.zeros(shape)) for name, shape in arrays.items()})
        for record, arrays in records.items()
    }
    return RecordDict(made)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"a": {"z": (5, 3), "y": (5,)}}, None),
        ({"a": {"z": (5, 3), "y": (4,)}}, "'a' has 'y' of shape (4,), (5,) is needed"),
        ({"a": {"z": (5, 2), "y": (5,)}}, "'a' has 'z' of shape (5, 2), (5, 3) is needed"),
        ({"a": {"z": (5,), "y": (5,)}}, "'a' has 'z' of shape (5,), (n, 3) is needed"),
        ({"a": {"y": (5,)}}, "'a' lacks 'z'"),
        ({"a": {"z": (5, 3), "y": (5,), "x": (5,)}}, "'a' has the unknown 'x'"),
        ({"b": {"y": (5,)}}, "'a' is missing"),
    ],
)
def test_misfits_are_named(sent: dict[str, Any], said: str | None) -> None:
    assert misfit(content(**sent), {"a": {"z": ("n", 3), "y": ("n",)}}) == said


def play(out: Path, method: str) -> pd.DataFrame:
    run(resolve([*TINY, *f"method={method}".split(), f"out={out}"]), out)
    return pd.read_parquet(out / "clients.parquet")


def grown(array: Array) -> Array:
    """With a row more."""
    values = np.asarray(array.numpy())
    return Array(np.concatenate([values, values[:1]]))


@pytest.mark.parametrize(
    ("method", "place"), [(m, place) for m, places in UPLOADS.items() for place in places]
)
def test_another_shape_is_as_if_the_client_had_failed(
    method: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, (record, name) = app._answered, place.split("/", 1)

    def odd(message: Any, context: Any, *given: Any) -> Any:
        reply = answered(message, context, *given)
        if context.node_config["partition-id"] == 2 and record in reply.content:
            arrays = reply.content.array_records[record]
            arrays[name] = grown(arrays[name])
        return reply

    def failing(message: Any, context: Any, *given: Any) -> Any:
        reply = answered(message, context, *given)
        if context.node_config["partition-id"] == 2 and record in reply.content:
            raise ValueError("no answer")
        return reply

    monkeypatch.setattr(app, "_answered", odd)
    rows = play(tmp_path / "odd", method)
    reasons = {each["reason"] for each in json.loads((tmp_path / "odd/failures.json").read_text())}
    assert all(name in reason or record in reason for reason in reasons)
    monkeypatch.setattr(app, "_answered", failing)
    pd.testing.assert_frame_equal(rows, play(tmp_path / "failed", method))


def test_class_counts_of_another_length_cost_one_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = app._before

    def short(run_: Any, task: Any, state: Any) -> dict[str, Any]:
        told = before(run_, task, state)
        if "class-counts" in told and task.data.client == 2:
            told["class-counts"] = told["class-counts"][:-1]
        return told

    monkeypatch.setattr(app, "_before", short)
    play(tmp_path / "run", "fedavg class_weighting=margin")
    reasons = [each["reason"] for each in json.loads((tmp_path / "run/failures.json").read_text())]
    assert reasons == ["'class-counts' are not 10 numbers"] * 2
