"""Ray may start before the configuration is checked: nothing is left of it where that ends in a refusal."""

import os
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from simulations.engine import pools


def daemons(mark: str) -> list[str]:
    """Process numbers whose environment has the mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append(place.name)
        except OSError:
            continue
    return found


LATE = (
    (["method=fedavg", "method.strategy.foo=3"], "unknown key 'method.strategy.foo'"),  # while resolving
    (["data=har", "data.root=/nowhere"], "data"),  # while reading
)


@pytest.mark.parametrize(("words", "sentence"), LATE, ids=["key", "data"])
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
def test_a_late_refusal_leaves_no_daemon_behind(words: list[str], sentence: str) -> None:
    mark = f"FEDKD_TEST_MARK={os.getpid()}"
    command = [sys.executable, "-m", "simulations.cli", "run", *words]
    environment = os.environ | dict([mark.split("=")])
    told = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert told.returncode == 2 and told.stderr.startswith(f"fedkd: {sentence}")
    assert len(told.stderr.splitlines()) == 1
    end = time.monotonic() + 20
    while daemons(mark) and time.monotonic() < end:
        time.sleep(0.2)
    assert daemons(mark) == []


@pytest.mark.parametrize(
    ("choice", "engine", "in_advance", "starts"),
    [
        ("ray", {}, True, True),
        ("ray", {"address": "local"}, True, True),
        ("ray", {"address": "auto"}, True, False),
        ("inline", {}, True, False),
        ("ray", {}, False, False),
    ],
)
def test_ray_is_begun_where_this_process_will_need_its_own(
    monkeypatch: pytest.MonkeyPatch, choice: str, engine: dict[str, Any], in_advance: bool, starts: bool
) -> None:
    begun: list[Future[Any]] = []

    def start() -> Future[Any]:
        begun.append(Future())
        return begun[-1]

    monkeypatch.setattr(pools, "start_early", start)
    monkeypatch.setattr(pools, "_begun", [])
    monkeypatch.setattr(pools, "_pools", {})
    monkeypatch.setattr(pools, "in_advance", in_advance)
    pools.begin(choice, engine)
    pools.begin(choice, engine)
    assert len(begun) == starts and pools.settle(0.0) == (not starts)
    for future in begun:
        future.set_result(None)
    assert pools.settle(0.0)
