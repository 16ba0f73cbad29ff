"""Client weightings: the contract that all share, and each against its formula."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fedkd.build import build
from fedkd.errors import ConfigError
from fedkd.robust.drfa import DRFA
from fedkd.robust.loss_weighting import AFL, EG, GIFAIR, CVaR, Power, Tilted
from fedkd.robust.update_weighting import QFFL, FedMGDA
from fedkd.robust.weighting import Samples, Uniform, Weighting, Weights

CONF = Path(__file__).parents[2] / "simulations/conf/weighting"
SIZES = np.array([10.0, 30.0, 40.0, 20.0])
IDS = np.arange(4)
LOSSES = np.array([0.3, 0.9, 0.1, 0.5])
UPDATES = np.random.default_rng(0).normal(size=(4, 6))

MAKERS: dict[str, Any] = {
    "uniform": Uniform,
    "eg": EG,
    "afl": AFL,
    "cvar": CVaR,
    "tilted": Tilted,
    "tilted-memory": lambda **kw: Tilted(memory=0.5, **kw),
    "power": Power,
    "gifair": GIFAIR,
    "qffl": lambda **kw: QFFL(lr=0.1, **kw),
    "fedmgda": FedMGDA,
    "drfa": lambda **kw: DRFA(steps=3, seed=0, **kw),
}


def given(weighting: Weighting, losses: Any = LOSSES, updates: Any = UPDATES) -> tuple[Any, Any]:
    """The losses and updates that a weighting asks for."""
    return (
        losses if "losses" in weighting.needs else None,
        updates if "updates" in weighting.needs else None,
    )


def once(weighting: Weighting, losses: Any = LOSSES, updates: Any = UPDATES, sizes: Any = SIZES) -> Weights:
    state = weighting.init(len(sizes), sizes)
    return weighting.weights(np.arange(len(sizes)), sizes, *given(weighting, losses, updates), state)[0]


@pytest.mark.parametrize("name", MAKERS)
def test_weights_are_a_distribution_over_rounds(name: str) -> None:
    weighting, draw = MAKERS[name](), np.random.default_rng(1)
    state = weighting.init(8, draw.integers(1, 50, 8))
    for server_round in range(30):
        ids = np.sort(draw.choice(8, 4, replace=False))
        losses, updates = given(weighting, draw.exponential(size=4), draw.normal(size=(4, 6)))
        weights, state = weighting.weights(ids, SIZES, losses, updates, state)
        probe = weighting.second_sample(server_round, 8, 4)
        state = weighting.observe({int(k): {"risk": draw.random()} for k in probe}, state)
        assert weights.client.dtype == np.float64 and weights.client.shape == (4,)
        assert (weights.client >= 0).all() and weights.client.sum() == pytest.approx(1, abs=1e-12)
        assert 0 < weights.scale < np.inf


@pytest.mark.parametrize("name", MAKERS)
def test_alpha_zero_is_the_base_method_bit_for_bit(name: str) -> None:
    weighting = MAKERS[name](alpha=0)
    assert weighting.neutral and not weighting.needs and weighting.client_config(1) == {}
    assert len(weighting.second_sample(1, 10, 4)) == 0
    state = weighting.init(4, SIZES)
    weights, after = weighting.weights(IDS, SIZES, None, None, state)
    want, _ = Samples().weights(IDS, SIZES, None, None, {})
    assert weights.client.tobytes() == want.client.tobytes() == (SIZES / SIZES.sum()).tobytes()
    assert weights.scale == 1.0 and after is state
    assert weighting.observe({0: {"risk": 0.5}}, state).keys() == state.keys()


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"uniform", "drfa", "fedmgda"}))
@pytest.mark.parametrize("loss", [0.0, 0.7])
def test_equal_losses_are_fedavg(name: str, loss: float) -> None:
    weights = once(MAKERS[name](), np.full(4, loss))
    np.testing.assert_allclose(weights.client, SIZES / 100, rtol=1e-12)
    if name != "qffl":  # q-FedAvg up to the server step
        assert weights.scale == 1.0


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"uniform", "drfa", "fedmgda"}))
def test_unknown_losses_are_neutral(name: str) -> None:
    np.testing.assert_allclose(once(MAKERS[name](), np.full(4, np.nan)).client, SIZES / 100, rtol=1e-12)
    weights = once(MAKERS[name](), np.array([0.5, np.inf, 0.5, 0.5]))
    np.testing.assert_allclose(weights.client, SIZES / 100, rtol=1e-12)


def test_drfa_is_fedavg_before_and_under_equal_risks() -> None:
    drfa = DRFA(steps=3, seed=0)
    state = drfa.init(4, SIZES)
    for _ in range(3):
        weights, state = drfa.weights(IDS, SIZES, None, UPDATES, state)
        np.testing.assert_allclose(weights.client, SIZES / 100, rtol=1e-12)
        assert weights.scale == 1.0
        state = drfa.observe({k: {"risk": 0.7} for k in range(4)}, state)


@pytest.mark.parametrize(
    "name", ["uniform", "eg", "afl", "cvar", "tilted", "power", "gifair", "qffl", "fedmgda", "drfa"]
)
def test_permuted_clients_get_permuted_weights(name: str) -> None:
    weighting, order = MAKERS[name](), np.array([2, 0, 3, 1])
    state = weighting.init(4, SIZES)
    losses, updates = given(weighting)
    weights, _ = weighting.weights(IDS, SIZES, losses, updates, state)
    losses, updates = given(weighting, LOSSES[order], UPDATES[order])
    moved, _ = weighting.weights(IDS[order], SIZES[order], losses, updates, state)
    np.testing.assert_allclose(moved.client, weights.client[order], rtol=1e-6)
    assert moved.scale == pytest.approx(weights.scale)


@pytest.mark.parametrize("k", range(4))
def test_multipliers_at_a_corner_step_along_one_client(k: int) -> None:
    """With lambda = e_k the step is client k's own update, exactly; the released AFL baseline averages."""
    for weighting in (AFL(), DRFA(steps=1, seed=0)):
        state = {**weighting.init(4, SIZES), "multipliers": np.eye(4)[k]}
        weights, _ = weighting.weights(IDS, SIZES, *given(weighting), state)
        np.testing.assert_array_equal(weights.scale * weights.client @ UPDATES, UPDATES[k])
    eg = EG()
    weights, _ = eg.weights(IDS, SIZES, LOSSES, None, {"tilt": 1e3 * (np.eye(4)[k] - 1), "updates": 0})
    np.testing.assert_allclose(weights.client, np.eye(4)[k], atol=1e-5)
    alone = once(CVaR(level=0.01), np.eye(4)[k])
    np.testing.assert_array_equal(alone.client @ UPDATES, UPDATES[k])
    far = once(Tilted(t=1e3), np.eye(4)[k])
    np.testing.assert_allclose(far.client @ UPDATES, UPDATES[k], rtol=1e-12)


