"""Runs whose pages are looked at: small, real, and with something to show in every section."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulations import sweep
from simulations.cli import main
from simulations.config import resolve
from simulations.run import run

TINY = ["engine=inline", "clients=6", "rounds=4", "model=mlp", "data.max_samples=500"]


@pytest.fixture(scope="session")
def robust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the flagship: own models, a generator, a cut that falls, weights of clients and of classes,
    clients away."""
    out = tmp_path_factory.mktemp("robust") / "run"
    words = "method=fedd2s_robust weighting=eg availability=dropout availability.dropout=0.3"
    fit = "model.hidden=[24,16,12] method.strategy.fitting.steps=2 method.strategy.samples=50"
    clock = "_target_=fedkd.personalization.cuts.Clock", "rate=1"
    more = ["class_weighting=margin", "class_weighting.alpha=0.5", "figures_every=2"]
    falling = [f"method.strategy.schedule.{word}" for word in clock]
    config = resolve([*TINY, *words.split(), *fit.split(), *more, *falling])
    run({**config, "out": str(out)}, out)
    return out


@pytest.fixture(scope="session")
def adaptive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of FedD2S in which clients leave cuts one by one, and which was attacked afterwards."""
    out = tmp_path_factory.mktemp("adaptive") / "run"
    words = (
        "method=fedd2s model.hidden=[24,16,12] rounds=6 local.epochs=3 method.strategy.schedule.patience=1"
    )
    rule = "method.strategy.schedule._target_=fedkd.personalization.cuts.ClientDrop"
    config = resolve([*TINY, *words.split(), rule])
    run({**config, "out": str(out)}, out)
    assert main(["privacy", str(out), "--steps", "3", "--victims", "1"]) == 0
    return out


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over methods and seeds, with the page that ends it."""
    out = tmp_path_factory.mktemp("swept") / "all"
    words = [*TINY, "method=local,fedavg_ft", "seed=1,2", "availability=stragglers", f"out={out}"]
    assert sweep.carry_out(sweep.plan(words), run) == 0
    return out


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that keeps a log of its console and of every request."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    places = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} here: Debian's chromium and chromium-driver have them")
    options = webdriver.ChromeOptions()
    options.binary_location = places["chromium"]
    for word in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "window-size=1440,1000",
    ):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(places["chromedriver"]))
    yield driver
    driver.quit()
