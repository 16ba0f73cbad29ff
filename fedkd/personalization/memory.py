"""What FedD2S's server keeps between rounds: heads by cut, soft labels by client, the schedule's state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from fedkd.personalization.cuts import DropState
from fedkd.personalization.global_head import Upload
from fedkd.personalization.heads import grow, mean_by_name
from fedkd.personalization.soft_labels import class_table
from fedkd.training.program import Params


@dataclass(frozen=True)
class Told:
    """Soft labels q (n, M) for one client's samples, made at one cut."""

    cut: int
    ids: Tensor
    q: Tensor


@dataclass
class Memory:
    """Plain data, so that saving it is writing it down.

    heads: G's weights above each cut in use; tables: mean soft labels by class, where these are the teacher
    told: by place among the training clients, what each is told next
    drop: of the cut schedule
    """

    heads: dict[int, Params] = field(default_factory=dict)
    tables: dict[int, Params] = field(default_factory=dict)
    told: dict[int, Told] = field(default_factory=dict)
    drop: DropState = field(default_factory=dict)

    def source(self, cut: int) -> int | None:
        """The cut whose head a new one grows from: the nearest deeper, else the deepest there is."""
        deeper = [other for other in self.heads if other > cut]
        return min(deeper) if deeper else max(self.heads, default=None)

    def head(self, cut: int, growth: str, initial: Params, uploads: Sequence[Upload]) -> Params:
        """The head of a cut; where there is none yet, the one it begins with.

        warm: from its source, new blocks from the initial weights; mean: these from the clients' mean
        bank: all from the initial weights
        """
        if cut in self.heads:
            return self.heads[cut]
        if growth == "mean":
            initial = initial | mean_by_name([(upload.head, upload.weight) for upload in uploads])
        source = None if growth == "bank" else self.source(cut)
        return grow(None if source is None else self.heads[source], initial, cut)

    def tell(self, cut: int, uploads: Sequence[Upload], q: Tensor, known: Tensor) -> None:
        """Keep the rows of q (n, M) that are `known` (n,) for the clients whose uploads they are about."""
        sizes = [len(upload.y) for upload in uploads]
        for upload, rows, has in zip(uploads, q.split(sizes), known.split(sizes), strict=True):
            self.told[upload.client] = Told(cut, upload.ids[has], rows[has].to(upload.dtype))

    def tell_classes(self, cut: int, q: Tensor, y: Tensor, num_classes: int) -> None:
        """Keep the mean of the rows of q (n, M) over each class of y (n,), for all clients at the cut."""
        table, seen = class_table(q, y, num_classes)
        self.tables[cut] = {"table": table, "seen": seen}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as tensors by name."""
        state = {f"drop/{name}": tensor for name, tensor in self.drop.items()}
        for kind, held in (("heads", self.heads), ("tables", self.tables)):
            state |= {f"{kind}/{cut}/{name}": t for cut, params in held.items() for name, t in params.items()}
        for place, told in self.told.items():
            state |= {f"ids/{place}/{told.cut}": told.ids, f"q/{place}/{told.cut}": told.q}
        return state

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "Memory":
        """The memory that gave this state."""
        memory = cls()
        for key, tensor in state.items():
            kind, *path = key.split("/")
            if kind == "drop":
                memory.drop[path[0]] = tensor
            elif kind == "ids":
                place, cut = int(path[0]), int(path[1])
                memory.told[place] = Told(cut, tensor, state[f"q/{place}/{cut}"])
            elif kind != "q":
                getattr(memory, kind).setdefault(int(path[0]), {})[path[1]] = tensor
        return memory
