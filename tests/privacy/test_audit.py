"""`fedkd privacy` on whole runs: the models are those that were evaluated, and leaks follow training."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fedkd.errors import ConfigError
from fedkd.privacy.inversion import Training
from fedkd.training.evaluate import evaluate
from simulations.cli import main
from simulations.config import resolve
from simulations.exposed import exposed
from simulations.privacy import Options, audit
from simulations.run import run

TINY = ("engine=inline", "model=mlp", "model.hidden=[32,16]", "clients=4", "data.max_samples=400", "rounds=2")
QUICK = Options(training=Training(steps=3, width=4), victims=1)


def play(out: Path, *overrides: str) -> Path:
    run(resolve([*TINY, "evaluation.after=false", *overrides, f"out={out}"]), out)
    return out


@pytest.mark.parametrize(
    "overrides",
    [
        ("method=fedavg_ft",),
        ("method=fedd2s", "weighting=eg"),
        ("method=ccvr", "method.strategy.per_class=20"),
        ("method=ditto", "participation=0.5", "unseen_clients=0.25"),
    ],
)
def test_the_models_are_those_that_were_evaluated(overrides: tuple[str, ...], tmp_path: Path) -> None:
    found = exposed(play(tmp_path / "run", *overrides))
    rows = pd.read_parquet(tmp_path / "run" / "clients.parquet")
    rows = rows[(rows["round"] == 2) & (rows["split"] == "test") & (rows["stage"] == "before")]
    losses = rows.set_index(["model", "client"])["loss"]
    models = {("personal", k): model for k, model in found.personal.items()}
    if found.received is not None:
        models |= {("global", k): found.received for k in found.clients}
    assert {key for key in losses.index if key[1] in found.clients} == set(models)
    for (kind, client), model in models.items():
        data = found.data(client)
        row = evaluate(
            lambda x, c=client, m=model: found.predict(c, m, x),
            data.test,
            data.num_classes,
            split="test",
            model=kind,
            stage="before",
        )
        assert row is not None and row.loss == losses[kind, client]


def test_chance_before_training_and_far_above_after_learning_by_heart(tmp_path: Path) -> None:
    aucs = {}
    for name, more in {"never": ("local.lr=1e-9",), "heart": ("local.epochs=60", "local.lr=0.1")}.items():
        out = play(tmp_path / name, "method=local", *more, "rounds=1", "partition=iid")
        audit(out, QUICK)
        result = json.loads((out / "privacy.json").read_text())
        assert result["membership"].keys() == {"personal"} and "inversion" not in result
        aucs[name] = result["membership"]["personal"]
    for attack in ("loss", "confidence", "calibrated"):
        noise = aucs["never"][attack]["auc_mean_chance_sd"]
        assert abs(aucs["never"][attack]["auc_mean"] - 0.5) < 3 * noise
    assert aucs["heart"]["loss"]["auc_mean"] > 0.5 + 6 * noise
    assert aucs["heart"]["calibrated"]["auc_mean"] > 0.5 + 6 * noise


def test_features_are_inverted_where_some_were_sent(tmp_path: Path) -> None:
    out = play(tmp_path / "a", "method=fedd2s", "rounds=1")
    files = audit(out, QUICK)
    result = json.loads((out / "privacy.json").read_text())
    assert result["sent_bytes_per_participant_and_round"]["representations"] > 0
    assert result["inversion"]["cuts"].keys() == {"1", "2"}
    for guesses in result["inversion"]["cuts"].values():
        assert guesses.keys() == {"mean", "label_mean", "queries", "collusion"}
        assert guesses["label_mean"]["mse"] < guesses["mean"]["mse"]
        assert all(-1 <= figures["ssim"] <= 1 for figures in guesses.values())
    assert {path.name for path in files} >= {"privacy.json", "privacy_inversion_cut1.png"}
    assert all(path.exists() for path in files)
    before = (out / "privacy.json").read_text()
    audit(out, QUICK)
    assert (out / "privacy.json").read_text() == before  # deterministic
    assert main(["privacy", str(out), "--features", "no"]) == 0
    assert "inversion" not in json.loads((out / "privacy.json").read_text())


def test_what_cannot_be_audited_is_refused(tmp_path: Path) -> None:
    out = play(tmp_path / "a", "method=fedavg", "rounds=1")
    with pytest.raises(ConfigError, match="two clients with models of their own"):
        audit(out, Options(features="yes"))
    (out / "summary.json").unlink()
    with pytest.raises(ConfigError, match="not finished"):
        audit(out, QUICK)
