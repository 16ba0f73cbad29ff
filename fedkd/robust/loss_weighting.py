"""Weightings that need only the clients' losses: they compose with every method.

Each is one family of multipliers (see `fedkd.robust.multipliers`) with clients as groups, under the name and
with the defaults of its paper; GIFAIR ranks instead.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fedkd.errors import ConfigError
from fedkd.protocol import RISK
from fedkd.robust import multipliers
from fedkd.robust.multipliers import State
from fedkd.robust.weighting import LossWeighting, Replies, Weighting, prior
from fedkd.schedule import Value


class EG(LossWeighting):
    """Worst client by exponentiated gradient, this project's default (Sagawa et al., arXiv 1911.08731).

    gamma: step of the multipliers, for a risk in [0, 1]
    decay: memory of the multipliers; 1 never forgets a client that is not seen again
    cap: largest importance factor K/m of a sampled client
    floor: smallest multiplier, relative to the prior
    """

    name = "eg"

    def __init__(
        self,
        alpha: float = 1.0,
        risk: str = "error",
        gamma: Value = 0.1,
        decay: float = 0.99,
        cap: float = 10.0,
        floor: float = 1e-6,
        reference: str | None = None,
    ) -> None:
        super().__init__(multipliers.Exponentiated(gamma, decay, cap, floor), alpha, risk, reference)


class AFL(LossWeighting):
    """Agnostic federated learning (Mohri et al., ICML 2019): projected ascent, weights before the ascent.

    The multipliers start at the clients' shares where these are known (uniform in the released baseline). The
    returned model is the last one, not the average of the iterates. The analysis asks for full participation
    and one local step.
    """

    name = "afl"

    def __init__(
        self,
        alpha: float = 1.0,
        risk: str = "loss",
        gamma: Value = 0.1,
        cap: float = 10.0,
        floor: float = 0.0,
        reference: str | None = None,
    ) -> None:
        super().__init__(multipliers.Projected(gamma, cap, floor), alpha, risk, reference)


class CVaR(LossWeighting):
    """The worst `level` of the sampled clients, by mass (Laguel et al., arXiv 2112.09429).

    Unlike there all sampled clients train; those outside get weight zero.
    """

    name = "cvar"

    def __init__(
        self, alpha: float = 1.0, risk: str = "loss", level: float = 0.2, reference: str | None = None
    ) -> None:
        super().__init__(multipliers.Superquantile(level), alpha, risk, reference)


class Tilted(LossWeighting):
    """TERM (Li et al., ICLR 2021): t > 0 towards the worst client, t < 0 away from outliers.

    t: tilt, relative to the scale of the risk
    memory: of the normaliser over rounds; above 0 the weights carry a server step
    """

    name = "tilted"

    def __init__(
        self,
        alpha: float = 1.0,
        risk: str = "loss",
        t: float = 0.1,
        memory: float = 0.0,
        reference: str | None = None,
    ) -> None:
        super().__init__(multipliers.Tilted(t, memory), alpha, risk, reference)


class Power(LossWeighting):
    """`p_k R_k^q`, normalised: the gradient weights of q-FFL (Li et al., ICLR 2020, arXiv 1905.10497).

    `qffl` without the part of its step that needs updates, for methods that send none. q = 0 is the base
    method; `qffl` alone has the published step.

    q: 0 average, large towards the worst client
    """

    name = "power"

    def __init__(
        self, alpha: float = 1.0, risk: str = "loss", q: float = 1.0, reference: str | None = None
    ) -> None:
        if risk == "excess":
            raise ConfigError(
                "weighting.risk=excess can be negative and has no power: error or loss is needed"
            )
        super().__init__(multipliers.Power(q), alpha, risk, reference)


class GIFAIR(Weighting):
    """GIFAIR-FL (Yue et al., arXiv 2108.02741), individual fairness: weights `p_k + lambda r_k`.

    `r_k = sum_j sign(F_k - F_j)` over the last known losses of all clients, and
    `lambda = strength * min_k p_k / (K-1)`, which keeps every weight positive and makes the effect small for
    many clients (the bound falls as 1/K^2). Ties count zero instead of being broken at random, and an unknown
    loss ranks in the middle.
    """

    name = "gifair"
    requires = frozenset({"losses"})

    def __init__(
        self, alpha: float = 1.0, risk: str = "loss", strength: float = 0.5, reference: str | None = None
    ) -> None:
        super().__init__(alpha, risk, reference)
        if not 0 <= strength < 1:
            raise ConfigError(f"weighting.strength={strength}: a number in [0, 1) is needed")
        self.strength = strength

    def init(self, num_clients: int, sizes: Sequence[float] | np.ndarray | None = None) -> State:
        own = {"losses": np.full(num_clients, np.nan), "prior": prior(num_clients, sizes)}
        return {**own, **super().init(num_clients)}

    def observe(self, reports: Mapping[int, Mapping[str, float]], state: State) -> State:
        """Losses of clients outside the round count as well."""
        state = super().observe(reports, state)
        ids = np.array([client for client, report in reports.items() if RISK in report], np.int64)
        return self._learn(ids, self.above_reference(ids, [reports[k][RISK] for k in ids], state), state)

    def robust(self, seen: Replies, state: State) -> tuple[np.ndarray, State]:
        state = self._learn(seen.ids, seen.risk, state)
        shares, losses = state["prior"], state["losses"]
        # A rank from the sorted known losses: how many are below minus how many are above.
        ranked = np.sort(losses[np.isfinite(losses)])
        below, above = (
            np.searchsorted(ranked, losses[seen.ids]),
            np.searchsorted(-ranked[::-1], -losses[seen.ids]),
        )
        rank = np.where(np.isfinite(losses[seen.ids]), below - above, 0)
        strength = self.strength * shares.min() / max(len(shares) - 1, 1)
        tilted = seen.base * (1 + strength * rank / shares[seen.ids])
        return tilted / tilted.sum(), state

    def _learn(self, ids: np.ndarray, risk: np.ndarray, state: State) -> State:
        losses = state["losses"].copy()
        losses[ids] = np.where(np.isfinite(risk), risk, losses[ids])
        return {**state, "losses": losses}
