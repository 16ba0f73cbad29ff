"""`fedkd distill` end to end, tiny: what stands in the run folder, and what is refused before it exists."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from simulations.cli import main
from simulations.config import choices_of, resolve
from simulations.distill_parts import pooled
from simulations.programs import DISTILL

TINY = (
    "data.max_samples=300",
    "teacher.model=mlp",
    "student.model=mlp",
    "student.model.hidden=[16]",
    "teacher.rounds=2",
    "student.rounds=2",
)
SIDES = ("teacher", "student")


def distill(out: Path, *overrides: str, code: int = 0) -> Path:
    assert main(["distill", *TINY, *overrides, f"out={out}"]) == code
    return out


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distill(tmp_path_factory.mktemp("distill") / "run", "data.longtail=10", "student.risk=balanced")


def test_classes_take_the_place_of_clients(done: Path) -> None:
    rows = pd.read_parquet(done / "clients.parquet")
    counts = rows[rows["split"] == "test"].groupby(["round", "model"]).size()
    assert counts.to_dict() == {(0, "teacher"): 10, (1, "student"): 10, (2, "student"): 10}
    classes = pd.read_parquet(done / "classes.parquet")
    assert classes.groupby(["model", "round"]).size().to_dict() == dict.fromkeys(
        [("student", 1), ("student", 2), ("teacher", 1), ("teacher", 2)], 10
    )
    last = classes[(classes["model"] == "student") & (classes["round"] == 2)]
    figures = pd.read_csv(done / "rounds.csv").iloc[-1]
    assert figures["mean"] == pytest.approx(last["test_accuracy"].mean())
    assert figures["worst_class"] == figures["min"] == pytest.approx(last["test_accuracy"].min())
    assert figures["calibration"] == pytest.approx(last["calibration"].max())
    # balanced: every class counts the same, so a gain is 1 / (10 prior), and priors sum to one
    assert (1 / (10 * last["gain"])).sum() == pytest.approx(1)
    assert last["gain"].std() > 0 and (last["multiplier"] == 0.1).all()


def test_the_folder_is_whole_and_the_teachers_figures_stand_beside(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    teacher = pd.read_csv(done / "teacher.csv").iloc[-1]
    assert summary["round"] == 2 and summary["total_failures"] == 0
    for name in ("mean", "worst_class", "calibration"):
        assert summary[f"teacher_{name}"] == pytest.approx(teacher[name])
    assert (done / "figures").is_dir() and (done / "config.yaml").exists()
    student, kept = (load_file(done / f"{side}.safetensors") for side in ("student", "teacher"))
    assert student["blocks.0.1.weight"].shape[0] == 16 and kept.keys() == student.keys()


def test_a_finished_run_is_not_repeated(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distill(done, "data.longtail=10", "student.risk=balanced")
    assert "this run is finished" in capsys.readouterr().out


def test_the_same_again_bit_for_bit_and_with_the_former_teacher(done: Path, tmp_path: Path) -> None:
    again = distill(tmp_path / "again", "data.longtail=10", "student.risk=balanced")
    reused = distill(tmp_path / "reused", "data.longtail=10", "student.risk=balanced", f"teacher.from={done}")
    want = pd.read_parquet(done / "clients.parquet")
    for other in (again, reused):
        pd.testing.assert_frame_equal(pd.read_parquet(other / "clients.parquet"), want, check_exact=True)
    file = distill(tmp_path / "file", "data.longtail=10", f"teacher.from={done}/teacher.safetensors")
    assert json.loads((file / "summary.json").read_text())["teacher_mean"] == pytest.approx(
        json.loads((done / "summary.json").read_text())["teacher_mean"]
    )


def test_judging_every_few_rounds_ends_in_the_same_figures(done: Path, tmp_path: Path) -> None:
    out = distill(tmp_path / "run", "data.longtail=10", "student.risk=balanced", "evaluate_every=2")
    rounds, want = (pd.read_csv(folder / "rounds.csv") for folder in (out, done))
    assert rounds["mean"].isna().tolist() == [True, False] and rounds["train_loss"].notna().all()
    assert rounds["mean"].iloc[1] == want["mean"].iloc[1]
    assert rounds["teacher_mean"].iloc[1] == want["teacher_mean"].iloc[1]


def test_resume_plays_an_unfinished_run_again(done: Path, tmp_path: Path) -> None:
    out = distill(tmp_path / "run", "data.longtail=10", "student.risk=balanced")
    (out / "summary.json").unlink()
    (out / "clients.parquet").unlink()
    assert main(["resume", str(out)]) == 0
    want = pd.read_parquet(done / "clients.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "clients.parquet"), want, check_exact=True)


def test_training_that_diverges_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distill(tmp_path / "run", "local.lr=1e38", "local.clip_norm=null", code=2)
    assert "that are not finite; lower local.lr" in capsys.readouterr().err


def test_several_teachers_and_a_list_of_objectives(done: Path, tmp_path: Path) -> None:
    out = distill(
        tmp_path, f"teacher.from=[{done},{done}]", "objective=[ce,kd]", "objective.weights=[0.1,0.9]"
    )
    assert (out / "summary.json").exists()


def test_a_robust_teacher_whose_gains_are_undone(tmp_path: Path) -> None:
    robust = ("data.longtail=10", "teacher.risk=robust", "teacher.method.warmup=0", "teacher.method.gamma=1")
    plain = distill(tmp_path / "plain", *robust)
    undone = distill(tmp_path / "undone", *robust, "teacher.undo_gains=true")
    a, b = (json.loads((out / "summary.json").read_text()) for out in (plain, undone))
    assert a["teacher_mean"] == b["teacher_mean"] and a["train_loss"] != b["train_loss"]


def test_a_calibrated_teacher_tells_what_is_left(done: Path, tmp_path: Path) -> None:
    """The saved teacher is the one that was trained; calibrated it makes another student."""
    words = ("data.longtail=10", "student.risk=balanced", "teacher.calibrate=true")
    out = distill(tmp_path / "run", *words, f"teacher.from={done}")
    plain, own = (json.loads((folder / "summary.json").read_text()) for folder in (done, out))
    assert own["teacher_calibration"] == pytest.approx(plain["teacher_calibration"])
    assert own["teacher_calibrated"] < own["teacher_calibration"] and "teacher_calibrated" not in plain
    assert own["teacher_mean"] == plain["teacher_mean"] and own["train_loss"] != plain["train_loss"]


def test_in_a_folder_of_teachers_each_run_finds_its_own(tmp_path: Path) -> None:
    quick = ("teacher.rounds=1", "student.rounds=1", "data.longtail=10")
    for name, words in {"a": ("seed=1",), "b": ("seed=2",), "c": ("seed=1", "teacher.risk=balanced")}.items():
        distill(tmp_path / "teachers" / name, *quick, *words)
    found = distill(
        tmp_path / "run", *quick, "seed=1", "teacher.risk=balanced", f"teacher.from={tmp_path}/teachers"
    )
    own, wanted = (load_file(f / "teacher.safetensors") for f in (found, tmp_path / "teachers" / "c"))
    assert all(torch.equal(own[name], wanted[name]) for name in wanted)
    distill(tmp_path / "none", *quick, "seed=3", f"teacher.from={tmp_path}/teachers", code=2)
    assert not (tmp_path / "none").exists()


def test_a_tradeoff_at_alpha_zero_is_the_balanced_objective_bit_for_bit(tmp_path: Path) -> None:
    """Of both sides; at alpha one it is the robust one."""
    quick = ("data.longtail=10", *(f"{s}.method.{k}" for s in SIDES for k in ("warmup=0", "gamma=1")))
    rows = {}
    for risk, alpha in (("tradeoff", 0), ("balanced", 0.5), ("tradeoff", 1), ("robust", 0.5)):
        risks = [f"{side}.{key}" for side in SIDES for key in (f"risk={risk}", f"alpha={alpha}")]
        out = distill(tmp_path / f"{risk}{alpha}", *quick, *risks)
        rows[risk, alpha] = pd.read_parquet(out / "clients.parquet")
    pd.testing.assert_frame_equal(rows["tradeoff", 0], rows["balanced", 0.5], check_exact=True)
    pd.testing.assert_frame_equal(rows["tradeoff", 1], rows["robust", 0.5], check_exact=True)
    assert not rows["robust", 0.5].equals(rows["balanced", 0.5])


def test_validation_never_meets_training_or_test() -> None:
    for validation in ("split", "test_half"):
        data = pooled(resolve([*TINY, f"validation={validation}"], DISTILL))
        ids = [set(part.ids.tolist()) for part in (data.train, data.val, data.test)]
        assert all(ids) and sum(map(len, ids)) == len(set.union(*ids))
    assert np.ptp(torch.bincount(data.val.y, minlength=10).numpy()) < len(data.val)
    assert len(data.train) == 300 and abs(len(data.val) - len(data.test)) <= 1


REFUSALS = {
    "objective=ffg2m": "objective=ffg2m needs edges, which fedkd distill does not provide",
    "objective=diswot_semantic": "objective=diswot_semantic needs maps",
    "student.method=group_dro student.risk=robust": "student.risk=robust with method=group_dro: standard is",
    "student.risk=worst": "student.risk=worst: one of standard, balanced, robust, tradeoff is needed",
    "teacher.method=ada_alpha": "method=ada_alpha reads what a teacher says",
    "objective=nd student.risk=robust": "shifts the student's logits, which objective=nd does not read",
    "teacher.from=nowhere": "teacher.from=nowhere: the folder of a finished",
    "student.validation=mine": "student.validation=mine: onehot or teacher is needed",
    "student.rounds=0": "student.rounds=0: a whole number from 1 is needed",
    "clients=5": "unknown key 'clients'",
    "student.labelled=0": "student.labelled=0: a fraction in (0, 1] is needed",
    "student.labelled=0.1 objective=pld": "objective=pld reads the label of every sample",
    "student.keep=0.5": "student.keep selects among proxy samples: proxy=NAME is needed with it",
    "proxy=fashion_mnist": "proxy=fashion_mnist has samples that",
    "student.modl=mlp": "unknown key 'student.modl'; did you mean 'model'?",
    "student.model=mpl": "unknown student.model 'mpl'; did you mean 'mlp'?",
    "student.method=null": "unknown student.method 'null'",
}


@pytest.mark.parametrize("line", REFUSALS)
def test_mistakes_are_told_in_one_sentence(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distill(tmp_path / "run", *line.split(), code=2)
    told = capsys.readouterr()
    assert REFUSALS[line] in told.err and told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_plays_all_combinations_with_one_teacher_and_compares_them(tmp_path: Path) -> None:
    quick = (*TINY, "teacher.rounds=1", "student.rounds=1")
    teacher = tmp_path / "teacher"
    assert main(["distill", *quick, "seed=1", f"out={teacher}"]) == 0
    words = [*quick, "objective=kd,dho", "student.labelled=0.2,1.0", "seed=1", "sweep.parallel=1"]
    assert main(["distill", "-m", *words, f"teacher.from={teacher}", f"out={tmp_path / 'sweep'}"]) == 0
    folders = [file.parent for file in (tmp_path / "sweep").glob("*/summary.json")]
    found = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    assert len(found) == 4 and len({each["teacher_mean"] for each in found}) == 1
    assert len({each["train_loss"] for each in found}) == 3  # kd reads no labels, few or many
    assert (tmp_path / "sweep" / "compare.md").exists()


@pytest.mark.parametrize("method", choices_of("class_method"))
def test_every_class_method_resolves(method: str) -> None:
    assert resolve([f"student.method={method}"], DISTILL)["choices"]["student.method"] == method
