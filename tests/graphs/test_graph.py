"""Edges, adjacency and the GCN of a graph of four nodes, by hand."""

import math

import torch
from torch import nn

from fedkd.graphs.graph import Graph, GraphData, edges_between, normalised_adjacency
from fedkd.graphs.networks import by_number, gcn, numbered, propagate
from fedkd.models.mlp import mlp
from fedkd.models.staged import StagedModel


def perceptron() -> StagedModel:
    """2 -> 2 -> 2 whose weights are easy to follow."""
    network = mlp((2,), 2, hidden=(2,))
    values = [[[1.0, -1.0], [0.0, 2.0]], [0.5, 0.0], [[1.0, 0.0], [1.0, 1.0]], [0.0, -1.0]]
    for parameter, value in zip(network.parameters(), values, strict=True):
        parameter.data = torch.tensor(value)
    return network


def dense(edges: torch.Tensor) -> torch.Tensor:
    return normalised_adjacency(edges, 4).to_dense()


def test_the_adjacency_is_normalised_with_self_loops(graph: Graph) -> None:
    end, inner = 1 / math.sqrt(2 * 3), 1 / 3  # nodes at the ends have degree 2 with their loop, others 3
    want = [[0.5, end, 0, 0], [end, inner, inner, 0], [0, inner, inner, end], [0, 0, end, 0.5]]
    torch.testing.assert_close(dense(graph.edges), torch.tensor(want))
    torch.testing.assert_close(dense(torch.zeros(2, 0, dtype=torch.int64)), torch.eye(4))


def test_a_part_keeps_the_edges_inside_and_numbers_them_anew(graph: Graph) -> None:
    part = graph.inside(torch.tensor([3, 0, 2]))
    assert part.edges.tolist() == [[2, 0], [0, 2]]  # 2 - 3, now 2 - 0; 0 - 1 and 1 - 2 are lost
    assert part.y.tolist() == [1, 0, 1] and part.split.tolist() == [1, 1, 3]
    assert edges_between(graph.edges, torch.tensor([0, 2]), 4).shape == (2, 0)


def test_a_gcn_is_the_perceptron_with_a_mean_over_neighbours_before_each_layer(data: GraphData) -> None:
    network, adjacency = perceptron(), dense(data.edges)
    first, second = (block for block in network.blocks)
    want = second(adjacency @ first(adjacency @ data.nodes.x))
    teacher = gcn(network, data)
    torch.testing.assert_close(teacher(torch.tensor([2, 0, 0])), want[[2, 0, 0]])
    torch.testing.assert_close(
        teacher.features(torch.arange(4), 1) @ second[0].weight.T + second[0].bias, want
    )
    lonely = gcn(perceptron(), data.__class__(**{**vars(data), "edges": data.edges[:, :0]}))
    torch.testing.assert_close(lonely(torch.arange(4)), perceptron()(data.nodes.x))


def test_the_student_reads_rows_and_sees_no_edge(data: GraphData) -> None:
    network = perceptron()
    want = network(data.nodes.x)
    student = by_number(network, data)
    torch.testing.assert_close(student(torch.tensor([3, 1])), want[[3, 1]])
    assert {n.split(".")[-1] for n in student.state_dict()} == {"weight", "bias"}  # the graph is no parameter


def test_teacher_and_student_have_weights_of_the_same_shapes(data: GraphData) -> None:
    shapes = [[p.shape for p in make(perceptron(), data).parameters()] for make in (gcn, by_number)]
    assert shapes[0] == shapes[1]


def test_samples_become_the_numbers_of_their_nodes(data: GraphData) -> None:
    found = numbered(data)
    assert found.train.x.tolist() == [0, 1, 2, 3] and found.train.y.tolist() == [0, 0, 1, 1]
    assert (found.val.x.tolist(), found.test.x.tolist()) == ([1], [2])
    assert found.test.ids.tolist() == [12]


def test_propagation_through_no_block_is_a_mean_over_neighbours(data: GraphData) -> None:
    adjacency = normalised_adjacency(data.edges, 4)
    torch.testing.assert_close(propagate([], data.nodes.x, adjacency), dense(data.edges) @ data.nodes.x)
    torch.testing.assert_close(
        propagate([nn.Identity()], data.nodes.x, adjacency),
        dense(data.edges) @ dense(data.edges) @ data.nodes.x,
    )
