"""From `engine.*` to a grid: Ray is started first, in the background, and serves all runs of a process."""

from collections.abc import Callable, Mapping
from typing import Any

from simulations.engine.base import SimulationGrid
from simulations.engine.inline import InlineGrid
from simulations.engine.pools import pool_for
from simulations.engine.runner import Program


def open_grid(
    config: Mapping[str, Any], program: Program, cost: Callable[[int], float] | None = None
) -> SimulationGrid:
    """The grid that `config` asks for, with this program on its workers.

    cost: an estimate of a client's work, so that the longest go first
    """
    engine = config["engine"]
    if config["choices"]["engine"] == "inline":
        return InlineGrid(program, engine["threads_per_worker"], raise_errors=engine["raise_errors"])
    from simulations.engine.grid import RayGrid  # imports Ray

    return RayGrid(program, pool_for(engine).result(), engine["deadline"], cost=cost)
