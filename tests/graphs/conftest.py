"""A path of four nodes, 0 - 1 - 2 - 3, two words, two classes; and its file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd.data.samples import Samples
from fedkd.graphs.graph import Graph, GraphData

X = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
Y = torch.tensor([0, 0, 1, 1])
PATH = torch.tensor([[0, 1, 2, 1, 2, 3], [1, 2, 3, 0, 1, 2]])


@pytest.fixture
def graph() -> Graph:
    return Graph(X, Y, PATH, torch.tensor([1, 2, 3, 1]))


@pytest.fixture
def data(graph: Graph) -> GraphData:
    """All of it at one client, whose nodes are known elsewhere as 10 to 13."""
    nodes = Samples(X, Y, torch.arange(4) + 10)
    train, val, test = (nodes.take(torch.tensor(rows)) for rows in ([0, 3], [1], [2]))
    labelled = torch.tensor([True, False, False, True])
    return GraphData(0, "0", train, val, test, 2, nodes=nodes, labelled=labelled, edges=PATH)


def write(folder: Path, nodes: int = 60, **changed: np.ndarray) -> Path:
    """cora.npz in miniature: two groups of linked nodes that use different words; 7 classes in name."""
    draw = np.random.default_rng(0)
    y = np.arange(nodes) % 2
    words = y * 4 + draw.integers(0, 4, nodes)
    ring = np.stack([np.arange(nodes), (np.arange(nodes) + 2) % nodes])
    split = np.tile([1, 1, 1, 1, 2, 2, 3, 3, 0, 0], nodes // 10)
    arrays: dict[str, np.ndarray] = {
        "feat_data": np.ones(nodes),
        "feat_indices": words,
        "feat_indptr": np.arange(nodes + 1),
        "feat_shape": np.array([nodes, 8]),
        "y": np.where(split > 0, y, -1),
        "edges": ring,
        "split": split,
    }
    np.savez(folder / "cora.npz", **(arrays | changed))  # type: ignore[arg-type]
    return folder
