"""One pool of workers for all runs of a process; light to import, so that Ray can be started first of all."""

import json
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Any

from simulations.engine.ray_runtime import start_early, start_pool

_pools: dict[str, "Future[Any]"] = {}
_begun: list["Future[Any]"] = []
in_advance = False
"""Whether Ray may be started before it is known to be needed: in a process that runs one command and ends."""


def begin(choice: str | None, engine: Mapping[str, Any]) -> None:
    """Start Ray itself, while the rest of a configuration is still being looked at.

    choice: the name chosen under `engine`; engine: its settings, as far as they are known
    """
    if in_advance and not _begun and choice == "ray" and engine.get("address") in (None, "local"):
        _begun.append(start_early())


def settle(seconds: float = 30.0) -> bool:
    """Wait for whatever is just starting: only then can it be ended in good order. False: it takes longer."""
    return not wait([*_begun, *_pools.values()], seconds).not_done


def warm_up(config: Mapping[str, Any]) -> None:
    """Start the workers in the background, so that they are ready when the data have been read."""
    if config["choices"]["engine"] == "ray":
        pool_for(config["engine"])


def pool_for(engine: Mapping[str, Any]) -> "Future[Any]":
    """One pool for all runs of this process that ask for the same workers."""
    wanted = {key: engine[key] for key in ("workers", "threads_per_worker", "address", "gpus_per_worker")}
    wanted["server_cpus"] = engine["server_cpus"] if engine.get("server") == "task" else 0.0
    key = json.dumps(wanted, sort_keys=True)
    if key not in _pools:
        for other in list(_pools.values()):
            if other.exception() is None:
                other.result().close()
        _pools.clear()
        _pools[key] = start_pool(**wanted)
    return _pools[key]
