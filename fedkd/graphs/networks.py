"""Networks on a graph, made of perceptrons: a GCN is one that averages over neighbours before each layer.

GCN: Kipf and Welling, ICLR 2017, arXiv 1609.02907, in plain PyTorch:

    H_0 = X,   H_l = block_l(A H_{l-1}),   A = D^-1/2 (adjacency + I) D^-1/2

So teacher and student have weights of the same shapes, and differ in whether they look at neighbours. In one
place both read node numbers, `x (B,)`, so that a batch may be any nodes; the graph itself is no parameter.
Left out: the paper's dropout.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedkd.data.samples import Samples
from fedkd.graphs.graph import GraphData, normalised_adjacency
from fedkd.models.staged import StagedModel


def propagate(blocks: Iterable[nn.Module], x: Tensor, adjacency: Tensor) -> Tensor:
    """Features (N, d) of all nodes through the blocks, averaged over neighbours before each and at the end.

    What comes out (N, h) is what the GCN's last layer reads.
    """
    for block in blocks:
        x = block(torch.sparse.mm(adjacency, x))
    return torch.sparse.mm(adjacency, x)


class Neighbours(nn.Module):
    """All blocks but the last, over the whole graph; then the rows asked for, (B,) -> (B, h)."""

    def __init__(self, blocks: Iterable[nn.Module], data: GraphData) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("x", data.nodes.x, persistent=False)
        adjacency = normalised_adjacency(data.edges, len(data.nodes))
        self.register_buffer("adjacency", adjacency, persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        return propagate(self.blocks, self.x, self.adjacency)[nodes]  # type: ignore[arg-type]


class Rows(nn.Module):
    """The features of the nodes asked for, (B,) -> (B, d)."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.register_buffer("x", x, persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        return self.x[nodes]  # type: ignore[index]


def gcn(perceptron: StagedModel, data: GraphData) -> StagedModel:
    """The perceptron as a GCN on the client's graph, from node numbers; the last block stays its own."""
    *hidden, last = perceptron.blocks
    return StagedModel([Neighbours(hidden, data), last], (), dtype=torch.int64)


def by_number(network: StagedModel, data: GraphData) -> StagedModel:
    """The network on the features of the nodes whose numbers it is given; it sees no edge."""
    first, *rest = network.blocks
    return StagedModel([nn.Sequential(Rows(data.nodes.x), first), *rest], (), dtype=torch.int64)


def numbered(data: GraphData) -> GraphData:
    """The same nodes as samples whose features are their numbers; `train` holds all, labelled or not."""
    numbers = torch.arange(len(data.nodes))
    place = torch.full((int(data.nodes.ids.max()) + 1,), -1).scatter(0, data.nodes.ids, numbers)

    def by_place(samples: Samples) -> Samples:
        return replace(samples, x=place[samples.ids])

    every, val, test = (by_place(samples) for samples in (data.nodes, data.val, data.test))
    return replace(data, train=every, val=val, test=test)
