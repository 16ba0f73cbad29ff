"""What a strategy whose server does more than averaging is given, and what it can save.

Stock strategies know nothing of this. One that trains at the server (a global head, a generator, a distilled
student) is a `ServerSide`: the run hands it a `Server` once, before the first round.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedkd.data.samples import Samples
from fedkd.models.shifted import Shifted
from fedkd.models.staged import StagedModel
from fedkd.seeds import torch_rng
from fedkd.training.loop import Trainer
from fedkd.training.program import Params


def in_driver(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do the server's work here and now."""
    return work(*arguments)


def places_of(grid: Grid) -> dict[int, int]:
    """Each node that may train, by its place among all of them, in partition order.

    Our grid also knows those who may train but are away now; another grid's nodes are always there.
    """
    everybody = getattr(grid, "training", None) or grid.get_node_ids()
    return {node: place for place, node in enumerate(everybody)}


@dataclass
class Server:
    """The server's workbench.

    trainer: the global architecture with a scratch network; `trainer.network` is overwritten at will
    initial: the common initial weights
    training_size: how many of the clients may be sampled for training; None: all
    public: unlabelled use only, for methods that distil on public data; None for all others
    execute: carries out the server's heavy work, here or elsewhere: `execute(function, *arguments)`
    shift: (M,) added to a network's logits in this round's losses; None for nothing
    """

    trainer: Trainer
    initial: Params
    federation_size: int
    num_classes: int
    seed: int
    public: Samples | None = None
    training_size: int | None = None
    execute: Callable[..., Any] = in_driver
    shift: Tensor | None = None

    @property
    def network(self) -> StagedModel:
        """The scratch network as this round's losses, teachers among them, see it."""
        network = self.trainer.network
        return network if self.shift is None else Shifted(network, self.shift)

    def rng(self, purpose: str, server_round: int) -> Any:
        """The generator of one purpose and round at the server."""
        return torch_rng(self.seed, f"server {purpose}", server_round)


class ServerSide:
    """Mixin for strategies that hold more than the global arrays.

    Everything that a later round depends on must be in `state_dict`: a checkpoint holds it, and `resume`
    puts it back.
    """

    server: Server

    class_margins = False
    """Whether what learns at the server does so under `Server.shift`, as `Server.network` does."""

    def attach(self, server: Server) -> None:
        """Take the workbench, once, before the first round."""
        self.server = server

    def check_networks(self, networks: Sequence[StagedModel]) -> None:
        """Raise ConfigError where the clients' architectures (the server's first) do not fit together."""

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        """Why a reply to `asked`, in training, is of no use, in a few words; None: it is. See `misfit`."""
        return None

    def follow_up(self, server_round: int, grid: Grid) -> Iterable[Message]:
        """Messages of a second exchange after this round's aggregation; usually none."""
        return []

    def heard(self, server_round: int, replies: Iterable[Message]) -> None:
        """Take in the replies of the second exchange."""

    def report(self) -> list[dict[str, Any]]:
        """What this round's aggregation leaves to be recorded, a row a client or class: `multipliers.csv`."""
        return []

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name; empty where only the global arrays matter."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state."""
