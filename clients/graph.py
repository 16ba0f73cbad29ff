"""A graph split over clients: each trains a GCN on its own part, and a perceptron that learns from it.

The objective is FF-G2M's (Wu et al., AAAI 2023, arXiv 2305.10758); the federated form is specified here. A
client sees its nodes and the edges between them. In each round the common GCN learns the client's labels,
then the common perceptron follows the client's GCN over its nodes and edges; both are averaged, by labelled
nodes. The perceptron is the model in use: it needs no neighbour, so neither do new nodes. Without edges
between clients the GCN sees less than one in a single place does.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedkd.build import locate
from fedkd.errors import ConfigError
from fedkd.graphs.graph import GraphData, normalised_adjacency
from fedkd.graphs.networks import propagate
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective, check, value
from fedkd.objectives.ffg2m import FFG2M
from fedkd.objectives.ops import cross_entropy
from fedkd.objectives.signals import Signals
from fedkd.protocol import ARRAYS, TEACHER
from fedkd.training.lessons import Lessons, check_labels
from fedkd.training.program import Batch, ClientProgram, Loss, Params, Phase, Reply, State, Task, Work

_PLACE = "a client of a graph"
_OFFERED = {"student_logits", "teacher_logits", "labels", "edges"}


class GraphDistil(ClientProgram):
    """GCN to perceptron inside each client. A batch has the edges between its nodes: let it be all of them.

    data: import path of the data set, which must be a graph
    objective: of the perceptron; by default FF-G2M
    teacher_epochs: passes of the GCN, where they differ from `local.*`
    """

    search_space: ClassVar[dict[str, Any]] = ClientProgram.search_space

    def __init__(
        self, data: str, objective: Objective | None = None, teacher_epochs: int | None = None
    ) -> None:
        if not getattr(locate(data), "is_graph", False):
            raise ConfigError("method=ffg2m needs a graph: data=cora or data=citeseer is needed")
        self.objective = FFG2M() if objective is None else objective
        check(self.objective, _OFFERED, _PLACE)
        check_labels([self.objective], "few")
        self.teacher_epochs = teacher_epochs

    def work(self, task: Task, state: State) -> Work:
        assert isinstance(task.data, GraphData)
        data, network = task.data, task.network
        lessons = Lessons(data.labelled, edges=data.edges)
        rows = lessons.extras(len(data.nodes))
        adjacency = normalised_adjacency(data.edges, len(data.nodes)).to(data.nodes.x.device)
        teacher = yield Phase(
            task.knowledge.get(TEACHER) or task.initial,
            self.labels(data, adjacency),
            data=data.nodes,
            extras=rows,
            epochs=self.teacher_epochs,
        )
        told = logits_on(network, teacher, data.nodes.x, adjacency)
        student = yield Phase(
            task.received, self.towards(lessons, len(told)), data=data.nodes, extras=rows | {"teacher": told}
        )
        return Reply({ARRAYS: student, TEACHER: teacher}, trained=student)

    def labels(self, data: GraphData, adjacency: Tensor) -> Loss:
        """Cross entropy of the GCN at the batch's labelled nodes; every step looks at the whole part."""

        def loss(model: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
            *hidden, last = model.blocks
            logits = last(propagate(hidden, data.nodes.x, adjacency)[batch.extras["row"]])
            return cross_entropy(logits, batch.y) * batch.extras["labelled"]

        return loss

    def towards(self, lessons: Lessons, count: int) -> Loss:
        """The objective between the perceptron and what the GCN said."""

        def loss(model: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
            known = lessons.signals(batch.extras, count)
            told = batch.extras["teacher"]
            s = Signals(student_logits=model(batch.x), teacher_logits=told, labels=batch.y, **known)
            return value(self.objective, s)

        return loss


@torch.no_grad()
def logits_on(network: StagedModel, params: Params, x: Tensor, adjacency: Tensor) -> Tensor:
    """(n, M): what the perceptron's weights `params` say as a GCN."""
    network.load_state_dict(params)
    *hidden, last = network.blocks
    found: Tensor = last(propagate(hidden, x, adjacency))
    return found