def test_alpha_blends_steps() -> None:
    base = SIZES / 100
    half, full = once(EG(alpha=0.25)), once(EG(alpha=1.0))
    np.testing.assert_allclose(half.client, 0.75 * base + 0.25 * full.client)
    half, full = once(QFFL(lr=0.1, alpha=0.25)), once(QFFL(lr=0.1))
    np.testing.assert_allclose(half.scale * half.client, 0.75 * base + 0.25 * full.scale * full.client)
    np.testing.assert_allclose(once(Uniform(alpha=0.5)).client, 0.5 * base + 0.125)


def test_eg_by_hand() -> None:
    """Two of four clients seen: factor 2, a step of 0.5 at risks 1 and 0, base shares 0.25 and 0.75."""
    eg = EG(gamma=0.5, decay=1.0)
    seen, sizes = np.array([0, 1]), np.array([10, 30])
    weights, state = eg.weights(seen, sizes, np.array([1.0, 0.0]), None, eg.init(4, SIZES))
    np.testing.assert_allclose(weights.client, np.array([np.e, 3]) / (np.e + 3))
    # Client 0 keeps its multiplier against clients 2 and 3, which were not seen.
    later, _ = eg.weights(np.array([0, 2]), np.array([1, 1]), np.zeros(2), None, state)
    np.testing.assert_allclose(later.client, np.array([np.e, 1]) / (np.e + 1))


