"""Group multipliers: who counts how much, learned from the risk of each group.

Groups are clients (K,), classes (M,) or client x class (K, M); multipliers of any of these shapes lie in one
simplex. Every family has the same two methods,

    init(prior) -> state                                     prior: the weights it starts from, all groups
    update(risk, state, prior, groups) -> (multipliers, state)

where `groups` selects the groups seen now (client ids, or everything), and `risk`, `prior` and the returned
multipliers run over these. A state is a flat dict of float64 arrays and numbers; `update` never edits its
arguments and passes keys on that it does not know. A risk that is not finite is unknown: it neither raises
nor lowers its group. A step `gamma` may be a schedule of the number of the update, from 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from fedkd.errors import ConfigError
from fedkd.schedule import Schedule, Value, at

State = dict[str, Any]


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """`size / sqrt(n)` at update n, the step of the usual saddle-point analyses."""

    size: float = 0.1

    def __call__(self, server_round: int) -> float:
        return float(self.size / max(server_round, 1) ** 0.5)


class Multiplier:
    """Base: what every family of multipliers offers."""

    def init(self, prior: np.ndarray) -> State:
        """The state before any update."""
        return {}

    def update(
        self, risk: np.ndarray, state: State, prior: np.ndarray, groups: Any = ...
    ) -> tuple[np.ndarray, State]:
        """The multipliers of `groups` in view of `risk`, and the next state."""
        raise NotImplementedError


class Exponentiated(Multiplier):
    """Exponentiated gradient, the adversary of group DRO (Sagawa et al., arXiv 1911.08731) in log space:

        log l_k <- log l_k + gamma * min(K/m, cap) * R_k  for seen k;   log l <- log l - logsumexp(log l)

    Kept is `tilt_k = log(l_k / p_k)`, the tilt against the prior. So a prior known only for the groups of a
    round is enough, and the decay `tilt <- decay * tilt` forgets towards the prior (the published
    `log l <- rho log l` where that is uniform). `floor` bounds l / p from below: a dead group can recover.
    """

    def __init__(
        self, gamma: Value = 0.1, decay: float = 1.0, cap: float = 10.0, floor: float = 1e-6
    ) -> None:
        if not 0 < decay <= 1:
            raise ConfigError(f"decay={decay}: a number in (0, 1] is needed")
        if cap < 1:
            raise ConfigError(f"cap={cap}: the largest importance factor is at least 1")
        if not 0 < floor < 1:
            raise ConfigError(f"floor={floor}: a number in (0, 1) is needed")
        check_step(gamma)
        self.gamma, self.decay, self.cap, self.floor = gamma, decay, cap, floor

    def init(self, prior: np.ndarray) -> State:
        return {"tilt": np.zeros(np.shape(prior)), "updates": 0}

    def update(
        self, risk: np.ndarray, state: State, prior: np.ndarray, groups: Any = ...
    ) -> tuple[np.ndarray, State]:
        step = at(self.gamma, state["updates"] + 1) * importance(state["tilt"].size, risk.size, self.cap)
        tilt = self.decay * state["tilt"]
        tilt[groups] += _kept_where_unknown(step * risk, prior * np.exp(tilt[groups] - tilt.max()))
        tilt = np.maximum(tilt - logsumexp(tilt), np.log(_lowest(self.floor, tilt.size)))
        state = {**state, "tilt": tilt - logsumexp(tilt), "updates": state["updates"] + 1}
        return self.shares(state, prior, groups), state

    def shares(self, state: State, prior: np.ndarray, groups: Any = ...) -> np.ndarray:
        """The multipliers restricted to `groups`, renormalised."""
        tilt = state["tilt"][groups]
        share = prior * np.exp(tilt - tilt.max())
        return share / share.sum()


class Projected(Multiplier):
    """Euclidean ascent on the simplex, AFL (Mohri et al., ICML 2019, arXiv 1902.00146):

        l <- proj( l + gamma * min(K/m, cap) * R ),   R = 0 for groups that were not seen

    `update` returns the multipliers before the ascent, as there: the model and l step from the same point.
    """

    def __init__(self, gamma: Value = 0.1, cap: float = 10.0, floor: float = 0.0) -> None:
        if cap < 1:
            raise ConfigError(f"cap={cap}: the largest importance factor is at least 1")
        if not 0 <= floor < 1:
            raise ConfigError(f"floor={floor}: a number in [0, 1) is needed")
        check_step(gamma)
        self.gamma, self.cap, self.floor = gamma, cap, floor

    def init(self, prior: np.ndarray) -> State:
        return {"multipliers": np.asarray(prior, np.float64) / np.sum(prior), "updates": 0}

    def update(
        self, risk: np.ndarray, state: State, prior: np.ndarray, groups: Any = ...
    ) -> tuple[np.ndarray, State]:
        seen = state["multipliers"][groups]
        # Projection gives exact zeros, so a sample can hold no mass at all: then nothing is known about it.
        shares = seen / seen.sum() if seen.sum() > 0 else prior
        return shares, self.ascend(risk, state, groups)

    def ascend(self, risk: np.ndarray, state: State, groups: Any = ...) -> State:
        """One step up the risks of `groups`."""
        moved = state["multipliers"].copy()
        step = at(self.gamma, state["updates"] + 1) * importance(moved.size, risk.size, self.cap)
        moved[groups] += step * known(risk)
        multipliers = floored(project_simplex(moved), self.floor)
        return {**state, "multipliers": multipliers, "updates": state["updates"] + 1}


class Superquantile(Multiplier):
    """CVaR: the prior on the worst `level` of its mass (Laguel et al., arXiv 2112.09429).

    The boundary group counts for the fraction that fills the level exactly, and groups tied there share it
    by their prior; the released code keeps the whole boundary client. Level 1 is the prior.
    """

    def __init__(self, level: float = 0.2) -> None:
        if not 0 < level <= 1:
            raise ConfigError(f"level={level}: a number in (0, 1] is needed")
        self.level = level

    def update(
        self, risk: np.ndarray, state: State, prior: np.ndarray, groups: Any = ...
    ) -> tuple[np.ndarray, State]:
        risk = known(risk)
        order = np.argsort(-risk, axis=None, kind="stable")
        mass = np.cumsum(prior.ravel()[order])
        level = self.level * mass[-1]
        boundary = risk.ravel()[order[np.searchsorted(mass, level)]]
        above, tied = prior * (risk > boundary), prior * (risk == boundary)
        shares = above + tied * max(level - above.sum(), 0.0) / tied.sum()
        return shares / shares.sum(), state


class Tilted(Multiplier):
    """Exponential tilting, TERM (Li et al., ICLR 2021, arXiv 2007.01162): `p_k exp(t R_k) / Z`.

    memory = 0 takes Z from the groups at hand (a softmax, summing to one). memory > 0 averages it over
    rounds, `log Z <- log(memory * Z + (1 - memory) * sum_k p_k exp(t R_k))`, so that weights of different
    samples are comparable; they then sum to one only on average. Unlike the release (memory 0.5), Z stays
    in log space without a shift and starts at its first value instead of 0.
    """

    def __init__(self, t: float = 0.1, memory: float = 0.0) -> None:
        if not 0 <= memory < 1:
            raise ConfigError(f"memory={memory}: a number in [0, 1) is needed")
        self.t, self.memory = t, memory

    def update(
        self, risk: np.ndarray, state: State, prior: np.ndarray, groups: Any = ...
    ) -> tuple[np.ndarray, State]:
        exponent = self.t * known(risk)
        log_z = logsumexp(exponent, b=prior)
        if self.memory > 0:
            past = state.get("log_z", log_z)
            log_z = float(np.logaddexp(np.log(self.memory) + past, np.log1p(-self.memory) + log_z))
            state = {**state, "log_z": log_z}
        return prior * np.exp(exponent - log_z), state


class Power(Multiplier):
    """`p_k R_k^q`, normalised: the gradient weights of q-FFL (Li et al., ICLR 2020, arXiv 1905.10497)."""

    def __init__(self, q: float = 1.0) -> None:
        if q < 0:
            raise ConfigError(f"q={q}: a number from 0 is needed")
        self.q = q

    def update(
        self, risk: np.ndarray, state: State, prior: np.ndarray, groups: Any = ...
    ) -> tuple[np.ndarray, State]:
        risk = np.maximum(known(risk), 0) + 1e-10
        shares = prior * (risk / risk.max()) ** self.q
        return shares / shares.sum(), state


def check_step(gamma: Value) -> None:
    """Refuse a step down the risks, which would favour those who are well off."""
    if not at(gamma, 1) >= 0:
        raise ConfigError(f"gamma={gamma}: a number from 0 is needed, the step up the risks")


def importance(everyone: int, seen: int, cap: float) -> float:
    """K/m, which makes a sampled risk unbiased, but at most `cap`: a tiny sample must not throw everyone."""
    return min(everyone / seen, cap)


def known(risk: np.ndarray) -> np.ndarray:
    """Risks with the unknown ones replaced by the mean of the others (zeros where none is known)."""
    finite = np.isfinite(risk)
    return np.where(finite, risk, risk[finite].mean() if finite.any() else 0.0)


def project_simplex(v: np.ndarray) -> np.ndarray:
    """The point of the simplex nearest to `v` (any shape), by sorting."""
    u = np.sort(v, axis=None)[::-1]
    excess = (np.cumsum(u) - 1) / np.arange(1, u.size + 1)
    return np.maximum(v - excess[np.flatnonzero(u > excess)[-1]], 0)


def floored(multipliers: np.ndarray, floor: float) -> np.ndarray:
    """Every entry raised to `floor`, then renormalised."""
    if floor == 0:
        return multipliers
    raised = np.maximum(multipliers, _lowest(floor, multipliers.size))
    return raised / raised.sum()


def _lowest(floor: float, count: int) -> float:
    """The floor, at most a tenth of the uniform share: in a large population it must not level everyone."""
    return min(floor, 0.1 / count)


def _kept_where_unknown(growth: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Growth in log space; where unknown, that of the total of the others, which keeps the share as it is."""
    finite = np.isfinite(growth)
    if finite.all() or not finite.any():
        return np.where(finite, growth, 0.0)
    others = logsumexp(growth[finite], b=share[finite]) - np.log(share[finite].sum())
    return np.where(finite, growth, others)
