"""The server's own training as a Ray task: the same numbers, and its mistakes reach the driver."""

from pathlib import Path

import pytest
import torch

from benchmarks.drivers import difference
from fedkd.errors import ConfigError
from simulations.config import resolve
from simulations.engine.server_task import RayTask, executor
from simulations.run import run
from strategies.server import in_driver

TINY = ("model=mlp", "model.hidden=[8]", "clients=3", "data.max_samples=150", "local.steps=2", "rounds=2")


def test_a_task_returns_raises_and_draws_as_the_driver_does() -> None:
    def refuse(reason: str) -> None:  # inner functions travel by value: a worker need not find this module
        raise ConfigError(reason)

    def draw(rng: torch.Generator) -> torch.Tensor:
        return torch.rand(3, generator=rng)

    task = executor(resolve(["engine.server=task"])["engine"])
    assert isinstance(task, RayTask) and executor(resolve([])["engine"]) is in_driver
    assert executor(resolve(["engine=inline"])["engine"]) is in_driver
    chances = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(task(draw, chances[0]), draw(chances[1]))
    with pytest.raises(ConfigError, match="exactly this"):
        task(refuse, "exactly this")


def test_a_run_ends_in_the_same_numbers(tmp_path: Path) -> None:
    outs = [tmp_path / where for where in ("driver", "task")]
    for out in outs:
        quick = ("method.strategy.fitting.steps=3", "method.strategy.samples=20")
        words = [*TINY, "method=fedd2s_robust", *quick]
        run(resolve([*words, f"engine.server={out.name}", "engine.workers=1", f"out={out}"]), out)
    assert difference(*outs) == 0