def test_excess_subtracts_what_a_client_reaches_alone() -> None:
    excess, plain = EG(risk="excess"), EG(risk="error")
    assert excess.client_config(1) == {"report-risk": "error"}
    assert plain.client_config(1) == {"report-risk": "error"}
    state = excess.observe({k: {"reference-risk": 0.1 * k} for k in range(4)}, excess.init(4, SIZES))
    got, _ = excess.weights(IDS, SIZES, LOSSES, None, state)
    want, _ = plain.weights(IDS, SIZES, LOSSES - 0.1 * IDS, None, plain.init(4, SIZES))
    np.testing.assert_array_equal(got.client, want.client)
    # A client without a reference is unknown: it keeps its share against the others.
    state = excess.observe({0: {"reference-risk": 0.0}}, excess.init(4, SIZES))
    got, _ = excess.weights(IDS, SIZES, LOSSES, None, state)
    np.testing.assert_allclose(got.client, SIZES / 100)


def test_power_gives_qffls_weights_without_its_step() -> None:
    weights = once(Power(q=2.0))
    want = SIZES * LOSSES**2
    np.testing.assert_allclose(weights.client, want / want.sum())
    assert weights.scale == 1.0
    np.testing.assert_allclose(weights.client, once(QFFL(lr=0.1, q=2.0)).client)
    np.testing.assert_allclose(once(Power(q=0.0)).client, SIZES / 100)


def test_gifair_by_hand() -> None:
    gifair = GIFAIR(strength=0.6)
    losses = np.array([0.5, 0.9, 0.1, 0.5])
    weights = once(gifair, losses)
    # r = (0, 3, -3, 0), lambda = 0.6 * 0.1 / 3 = 0.02
    np.testing.assert_allclose(weights.client, np.array([0.1, 0.36, 0.34, 0.2]))
    # Stale losses of clients outside the round still rank: r of client 0 is 1 + 1 - 1.
    state = gifair.observe({1: {"risk": 0.9}, 2: {"risk": 0.1}, 3: {"risk": 0.3}}, gifair.init(4, SIZES))
    weights, _ = gifair.weights(np.array([0, 3]), np.array([1, 1]), np.array([0.5, 0.3]), None, state)
    tilted = np.array([1 + 0.02 * 1 / 0.1, 1 - 0.02 * 1 / 0.2])
    np.testing.assert_allclose(weights.client, tilted / tilted.sum())


def test_what_is_missing_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"weighting=qffl needs the clients' updates, which method=fedgkt"):
        QFFL(lr=0.1).check({"losses"}, "method=fedgkt")
    CVaR().check({"losses"}, "method=fedgkt")
    with pytest.raises(ConfigError, match="weighting=eg needs the clients' losses"):
        EG().weights(IDS, SIZES, None, None, EG().init(4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EG(alpha=1.5), "weighting.alpha=1.5"),
        (lambda: EG(risk="train_loss"), "weighting.risk=train_loss: eg takes one of error, loss, excess"),
        (lambda: QFFL(lr=0.1, q=-1), "weighting.q=-1"),
        (lambda: QFFL(lr=0.0), "weighting.lr=0"),
        (lambda: EG(gamma=-0.1), "gamma=-0.1: a number from 0"),
        (lambda: AFL(gamma=-0.1), "gamma=-0.1: a number from 0"),
        (lambda: Power(risk="excess"), "weighting.risk=excess can be negative"),
        (lambda: GIFAIR(strength=1.0), "weighting.strength=1"),
        (lambda: FedMGDA(eps=2), "weighting.eps=2"),
        (lambda: DRFA(steps=None, seed=0), "set local.steps"),
        (lambda: DRFA(steps=2, seed=0, floor=0), "weighting.floor=0"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_builds_its_name(path: Path) -> None:
    text = path.read_text()
    for key, value in {"local.lr": "0.1", "local.steps": "5", "seed": "0", "rounds": "20"}.items():
        text = text.replace("${" + key + "}", value)
    weighting = build(yaml.safe_load(text))
    assert weighting.name == path.stem and weighting.client_config(1) is not None
