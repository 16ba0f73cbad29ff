"""Tiny whole runs under a weighting: what stays the same, and what stands in the run folder."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from clients.arrays import tensors_from_record
from fedkd.errors import ConfigError
from simulations.config import choices_of, resolve
from simulations.run import prepare, run, weighted
from simulations.saved import newest

TINY = (
    "engine=inline",
    "model=mlp",
    "rounds=2",
    "clients=5",
    "data.max_samples=500",
    "evaluation.after=false",
)


def play(out: Path, *overrides: str) -> Path:
    config = resolve([*TINY, *overrides, f"out={out}"])
    run(config, out)
    return out


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = play(tmp_path_factory.mktemp("base") / "run", "method=fedavg", "local.steps=3")
    return pd.read_parquet(out / "clients.parquet")


@pytest.mark.parametrize(
    "name", ["uniform", "eg", "afl", "cvar", "tilted", "power", "gifair", "qffl", "fedmgda", "drfa"]
)
def test_alpha_zero_is_the_base_run_bit_for_bit(name: str, base: pd.DataFrame, tmp_path: Path) -> None:
    out = play(tmp_path, "method=fedavg", "local.steps=3", f"weighting={name}", "weighting.alpha=0")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "clients.parquet"), base, check_exact=True)


def test_under_all_weight_on_one_client_the_global_step_is_its_gradient(tmp_path: Path) -> None:
    """A whole run, CVaR at a level that only the worst client fills, against autograd on its data."""
    step = ("rounds=1", "local.steps=1", "local.batch_size=1000", "local.lr=0.1")
    config = resolve([*TINY, "method=fedavg", "weighting=cvar", "weighting.level=0.001", *step])
    prepared = prepare(config)
    run(config, tmp_path / "run")
    told = pd.read_csv(tmp_path / "run" / "multipliers.csv").set_index("client")
    worst = int(told["risk"].idxmax())
    assert told["weight"].tolist() == [float(k == worst) for k in told.index]
    trainer, initial = prepared.runtime.trainer(0)
    trainer.network.load_state_dict(initial)
    held = prepared.federation.client(worst).train
    F.cross_entropy(trainer.network(held.x), held.y).backward()
    saved = newest(tmp_path / "run")
    assert saved is not None
    after = tensors_from_record(saved.arrays)
    for name, parameter in trainer.network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(after[name], (parameter - 0.1 * parameter.grad).detach())


@pytest.mark.parametrize("name", ["eg", "qffl", "drfa"])
def test_a_run_writes_weights_that_sum_to_one(name: str, base: pd.DataFrame, tmp_path: Path) -> None:
    tiny = ("method=fedavg", "local.steps=3", "participation=3", f"weighting={name}")
    out = play(tmp_path, *tiny)
    held = pd.read_csv(out / "multipliers.csv")
    weights = held.dropna(subset="weight")
    assert weights.groupby("round").size().tolist() == [3, 3]
    np.testing.assert_allclose(weights.groupby("round")["weight"].sum(), 1)
    assert held["risk"].notna().groupby(held["round"]).sum().tolist() == [3, 3]
    assert not pd.read_parquet(out / "clients.parquet").equals(base)


def test_excess_reads_a_run_of_local_only_training(tmp_path: Path) -> None:
    alone = play(tmp_path / "alone", "method=local")
    wanted = ("method=fedavg", "weighting=eg", "weighting.risk=excess")
    out = play(tmp_path / "run", *wanted, f"weighting.reference={alone}")
    assert len(pd.read_csv(out / "multipliers.csv")) == 10
    with pytest.raises(ConfigError, match=r"needs weighting\.reference, a folder of a run of method=local"):
        play(tmp_path / "none", *wanted)
    with pytest.raises(ConfigError, match="a run of method=fedavg; one of method=local is needed"):
        play(tmp_path / "other", *wanted, f"weighting.reference={out}")
    with pytest.raises(ConfigError, match="its 'clients' differs from this run's"):
        play(tmp_path / "fewer", *wanted, f"weighting.reference={alone}", "clients=4")


OWN_WEIGHTS = {"bulyan", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "qfedavg"}
"""Methods whose server decides by itself who counts."""
NO_UPDATES = {"local", "centralized", "fd", "fedmd", "fedproto", "fedtgp", "fedkd", "fedgkt"}
NO_UPDATES |= {"fedd2s", "fedd2s_adaptive", "fedd2s_robust"}
"""Methods whose clients send something else than models."""
GRAPHS = {"ffg2m"}
NEEDS = {"fedbn": ("model=cnn4", "model.width=2")}


@pytest.mark.parametrize("method", sorted(set(choices_of("method")) - GRAPHS))
def test_every_method_takes_a_weighting_or_refuses_in_one_sentence(method: str) -> None:
    """Losses are enough for all but the robust rules; updates are there where models are sent."""
    config = resolve([*TINY, "weighting=samples", f"method={method}", *NEEDS.get(method, ())])
    prepared = prepare(config)
    for name, refusing in (("eg", OWN_WEIGHTS), ("qffl", OWN_WEIGHTS | NO_UPDATES)):
        chosen = {"weighting": WEIGHTINGS[name], "choices": config["choices"] | {"weighting": name}}
        try:
            weighted(prepared.strategy, config | chosen, prepared.federation)
        except ConfigError as error:
            assert method in refusing and f"weighting={name}" in str(error) and f"={method}" in str(error)
        else:
            assert method not in refusing


WEIGHTINGS = {name: resolve([f"weighting={name}"])["weighting"] for name in ("eg", "qffl")}
