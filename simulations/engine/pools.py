"""One pool of workers for all runs of a process; light to import, so that Ray can be started first of all."""

import json
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from simulations.engine.ray_runtime import start_pool

_pools: dict[str, "Future[Any]"] = {}


def warm_up(config: Mapping[str, Any]) -> None:
    """Start the workers in the background, so that they are ready when the data have been read."""
    if config["choices"]["engine"] == "ray":
        pool_for(config["engine"])


def pool_for(engine: Mapping[str, Any]) -> "Future[Any]":
    """One pool for all runs of this process that ask for the same workers."""
    wanted = {key: engine[key] for key in ("workers", "threads_per_worker", "address", "gpus_per_worker")}
    key = json.dumps(wanted, sort_keys=True)
    if key not in _pools:
        for other in list(_pools.values()):
            if other.exception() is None:
                other.result().close()
        _pools.clear()
        _pools[key] = start_pool(**wanted)
    return _pools[key]
