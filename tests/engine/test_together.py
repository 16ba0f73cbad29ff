"""Whole runs whose cohorts are trained as one stacked network equal those of one client after another."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.drivers import difference
from clients.runtime import Runtime
from fedkd.data.resident import ResidentFederation
from fedkd.training import cohort
from simulations.config import resolve
from simulations.recorder import read_rows
from simulations.run import run

TINY = ["model=mlp", "model.hidden=[6]", "clients=5", "data.max_samples=150", "participation=4", "rounds=2"]
TINY += ["local.batch_size=8", "evaluation.mix_samples=0"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.report.write_report", lambda out: [])
    monkeypatch.setattr(cohort, "_told", set())


def both(folder: Path, *overrides: str) -> tuple[Path, Path]:
    """The folders of a run with stacked cohorts and of the same run without."""
    outs = folder / "together", folder / "alone"
    for out, vectorise in zip(outs, ("true", "false"), strict=True):
        run(resolve(["engine=inline", *TINY, *overrides, f"engine.vectorise={vectorise}"]), out)
    return outs


def assert_near(one: Path, other: Path) -> None:
    losses = [read_rows(out)["loss"] for out in (one, other)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


ANY_PRECISION = [
    "centralized",
    "fd",
    "fedavg_ft",
    "fedbabu",
    "fedbn",
    "feddbe",
    "fedkd",
    "fedper",
    "fedproto",
]


@pytest.mark.parametrize("method", ANY_PRECISION)
def test_in_float64_nothing_differs(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, network = ResidentFederation._features, Runtime._network
    monkeypatch.setattr(ResidentFederation, "_features", lambda self, raw: features(self, raw).double())
    monkeypatch.setattr(Runtime, "_network", lambda self, node: network(self, node).double())
    assert difference(*both(tmp_path, f"method={method}", "model.norm=group")) < 1e-12
    assert not cohort._told


@pytest.mark.parametrize("method", ["fedd2s", "fedgkt", "fedmd"])
def test_where_the_server_works_in_float32_only_roundings_differ(method: str, tmp_path: Path) -> None:
    assert_near(*both(tmp_path, f"method={method}"))
    assert not cohort._told


def test_closures_fall_back_and_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert_near(*both(tmp_path, "method=fedgen"))
    assert "one after another under clients.fedgen" in caplog.text


def test_the_rule_is_written_into_the_configuration(tmp_path: Path) -> None:
    settled = {}
    for name, chosen in (("unsaid", "null"), ("chosen", "true")):
        config = resolve(["engine=inline", *TINY, f"engine.vectorise={chosen}", "rounds=1"])
        run(config, tmp_path / name)
        settled[name] = config["engine"]["vectorise"], config["engine"]["cohort_size"]
    assert settled == {"unsaid": (False, None), "chosen": (True, 10)}


def test_ray_and_inline_give_the_same_bits(tmp_path: Path) -> None:
    words = [*TINY, "method=ditto", "engine.vectorise=true", "engine.cohort_size=2"]
    outs = [tmp_path / name for name in ("inline", "ray")]
    for out in outs:
        run(
            resolve([f"engine={out.name}", *(["engine.workers=2"] if out.name == "ray" else []), *words]), out
        )
    assert difference(*outs) == 0
