"""A graph split over clients: each holds some nodes and the edges between them; the others are lost."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fedkd.data.dataset import DataSet
from fedkd.data.federation import Federation
from fedkd.data.plan import Plan
from fedkd.data.samples import Samples, SplitName
from fedkd.errors import ConfigError
from fedkd.graphs.graph import Graph, GraphData

SPLITS: dict[SplitName, int] = {"train": 1, "val": 2, "test": 3}


class GraphFederation(Federation):
    """Clients as lists of nodes: `owner` (N,) says whose each node is, -1 nobody's."""

    def __init__(self, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self._meta, self._arrays = dict(meta), dict(arrays)
        super().__init__(
            name=meta["name"],
            num_clients=meta["clients"],
            input_shape=tuple(arrays["x"].shape[1:]),
            class_names=tuple(meta["class_names"]),
            seed=meta["seed"],
            unseen_fraction=meta["unseen"],
        )

    @classmethod
    def divide(cls, data: DataSet, edges: np.ndarray, split: np.ndarray, plan: Plan) -> "GraphFederation":
        """Deal the nodes out; edges, split: as `Graph` describes them."""
        for name, given in (("skew", plan.skew), ("label_noise", plan.label_noise)):
            if given != type(given)():
                raise ConfigError(f"data={data.name} is a graph, where {name} has no meaning: leave it out")
        assignment = plan.partition.assign(data, plan.clients, plan.seed)
        owner = np.full(len(data.y), -1, np.int64)
        for k, rows in enumerate(assignment.rows):
            owner[rows] = k
        meta = {
            "_target_": f"{cls.__module__}.{cls.__qualname__}",
            "name": data.name,
            "clients": len(assignment.rows),
            "class_names": data.class_names,
            "seed": assignment.seed,
            "unseen": plan.unseen,
        }
        whole = cls(meta, {"x": data.x, "y": data.y, "edges": edges, "split": split, "owner": owner})
        whole._everybody_holds_labels()
        return whole

    @classmethod
    def from_arrays(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "GraphFederation":
        """The same federation over arrays that may be read-only."""
        return cls(meta, arrays)

    def meta(self) -> dict[str, Any]:
        return dict(self._meta)

    def arrays(self) -> dict[str, np.ndarray]:
        return dict(self._arrays)

    @cached_property
    def graph(self) -> Graph:
        """The whole graph."""
        names = ("x", "y", "edges", "split")
        return Graph(*(torch.from_numpy(np.array(self._arrays[name])) for name in names))

    def client(self, k: int) -> GraphData:
        self._check(k)
        nodes = torch.from_numpy(np.flatnonzero(self._arrays["owner"] == k))
        own = self.graph.inside(nodes)
        held = Samples(own.x, own.y, nodes)
        train, val, test = (held.take(torch.nonzero(own.split == i).flatten()) for i in SPLITS.values())
        return GraphData(
            k,
            self.client_name(k),
            train,
            val,
            test,
            self.num_classes,
            nodes=held,
            labelled=own.split == SPLITS["train"],
            edges=own.edges,
        )

    def sizes(self, split: SplitName | None = None) -> np.ndarray:
        kinds = self._arrays["split"]
        counted = kinds > 0 if split is None else kinds == SPLITS[split]
        owner = self._arrays["owner"][counted]
        return np.bincount(owner[owner >= 0], minlength=self.num_clients)

    @cached_property
    def global_test(self) -> Samples:
        """The test nodes, also those that no client holds."""
        rows = torch.nonzero(self.graph.split == SPLITS["test"]).flatten()
        return Samples(self.graph.x[rows], self.graph.y[rows], rows)

    def _everybody_holds_labels(self) -> None:
        for split in SPLITS:
            empty = np.flatnonzero(self.sizes(split) == 0)
            if len(empty):
                raise ConfigError(
                    f"data={self.name} has {int((self._arrays['split'] == SPLITS[split]).sum())} {split} "
                    f"nodes, and client {empty[0]} of {self.num_clients} would hold none: lower clients, or "
                    "deal the nodes out more evenly"
                )
