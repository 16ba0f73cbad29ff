"""A small configuration tree with toy targets: the command line without the rest of the house."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations import config, tree

TOY = '''
"""Targets of the toy tree."""
from typing import Literal
from fedkd.errors import ConfigError

class Strategy:
    """Averages."""
    def __init__(self, fraction: float = 1.0, minimum: int = 2, weigh=None,
                 names: tuple[str, ...] = ("a", "b"), callback=print):
        self.fraction = fraction

class Proximal(Strategy):
    """Averages, tied."""
    def __init__(self, mu: float = 0.01, kind: Literal["l1", "l2"] = "l2", flag: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.mu = mu

class Client:
    """Trains."""
    def __init__(self, epochs: int | None = None, options: dict | None = None):
        pass

def load(root: str | None = None, longtail: float = 1.0):
    raise AssertionError("data are not read while a configuration is resolved")

class Dirichlet:
    """Label skew."""
    def __init__(self, alpha: float = 0.3, seed: int | None = None, file: str | None = None):
        if alpha <= 0:
            raise ConfigError(f"partition.alpha={alpha}: a positive number is needed")

class Natural:
    """By person."""
    def __init__(self, seed: int | None = None):
        pass

class Net:
    """A network."""
    def __init__(self, input_shape, num_classes, width: int = 8):
        raise AssertionError("models are not built while a configuration is resolved")
'''

CLIENT = "client: {_target_: toy.Client}\n"
FILES = {
    "method/fedavg_ft": "# The default.\nstrategy: {_target_: toy.Strategy}\n" + CLIENT,
    "method/fedprox": "strategy: {_target_: toy.Proximal, mu: 0.5, minimum: 3}\n" + CLIENT,
    "data/fashion_mini": "_target_: toy.load\n_default_partition_: dirichlet\n_default_model_: cnn\n",
    "data/har": "_target_: toy.load\n_default_partition_: natural\n_default_model_: mlp\n",
    "partition/dirichlet": "_target_: toy.Dirichlet\n",
    "partition/natural": "_target_: toy.Natural\n",
    "model/cnn": "_target_: toy.Net\nwidth: 32\n",
    "model/mlp": "_target_: toy.Net\n",
    "weighting/samples": "_target_: toy.Client\n",
    "experiment/people": "# @package _global_\ndefaults:\n  - override /data: har\nrounds: 7\n"
    "method: {client: {epochs: 4}}\n",
    "experiment/wrong": "# @package _global_\nruonds: 7\n",
    "experiment/wrong_below": "# @package _global_\nmethod: {cleint: {epochs: 4}}\n",
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The toy tree in place of the real one, in an empty working folder; returns that folder."""
    conf, work = tmp_path / "conf", tmp_path / "work"
    shutil.copytree(config.CONF / "engine", conf / "engine")
    keys = (config.CONF / "config.yaml").read_text()
    (conf / "config.yaml").write_text(keys.replace("- method: fedd2s_robust", "- method: fedavg_ft"))
    for name, text in FILES.items():
        (conf / name).parent.mkdir(parents=True, exist_ok=True)
        (conf / name).with_suffix(".yaml").write_text(text)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy.py").write_text(TOY)
    work.mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(work)
    monkeypatch.setattr(config, "CONF", conf)
    monkeypatch.setattr(tree, "OURS", (*tree.OURS, "toy"))
    yield work
