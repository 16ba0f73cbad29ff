"""Intervals of comparisons: the hierarchical bootstrap, and what they allow to be printed bold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fedkd.fairness import metrics
from simulations.compare import read
from simulations.comparing import bootstrap
from simulations.comparing.bootstrap import draws, estimate, interval
from simulations.comparing.table import COLUMNS

LEVELS = np.array([0.5, 0.6, 0.7, 0.8])


@pytest.mark.parametrize("name", ["mean", "worst10", "std", "jain"])
def test_statistics_are_those_of_the_metrics(name: str) -> None:
    values = np.random.default_rng(0).random((3, 25))
    reference = {"worst10": metrics.worst}.get(name, getattr(metrics, name, None))
    assert reference is not None
    expected = [reference(row) for row in values]
    assert getattr(bootstrap, name)(values).tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("level", "name"),
    [("clients", "mean"), ("clients", "worst10"), ("clients", "std"), ("repeats", "mean")],
)
def test_one_level_is_the_bootstrap_of_scipy(level: str, name: str) -> None:
    values = np.random.default_rng(1).beta(8, 2, 30)
    statistic = getattr(bootstrap, name)
    repeats = [values] if level == "clients" else list(values[:, None])
    drawn = draws([each[None] for each in repeats], statistic, count=20_000)[0]
    reference = stats.bootstrap(
        (values,),
        lambda sample, axis: statistic(sample),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    room = 0.04 * reference.standard_error
    assert interval(drawn) == pytest.approx(tuple(reference.confidence_interval), abs=3 * room)
    assert drawn.std(ddof=1) == pytest.approx(reference.standard_error, abs=room)
    assert estimate(repeats, statistic) == pytest.approx(statistic(values))


def test_both_levels_add_up() -> None:
    """Variance of the mean: between repeats, plus within them, each divided by what is averaged over."""
    rng = np.random.default_rng(3)
    repeats = [
        level + rng.normal(0, 0.05, clients)
        for level, clients in zip((0.5, 0.6, 0.7, 0.8), (9, 12, 15, 12), strict=True)
    ]
    drawn = draws([each[None] for each in repeats], bootstrap.mean, count=40_000)[0]
    between = np.var([each.mean() for each in repeats])
    within = np.mean([each.var() / each.size for each in repeats])
    assert drawn.var() == pytest.approx((between + within) / len(repeats), rel=0.03)


def test_differences_are_paired_by_client() -> None:
    values = np.random.default_rng(4).random(20)
    first, second = draws([np.stack([values + 0.01, values])], bootstrap.mean)
    assert first - second == pytest.approx(np.full(2000, 0.01))


def test_bold_needs_an_interval_that_is_off_zero(made: Callable[..., Path]) -> None:
    noise = np.random.default_rng(5).normal(0, 0.05, 30)
    base = np.random.default_rng(6).uniform(0.4, 0.9, 30)
    folders = [
        made("a", base, "method=local"),
        made("b", base + 0.02, "method=fedavg_ft"),
        made("c", base + noise, "method=fedprox"),
    ]
    table = read(folders)
    assert [table.cells[each.label]["mean"].best for each in table.groups] == [False, True, False]
    assert table.cells["fedavg_ft"]["gain_mean"].best
    assert not table.cells["fedavg_ft"]["bytes"].best
    close = read([folders[0], folders[2]])
    assert not any(row["mean"].best for row in close.cells.values())
    worse = read([folders[0], made("d", base - 0.1, "method=fedavg")])
    assert not worse.cells["fedavg"]["gain_mean"].best


def test_every_figure_has_an_interval_that_is_reproducible(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made("a", LEVELS, "method=fedavg_ft")
    first, second = read([folder]), read([folder])
    assert first.cells == second.cells
    for key, cell in first.cells["fedavg_ft"].items():
        assert cell.low <= cell.high
        assert key in COLUMNS
