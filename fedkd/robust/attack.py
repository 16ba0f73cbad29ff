"""Clients that send bad updates: w + factor (w_k - w), where they received w and trained it to w_k.

factor -1 is the flipped sign, a large one the scaled update (both as in Blanchard et al., NeurIPS 2017, and
Li et al., ICML 2021, where they are corruptions to be robust against). An attacker keeps, and uses, what it
really learned.
"""

from collections.abc import Collection
from dataclasses import dataclass

from fedkd.errors import ConfigError
from fedkd.seeds import rng
from fedkd.training.program import Params


@dataclass(frozen=True)
class Attack:
    """Who attacks, and how.

    factor: on the update; 1 is honest
    clients: fraction of all clients that attack, in every round that they take part in
    """

    factor: float
    clients: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.clients <= 1:
            raise ConfigError(f"attack.clients={self.clients}: a fraction in [0, 1] is needed")

    def chosen(self, num_clients: int, seed: int) -> frozenset[int]:
        """The attackers: a seeded choice."""
        count = round(self.clients * num_clients) if self.factor != 1 else 0
        return frozenset(rng(seed, "attack-clients").permutation(num_clients)[:count].tolist())

    def sent(self, received: Params, trained: Params, moving: Collection[str]) -> Params:
        """What an attacker sends in place of `trained`; changed is what is `moving` and was received."""
        return {
            name: received[name] + self.factor * (value - received[name])
            if name in moving and name in received
            else value
            for name, value in trained.items()
        }
