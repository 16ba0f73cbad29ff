"""Bad updates by hand, in a whole run too, and who may be attacked."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from fedkd.data.skew import LabelNoise
from fedkd.errors import ConfigError
from fedkd.robust.attack import Attack
from simulations.config import resolve
from simulations.run import run
from simulations.shown import BAD

TINY = (
    "engine=inline",
    "model=mlp",
    "rounds=1",
    "clients=4",
    "data.max_samples=200",
    "evaluation.after=false",
)


def play(out: Path, *overrides: str) -> pd.DataFrame:
    run(resolve([*TINY, *overrides, f"out={out}"]), out)
    return pd.read_parquet(out / "clients.parquet")


def test_the_update_is_multiplied_and_buffers_are_left() -> None:
    received = {"w": torch.tensor([1.0, 2.0]), "mean": torch.tensor([5.0])}
    trained = {"w": torch.tensor([2.0, 1.5]), "mean": torch.tensor([6.0]), "own": torch.tensor([7.0])}
    flipped = Attack(-1.0).sent(received, trained, {"w", "own"})
    scaled = Attack(10.0).sent(received, trained, {"w", "own"})
    assert flipped["w"].tolist() == [0.0, 2.5] and scaled["w"].tolist() == [11.0, -3.0]
    assert flipped["mean"].tolist() == [6.0] and flipped["own"].tolist() == [7.0]


def test_attackers_are_a_seeded_share_of_the_clients() -> None:
    chosen = Attack(-1.0, clients=0.3).chosen(10, seed=1)
    assert len(chosen) == 3 and chosen <= set(range(10))
    assert chosen == Attack(5.0, clients=0.3).chosen(10, seed=1)
    assert chosen != Attack(-1.0, clients=0.3).chosen(10, seed=2)
    assert not Attack(1.0, clients=1.0).chosen(10, seed=1)
    with pytest.raises(ConfigError, match=r"attack\.clients=1\.5: a fraction"):
        Attack(-1.0, clients=1.5)


def test_without_attackers_the_run_is_the_base_run_bit_for_bit(tmp_path: Path) -> None:
    base = play(tmp_path / "base", "method=fedavg")
    none = play(tmp_path / "none", "method=fedavg", "attack=scale", "attack.clients=0")
    pd.testing.assert_frame_equal(base, none, check_exact=True)


def test_when_everybody_attacks_the_server_steps_by_the_factor(tmp_path: Path) -> None:
    """With factor 0 nobody says anything: the model stays the initial one, whatever is learned."""
    silent = ("method=fedavg", "attack=scale", "attack.factor=0.0", "attack.clients=1.0")
    short = play(tmp_path / "a", *silent, "local.epochs=1")
    long = play(tmp_path / "b", *silent, "local.epochs=2")
    pd.testing.assert_frame_equal(short, long, check_exact=True)
    assert not short.equals(play(tmp_path / "c", *silent[:1]))


def test_the_run_folder_names_bad_clients(tmp_path: Path) -> None:
    attack = ("attack=scale", "attack.clients=0.5")
    noise = ("label_noise.clients=0.25", "label_noise.labels=0.5")
    play(tmp_path / "a", "method=fedavg", "seed=3", *attack, *noise)
    told = {int(k): what for k, what in json.loads((tmp_path / "a" / BAD).read_text()).items()}
    (noisy,) = LabelNoise(0.25, 0.5).chosen(4, seed=3)
    attackers = Attack(10.0, clients=0.5).chosen(4, seed=3)
    assert told.keys() == attackers | {noisy}
    assert "wrong labels" in told[noisy] and all("attacks" in told[k] for k in attackers)
    play(tmp_path / "b", "method=fedavg")
    assert not (tmp_path / "b" / BAD).exists()


@pytest.mark.parametrize("method", ["fedd2s", "local"])
def test_methods_without_updates_refuse(method: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"attack=sign_flip changes model updates.*method={method} do not"):
        play(tmp_path, f"method={method}", "attack=sign_flip")
