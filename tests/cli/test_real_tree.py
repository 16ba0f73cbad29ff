"""The real configuration tree: every file fits its targets, and `fedkd partition` deals out real data."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from simulations.cli import main
from simulations.config import CONF, choices_of, group_names, resolve
from simulations.programs import DISTILL, RUN
from simulations.tree import UNSET, complete

FILES = [(g, n) for g in dict.fromkeys(group_names().values()) if g != "experiment" for n in choices_of(g)]


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_file_names_only_what_its_target_takes(group: str, name: str) -> None:
    node = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    node.pop("defaults", None)
    assert set(node) <= set(complete(node, {}))


def test_the_defaults_resolve() -> None:
    config = resolve([])
    assert config["choices"]["method"] in choices_of("method")
    assert UNSET not in str(config)


@pytest.mark.parametrize("name", choices_of("experiment"))
def test_every_experiment_resolves(name: str) -> None:
    program = DISTILL if name.startswith("distill/") else RUN
    assert resolve([f"experiment={name}"], program)["choices"]["experiment"] == name


def test_partition_shows_and_writes_who_holds_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["partition", "clients=4", "partition=iid", "unseen_clients=0.25"]) == 0
    (folder,) = Path("partitions").glob("fashion_mini-iid-*-s0")
    table = pd.read_csv(folder / "partition.csv")
    assert table[["train", "val", "test"]].to_numpy().sum() == 8000
    assert table.iloc[:, 6:].to_numpy().sum() == 8000
    assert table["unseen"].sum() == 1
    assert (folder / "partition.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    assert "4 clients, 2000 to 2000 samples each, median 2000; 1 kept out of training (*)" in told
    assert "0 T-shirt, 1 trouser" in told


@pytest.mark.parametrize("override", ["data.max_samples=-1", "data=har data.root=nowhere", "clients=9000"])
def test_partition_refuses_and_writes_nothing(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["partition", *override.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
