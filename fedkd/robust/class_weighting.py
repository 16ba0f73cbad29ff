"""Worst-class training in a federation: one multiplier a class at the server, margins in everybody's losses.

The objective of `fedkd.robust.worst_class` over the union of the clients,

    sum_y w_y R_y,   w = (1 - alpha)/M + alpha * multipliers,

with R_y the risk of class y pooled over the clients' validation splits. The server learns the multipliers and
the prior, clients (and whatever the server itself distils) train under the shift `-log c`, c = w / prior. The
prior is that of the data as it counts: sum_k omega_k n_k^y / n_k, omega_k the client's weight in its last
round. So client multipliers and class multipliers do not count a client's rare class twice. A design of our
own; the gains are those of S. Wang et al., UAI 2023, arXiv 2206.06479.
"""

import numpy as np

from fedkd.robust.multipliers import State
from fedkd.robust.worst_class import ClassMultipliers, pooled_class_risks
from fedkd.schedule import Value


class ClassWeighting:
    """How much each class counts, learned from what clients tell.

    alpha: 0 balanced, 1 the worst class alone
    gamma: step of the multipliers, one a round, for risks in [0, 1]
    warmup: rounds without a step
    floor: smallest multiplier
    """

    def __init__(self, alpha: float = 0.5, gamma: Value = 0.1, warmup: int = 0, floor: float = 1e-6) -> None:
        self.adversary = ClassMultipliers("tradeoff", alpha, gamma, warmup, floor)

    def init(self, num_clients: int, num_classes: int) -> State:
        """All classes equal, of no client anything known."""
        known = {"counts": np.zeros((num_clients, num_classes)), "weight": np.zeros(num_clients)}
        return self.adversary.init(num_classes) | known

    def observe(
        self,
        ids: np.ndarray,
        counts: np.ndarray,
        weight: np.ndarray,
        correct: np.ndarray,
        total: np.ndarray,
        state: State,
    ) -> State:
        """The state after a round.

        ids: (m,) clients, by place; counts: (m, M) their training labels; weight: (m,) how much each counted
        correct, total: (m, M) on their validation splits
        """
        held, weights = state["counts"].copy(), state["weight"].copy()
        held[ids], weights[ids] = counts, weight
        risks = pooled_class_risks(correct, total)
        return self.adversary.update(risks, {**state, "counts": held, "weight": weights})

    def prior(self, state: State) -> np.ndarray:
        """The share of each class (M,) in the data as it counts; zeros before anything is known."""
        sizes = state["counts"].sum(1)
        mass = (state["weight"] / np.maximum(sizes, 1)) @ state["counts"]
        return mass / (mass.sum() or 1.0)

    def multipliers(self, state: State) -> np.ndarray:
        """The multipliers (M,), summing to one."""
        return self.adversary.multipliers(state)

    def gains(self, state: State) -> np.ndarray:
        """The gains c (M,); 1 for a class that nobody is known to hold."""
        prior = self.prior(state)
        return np.where(prior > 0, self.adversary.gains(state, prior), 1.0)
