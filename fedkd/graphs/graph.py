"""A graph whose nodes have features and classes, and a client's part of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedkd.data.samples import ClientData, Samples


@dataclass(frozen=True)
class Graph:
    """N nodes and the edges between them.

    x: (N, d) float32 features; y: (N,) int64 classes
    edges: (2, E) int64, each in both directions, without self-loops
    split: (N,) int64: 0 none (then the class is never used), 1 train, 2 validation, 3 test
    """

    x: Tensor
    y: Tensor
    edges: Tensor
    split: Tensor

    def inside(self, nodes: Tensor) -> "Graph":
        """The graph on `nodes` (n,) alone, numbered anew: what a client of these nodes can see."""
        edges = edges_between(self.edges, nodes, len(self.y))
        return Graph(self.x[nodes], self.y[nodes], edges, self.split[nodes])


@dataclass(frozen=True, kw_only=True)
class GraphData(ClientData):
    """What a client of a graph holds; its splits are the labelled nodes of each kind, as rows of features.

    nodes: all its nodes, whatever their split
    labelled: (n,) bool, which of them are training nodes: only their classes may be used
    edges: (2, E) the edges inside the client, both directions
    """

    nodes: Samples
    labelled: Tensor
    edges: Tensor


def edges_between(edges: Tensor, rows: Tensor, count: int) -> Tensor:
    """(2, E'): the edges with both ends in `rows` (n,), as positions in it; `count` nodes in all."""
    place = torch.full((count,), -1).scatter(0, rows, torch.arange(len(rows)))
    ends = place[edges]
    return ends[:, (ends >= 0).all(0)]


def normalised_adjacency(edges: Tensor, count: int) -> Tensor:
    """D^-1/2 (A + I) D^-1/2, sparse (N, N), of `count` nodes (Kipf and Welling 2017)."""
    loops = torch.arange(count).expand(2, -1)
    ends = torch.cat([edges, loops], dim=1)
    root = torch.bincount(ends[0], minlength=count).float().rsqrt()
    weights = root[ends[0]] * root[ends[1]]
    return torch.sparse_coo_tensor(ends, weights, (count, count), check_invariants=True).coalesce()
