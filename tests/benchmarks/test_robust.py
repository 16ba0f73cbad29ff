"""The studies of the robust page: every command is understood, and the tables that only it has, by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import robust_studies, studies
from benchmarks.robust import NEIGHBOURS, STUDIES
from benchmarks.robust_studies import Attacked, Pairs, Students, away, bad_weight, students, teachers
from fedkd.models import build_model, model_node
from simulations.config import resolve
from simulations.programs import DISTILL


def test_every_experiment_has_its_full_size_beside_it() -> None:
    """Of the same kind of data, and with a model that can be built."""
    for name in {study.experiment for study in STUDIES}:
        main = [DISTILL] if "/" in name else []
        small, full = (resolve([f"experiment={words}"], *main) for words in (name, f"{name}_full"))
        assert small["data"]["_target_"].partition("Mini")[0] in full["data"]["_target_"]
        shape = {"har": (9, 128), "synthetic": (60,), "adult": (108,), "cifar10": (3, 32, 32)}
        inputs = shape.get(full["choices"]["data"], (1, 28, 28))
        for node in (config["student"]["model"] if main else config["model"] for config in (small, full)):
            build_model(model_node(node, 0), inputs, 6, 0)


def test_the_weight_of_bad_clients_by_hand(tmp_path: Path) -> None:
    """Clients 1 and 2 are bad; neither takes part in round 2, and a probe has no weight."""
    rows = [(1, 0, 0.25, 0.5), (1, 1, 0.25, 0.1), (1, 2, 0.5, 0.4), (2, 0, 1.0, 1.0), (2, 1, None, None)]
    told = pd.DataFrame(rows, columns=["round", "client", "base", "weight"])
    told.to_csv(tmp_path / "multipliers.csv", index=False)
    assert bad_weight(tmp_path, {1, 2}) == pytest.approx((0.25, 0.375))


def test_teacher_by_student_by_hand() -> None:
    rows = []
    for seed in (1, 2):
        for t, teacher in enumerate(("standard", "balanced", "robust", "tradeoff")):
            for s, student in enumerate(("standard", "balanced", "robust", "tradeoff")):
                figures = {"mean": 0.5 + 0.1 * t + 0.01 * s + 0.2 * seed, "worst_class": 0.1 * t}
                told = {f"teacher_{name}": 0.1 for name in ("mean", "worst_class", "calibration")}
                rows.append({"seed": seed, "teacher": teacher, "student": student} | figures | told)
    frame = pd.DataFrame(rows)
    assert students(away(frame), "mean", "x").splitlines()[4] == (
        "| robust | 0.200 ± 0.000 | 0.210 ± 0.000 | 0.220 ± 0.000 | 0.230 ± 0.000 |"
    )
    assert students(frame, "worst_class", "x").splitlines()[0] == (
        "| x | standard | balanced | robust | tradeoff |"
    )
    assert teachers(frame).count("| 0.100 ± 0.000 | 0.100 ± 0.000 | 0.100 ± 0.000 |") == 4


def test_attacks_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "DOCS", tmp_path)
    small = ("clients=5", "rounds=1", "data.max_samples=200", "engine=inline", "attack.clients=0.4")
    sweeps = (("method=fedavg", "weighting=samples,eg"),)
    study = Attacked("tiny", "t", "s", "robust_attacks", (), 0, "1", ("attack=scale", *small), sweeps)
    study.play(tmp_path, "page")
    text = study.section(tmp_path, "page")
    named = json.loads(next(tmp_path.glob("tiny/runs/*/bad_clients.json")).read_text())
    assert f"Benign are all clients but these: {', '.join(named)} (attacks, seed 1)." in text
    assert "**Accuracy of benign clients**" in text and "| fedavg weighting=eg | 0." in text
    assert "\n| fedavg weighting=eg | 0." in text.partition("weight of the bad clients")[2]


@pytest.mark.slow
def test_teachers_and_students_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust_studies, "RISKS", ("standard", "robust"))
    small = ("data=fashion_mini", "data.max_samples=300", "data.longtail=10", "validation=split")
    keys = ("model=cnn4", "model.width=2", "rounds=1")
    quick = tuple(f"{side}.{key}" for side in ("teacher", "student") for key in keys)
    common = ("t", "s", "distill/robust_cifar10", (), 0, "1", (*small, *quick, "local.epochs=1"))
    table = Pairs("table", *common)
    table.play(tmp_path, "page")
    text = table.section(tmp_path, "page")
    assert "nan" not in text and text.count("\n| robust |") == 5
    rows = {name: NEIGHBOURS[name] for name in ("standard", "DeTT_robust_teacher")}
    study = Students("rows", *common, parent="table", rows=rows)
    study.play(tmp_path, "page")
    assert "\n| DeTT robust teacher | 0." in study.section(tmp_path, "page")
