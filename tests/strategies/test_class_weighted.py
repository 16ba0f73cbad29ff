"""`class_weighting=margin` in tiny whole runs: what is recorded, resumed, left alone, refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from clients.arrays import record_from_tensors
from fedkd.errors import ConfigError
from simulations.config import resolve
from simulations.resume import resume
from simulations.run import prepare, run
from strategies.class_weighted import ClassWeighted
from strategies.distilled import Distilled
from strategies.generative import Upload
from strategies.weighted import Weighted

TINY = (
    "engine=inline",
    "model=mlp",
    "rounds=2",
    "clients=4",
    "partition=dirichlet",
    "data.max_samples=300",
    "evaluation.after=false",
)
MARGIN, SPLITS = "class_weighting=margin", "evaluation.splits=[train,test]"


def play(out: Path, *overrides: str) -> pd.DataFrame:
    run(resolve([*TINY, *overrides, f"out={out}"]), out)
    return pd.read_parquet(out / "clients.parquet")


def test_gains_follow_from_the_recorded_counts_and_risks(tmp_path: Path) -> None:
    """The first round of `class_multipliers.csv` again, by hand from the rows of the run."""
    alpha, gamma = 0.5, 0.1
    play(
        tmp_path, "method=fedavg", MARGIN, f"class_weighting.alpha={alpha}", "evaluation.splits=[train,test]"
    )
    rows = pd.read_parquet(tmp_path / "clients.parquet").query("split == 'train' and round == 1")
    held = pd.read_csv(tmp_path / "class_multipliers.csv")
    first = held[held["round"] == 1]
    counts = np.sum(rows["class_total"].tolist(), axis=0)
    np.testing.assert_allclose(first["prior"], counts / counts.sum())
    risk = first["risk"].to_numpy()
    tilt = np.where(np.isfinite(risk), np.exp(gamma * np.nan_to_num(risk)), np.nan)
    known = np.isfinite(tilt)
    own = first["multiplier"].to_numpy()
    np.testing.assert_allclose(own[known] / own[known].sum(), tilt[known] / tilt[known].sum())
    wanted = ((1 - alpha) / 10 + alpha * own) / np.where(counts > 0, counts / counts.sum(), 1)
    np.testing.assert_allclose(first["gain"], np.where(counts > 0, wanted, 1))


def test_margins_act_from_the_second_round_on(tmp_path: Path) -> None:
    base = play(tmp_path / "base", "method=fedavg")
    own = play(tmp_path / "own", "method=fedavg", MARGIN)
    for number, alike in ((1, True), (2, False)):
        first, second = (frame[frame["round"] == number].reset_index(drop=True) for frame in (base, own))
        assert first.equals(second) == alike


@pytest.mark.parametrize(
    "method", ["fedavg_ft", "fedprox", "fedgen", "feddf", "fedd2s", "fedd2s_robust", "ditto"]
)
def test_it_goes_with_and_resumes_bit_for_bit(method: str, tmp_path: Path) -> None:
    def words(out: Path) -> list[str]:
        return [*TINY, f"method={method}", MARGIN, "participation=2", "rounds=3", f"out={out}"]

    whole = resolve(words(tmp_path / "whole"))
    run(whole, tmp_path / "whole")
    cut = resolve(words(tmp_path / "cut"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("simulations.session.patient_interrupt", AfterTwo)
        run(cut, tmp_path / "cut")
    resume(tmp_path / "cut")
    one, other = (pd.read_parquet(tmp_path / name / "clients.parquet") for name in ("whole", "cut"))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    texts = [(tmp_path / name / "class_multipliers.csv").read_text() for name in ("whole", "cut")]
    assert texts[0] == texts[1]


def test_margins_move_what_the_server_distils() -> None:
    strategy = prepare(resolve([*TINY, "method=feddf"])).strategy
    assert isinstance(strategy, Distilled)
    server, model = strategy.server, strategy.server.initial
    uploads = [Upload({k: (1 + j) * v for k, v in model.items()}, 1.0, torch.ones(10), {}) for j in (0, 1)]

    def taught(shift: torch.Tensor | None) -> np.ndarray:
        server.shift = shift
        arrays, _ = strategy.learn(1, uploads, record_from_tensors(model))
        return np.concatenate([array.numpy().ravel() for array in arrays.values()])

    plain, tilted = taught(None), torch.linspace(-1, 1, 10)
    np.testing.assert_array_equal(taught(torch.zeros(10)), plain)
    np.testing.assert_allclose(taught(torch.full((10,), 0.5)), plain, atol=1e-4)  # no class before another
    assert np.abs(taught(tilted) - plain).max() > 1e-3


class AfterTwo:
    """In place of `patient_interrupt`: the user wants to stop after the second round."""

    def __init__(self) -> None:
        self.rounds = 0

    def __enter__(self) -> "AfterTwo":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self) -> bool:
        self.rounds += 1
        return self.rounds == 2


def test_clients_and_classes_are_weighted_together(tmp_path: Path) -> None:
    """The weights that EG put into the replies decide the prior, so a weighting changes the gains."""
    config = resolve([*TINY, "method=fedavg", "weighting=eg", MARGIN])
    strategy = prepare(config).strategy
    assert isinstance(strategy, ClassWeighted) and isinstance(strategy.strategy, Weighted)
    play(tmp_path / "both", "method=fedavg", "weighting=eg", "weighting.gamma=5", MARGIN)
    play(tmp_path / "one", "method=fedavg", MARGIN)
    weights = pd.read_csv(tmp_path / "both" / "multipliers.csv").query("round == 1")["weight"].to_numpy()
    both, one = (
        pd.read_csv(tmp_path / n / "class_multipliers.csv").query("round == 1") for n in ("both", "one")
    )
    labels = pd.read_csv(tmp_path / "both" / "population.csv")
    assert len(weights) == len(labels) and np.ptp(weights) > 0
    assert not np.allclose(both["prior"], one["prior"]) and both["prior"].sum() == pytest.approx(1)


@pytest.mark.parametrize("method", ["fedntd", "scaffold", "fedrod"])
def test_others_refuse_in_one_sentence(method: str) -> None:
    with pytest.raises(ConfigError, match=f"class_weighting does not go with method={method}"):
        prepare(resolve([*TINY, f"method={method}", MARGIN]))
