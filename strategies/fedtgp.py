"""FedTGP's server: it trains prototypes that keep the classes apart, instead of averaging the clients'.

Zhang et al., AAAI 2024, arXiv 2401.03230 (specified here after the paper and public code; not in our notes).
P[c] = F(e_c), e_c a trained vector of the class, F = linear, ReLU, linear, of width d. For every client's
prototype C, of class y, by SGD in mini-batches, with Euclidean distances,

    -log [ exp(-(|C - P[y]| + delta)) / ( exp(-(|C - P[y]| + delta)) + sum_{c != y} exp(-|C - P[c]|) ) ]

delta = min(tau, the largest of the distances from a class's mean prototype to its nearest other one). The
client is FedProto's. Departures: a client's prototypes count as much as `weighting=` makes of its samples; a
class that nobody ever held has no prototype for the clients (theirs get an untrained one).
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.models.build import initialise
from fedkd.objectives.ops import squared_distances
from fedkd.protocol import PROTOTYPES
from fedkd.training.descent import descend
from fedkd.training.optimizers import SGD
from fedkd.training.program import Params
from strategies.knowledge import ClassKnowledge

_NETWORK = "network."


class FedTGP(ClassKnowledge):
    """Trainable prototypes.

    server_epochs, server_batch_size, server_lr: of the server's SGD, each round
    margin: tau
    kind: name of the record
    rest: of `ClassKnowledge`
    """

    def __init__(
        self,
        server_epochs: int = 100,
        server_batch_size: int = 10,
        server_lr: float = 0.01,
        margin: float = 100.0,
        kind: Literal["prototypes"] = PROTOTYPES,
        **rest: Any,
    ) -> None:
        super().__init__(kind=kind, **rest)
        for key, value in (("epochs", server_epochs), ("batch_size", server_batch_size)):
            if value < 1:
                raise ConfigError(f"method.strategy.server_{key}={value}: a whole number from 1 is needed")
        if server_lr <= 0 or margin < 0:
            raise ConfigError(
                f"method.strategy.server_lr={server_lr}, method.strategy.margin={margin}: a positive number, "
                "and one from 0, are needed"
            )
        self.epochs, self.batch_size, self.lr, self.margin = (
            server_epochs,
            server_batch_size,
            server_lr,
            margin,
        )
        self.trained: Params = {}

    def learn(self, tables: Tensor, counts: Tensor, factor: Tensor, server_round: int) -> None:
        super().learn(tables, counts, factor, server_round)
        client, label = torch.nonzero(counts, as_tuple=True)
        classes, width = tables.shape[1:]
        network = initialise(lambda: prototype_network(classes, width), self.server.seed)
        network.load_state_dict(self.trained or network.state_dict())
        present = label.unique()
        delta = margin_of(self.rows["table"][present], self.margin)
        chance = self.server.rng("prototypes", server_round)
        self.trained, table = self.server.execute(
            self.fit, network, tables[client, label], label, factor[client], delta, chance
        )
        self.rows = {"table": table, "seen": self.rows["seen"]}

    def fit(
        self,
        network: nn.Module,
        rows: Tensor,
        y: Tensor,
        weight: Tensor,
        delta: float,
        chance: torch.Generator,
    ) -> tuple[Params, Tensor]:
        """The network's state after training on prototypes `rows` (n, d) of classes y (n,), and its rows."""
        everyone = torch.arange(network[0].num_embeddings)  # type: ignore[index]
        optimizer = SGD(network.parameters(), self.lr)
        for _ in range(self.epochs):
            for part in torch.randperm(len(y), generator=chance).split(self.batch_size):
                loss = contrast(rows[part], network(everyone), y[part], delta)
                descend(optimizer, (weight[part] * loss).sum() / weight[part].sum())
        state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        return state, network(everyone).detach()

    def state_dict(self) -> dict[str, Tensor]:
        return self.rows | {_NETWORK + name: value for name, value in self.trained.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        own = {name for name in state if name.startswith(_NETWORK)}
        self.trained = {name.removeprefix(_NETWORK): state[name] for name in state if name in own}
        self.rows = {name: state[name] for name in state if name not in own}


def prototype_network(classes: int, width: int) -> nn.Module:
    """A vector a class, and two layers on it."""
    return nn.Sequential(
        nn.Embedding(classes, width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
    )


def contrast(rows: Tensor, prototypes: Tensor, y: Tensor, delta: float) -> Tensor:
    """The margin-enhanced contrastive loss of each row (n, d) against the prototypes (M, d), (n,)."""
    # The root has no gradient at 0.
    distances = squared_distances(rows, prototypes).clamp_min(1e-12).sqrt()
    return F.cross_entropy(-(distances + delta * F.one_hot(y, len(prototypes))), y, reduction="none")


def margin_of(means: Tensor, largest: float) -> float:
    """delta, from the mean prototypes (n, d) of the classes there are; 0 where there is one alone."""
    if len(means) < 2:
        return 0.0
    gaps = torch.cdist(means, means).fill_diagonal_(torch.inf)
    return min(largest, float(gaps.min(1).values.max()))
