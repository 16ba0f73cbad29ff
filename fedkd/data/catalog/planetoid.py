"""Citation graphs with Planetoid's public split (Yang, Cohen, Salakhutdinov 2016, arXiv 1603.08861)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedkd.data.dataset import DataSet
from fedkd.data.files import DataFile, Lookup, read_npz
from fedkd.data.plan import Plan
from fedkd.graphs.federation import GraphFederation

NAMES = ("feat_data", "feat_indices", "feat_indptr", "feat_shape", "y", "edges", "split")


@dataclass(frozen=True)
class Citation:
    """Papers, the words in them, and who cites whom, from one .npz of plain arrays.

    feat_*: words in compressed rows; y: (N,), -1 unknown; edges: (2, E), each once; split: (N,) 0 to 3

    root: folder of the file, null looks in the usual places; verify: compare with the known checksum.
    """

    root: str | None = None
    verify: bool = True

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    sha256: ClassVar[str]
    is_graph: ClassVar[bool] = True

    def federation(self, plan: Plan) -> GraphFederation:
        """The nodes dealt out to clients; each client keeps the edges among its own."""
        how = f"put {self.name}.npz (arrays {', '.join(NAMES)}; docs/data.md) into data.root"
        lookup = Lookup(self.name, how, folders=("planetoid",))
        file = lookup.find(self.root, f"{self.name}.npz", sha256=self.sha256 if self.verify else None)
        if file is None:
            raise lookup.missing(self.root, f"file {self.name}.npz")
        data, edges, split = self._read(file)
        return GraphFederation.divide(data, edges, split, plan)

    def _read(self, file: DataFile) -> tuple[DataSet, np.ndarray, np.ndarray]:
        """Nodes; edges (2, E) in both directions; split (N,)."""
        values, columns, starts, shape, y, once, split = read_npz(file, *NAMES)
        nodes, words = (int(side) for side in shape)
        sound = len(starts) == nodes + 1 and len(y) == len(split) == nodes and once.ndim == 2
        if not sound or columns.max(initial=0) >= words or once.max(initial=0) >= nodes:
            raise file.broken("holds arrays that do not fit together")
        x = np.zeros((nodes, words), np.float32)
        x[np.repeat(np.arange(nodes), np.diff(starts)), columns] = values
        x /= np.maximum(x.sum(1, keepdims=True), 1)  # a paper is a mixture of words, however long it is
        both = np.concatenate([once, once[::-1]], axis=1).astype(np.int64)
        if (y[split > 0] < 0).any():
            raise file.broken("has a node of unknown class in a split")
        data = DataSet(self.name, x, np.maximum(y, 0).astype(np.int64), self.classes)
        return data, both, split.astype(np.int64)


@dataclass(frozen=True)
class Cora(Citation):
    """Cora: 2,708 papers, 1,433 words, 5,278 citations, 7 fields; 140 of them labelled (Sen et al. 2008)."""

    name: ClassVar[str] = "cora"
    classes: ClassVar[tuple[str, ...]] = tuple(map(str, range(7)))
    sha256: ClassVar[str] = "3a9cf1c1fdc46e3b86b377581920b0561b3eb0d957d17627ef2a3e004a14a75a"


@dataclass(frozen=True)
class Citeseer(Citation):
    """Citeseer: 3,327 papers, 3,703 words, 4,552 citations, 6 fields; 120 labelled (Giles et al. 1998)."""

    name: ClassVar[str] = "citeseer"
    classes: ClassVar[tuple[str, ...]] = tuple(map(str, range(6)))
    sha256: ClassVar[str] = "e11390ba26f05b42f3141623751a982a8076f48f00726bd95ab637415ae342fd"
