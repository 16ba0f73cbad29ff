"""A graph read from its file, dealt out, and distilled: in one place and split over clients."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fedkd.data import build_federation
from fedkd.data.federation import federation_from
from fedkd.errors import ConfigError
from fedkd.graphs.federation import GraphFederation
from simulations.cli import main
from simulations.config import resolve
from simulations.programs import DISTILL
from tests.graphs.conftest import write

QUICK = ["local.optimizer=adam", "local.lr=0.05", "model.hidden=[8]", "data.verify=false"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return write(tmp_path / "data")


def federation(root: Path, clients: int) -> GraphFederation:
    iid: dict[str, Any] = {"_target_": "fedkd.data.partitions.IID"}
    node = {"_target_": "fedkd.data.catalog.planetoid.Cora", "root": str(root), "verify": False}
    found = build_federation({"data": node, "partition": iid, "clients": clients})
    assert isinstance(found, GraphFederation)
    return found


def test_clients_hold_all_nodes_and_the_edges_inside_each(root: Path) -> None:
    whole, split = federation(root, 1), federation(root, 3)
    one = whole.client(0)
    assert one.edges.shape == (2, 120) and (one.edges[0] != one.edges[1]).all()
    parts = [split.client(k) for k in range(3)]
    assert sorted(torch.cat([p.nodes.ids for p in parts]).tolist()) == list(range(60))
    assert 0 < sum(p.edges.shape[1] for p in parts) < 120
    for p in parts:
        ids = p.nodes.ids[p.edges]
        assert set((ids[0] - ids[1]).abs().tolist()) <= {2, 58}  # edges of the file, whoever holds them
        assert p.labelled.sum() == len(p.train) and set(p.train.ids.tolist()) <= set(p.nodes.ids.tolist())
        torch.testing.assert_close(p.nodes.x.sum(1), torch.ones(len(p.nodes)))
    assert split.sizes("test").tolist() == [len(p.test) for p in parts]
    assert len(whole.global_test) == 12 and whole.input_shape == (8,)
    again = federation_from(split.meta(), split.arrays()).client(1)
    assert torch.equal(again.edges, parts[1].edges) and torch.equal(again.train.x, parts[1].train.x)


def test_files_and_numbers_of_clients_that_do_not_do_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"24 train nodes, and client \d+ of 30 would hold none"):
        federation(root, 30)
    write(root, edges=np.array([[0], [60]]))
    with pytest.raises(ConfigError, match=r"cora\.npz holds arrays that do not fit together"):
        federation(root, 1)
    write(root, y=np.full(60, -1))
    with pytest.raises(ConfigError, match="has a node of unknown class in a split"):
        federation(root, 1)


def test_distillation_in_one_place(root: Path, tmp_path: Path) -> None:
    words = [f"data.root={root}", *(w for w in QUICK if "model" not in w), "data=cora", "objective=ffg2m"]
    words += ["teacher.rounds=1", "student.rounds=2", "local.epochs=20", f"out={tmp_path / 'out'}"]
    words += ["teacher.model.hidden=[8]", "student.model.hidden=[8]"]
    assert main(["distill", *words]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["weighted_mean"] == summary["teacher_weighted_mean"] == 1.0  # words tell the two groups
    refused = {"student.labelled=0.5": "data is a graph", "objective=pld": "reads the label of every sample"}
    for word, told in refused.items():
        with pytest.raises(ConfigError, match=told):
            from simulations.distill_parts import prepare

            prepare(resolve([*words, word], DISTILL))


def test_the_graph_split_over_clients(root: Path, tmp_path: Path) -> None:
    words = [*QUICK, "method=ffg2m", "data=cora", f"data.root={root}", "engine=inline", "clients=3"]
    words += ["rounds=3", "local.epochs=15", "local.batch_size=60", f"out={tmp_path / 'out'}"]
    assert main(["run", *words]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["mean"] == 1.0 and summary["total_failures"] == 0
    rounds = pd.read_csv(tmp_path / "out" / "rounds.csv")
    sizes = 4 * ((8 * 8 + 8) + (8 * 7 + 7))
    assert rounds["bytes_up"].tolist() == [3 * 2 * sizes] * 3  # two models a client
    assert main(["run", "method=ffg2m", "engine=inline"]) == 2
