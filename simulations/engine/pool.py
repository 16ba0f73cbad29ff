"""Long-lived Ray workers. One that dies or hangs is replaced; its work is the dispatcher's affair."""

import os
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from fedkd.errors import ConfigError
from simulations.engine.ray_runtime import cpu_count, start_ray
from simulations.engine.runner import Program
from simulations.engine.worker import Worker


@dataclass
class Slot:
    """A worker's place in the pool: the actor that fills it, and what it was given, oldest first."""

    actor: Any
    loading: Any = None  # until this reference is there, the actor is not ready
    queue: deque[tuple[Any, Any]] = field(default_factory=deque)  # (reference of the results, cohorts)
    since: float = 0.0  # when the first in the queue began
    pace: dict[str, float] = field(default_factory=dict)  # seconds a cohort, in the latest call of each kind
    batch: int = 0  # whose common arrays it was sent


class Pool:
    """The workers. One pool may serve several programs, one after another.

    server_cpus: CPUs that are left to tasks of the server
    """

    def __init__(
        self,
        workers: int | None = None,
        threads_per_worker: int = 1,
        address: str | None = None,
        gpus_per_worker: float = 0.0,
        server_cpus: float = 0.0,
    ) -> None:
        _check(workers, threads_per_worker, gpus_per_worker)
        own = address in (None, "local")
        start_ray(address)
        self.threads = threads_per_worker
        self._options = {
            "num_cpus": 0 if own else threads_per_worker,  # a private Ray is all ours: no book-keeping
            "num_gpus": gpus_per_worker,
            "scheduling_strategy": "SPREAD",
        }
        self._loaded: Program | None = None
        self._program: tuple[Any, ...] = ()  # the same, in the object store
        number = _fitting(workers, threads_per_worker, gpus_per_worker, own, server_cpus)
        self.slots = [Slot(self._spawn()) for _ in range(number)]

    def load(self, program: Program) -> None:
        """Give every worker this program; returns at once. Its arrays are put into the object store once."""
        if program is self._loaded:
            return
        self._loaded = program
        self._program = (ray.put(replace(program, arrays={})), ray.put(dict(program.arrays)))
        for slot in self.slots:
            slot.loading = slot.actor.load.remote(*self._program)

    def replace(self, slot: Slot) -> None:
        """A new worker for one that died or hangs; what it had in its queue is forgotten."""
        ray.kill(slot.actor)
        slot.queue.clear()
        slot.batch, slot.pace = 0, {}
        slot.actor = self._spawn()
        slot.loading = slot.actor.load.remote(*self._program) if self._program else None

    def close(self) -> None:
        """End the workers. Ray itself stays for the next pool, until the process ends."""
        for slot in self.slots if ray.is_initialized() else ():
            with suppress(ray.exceptions.RayError):  # its Ray was shut down by somebody else, and it with it
                ray.kill(slot.actor)
        self.slots.clear()

    def _spawn(self) -> Any:
        path = [os.getcwd(), *sys.path]
        return ray.remote(Worker).options(**self._options).remote(path, self.threads)


def _fitting(workers: int | None, threads: int, gpus: float, own: bool, server: float) -> int:
    """The number of workers; by default as many as there are cores, and GPUs where they are asked for.

    Those of a private Ray ask it for no CPUs, so that the server's tasks find all of them.
    """
    have = ray.cluster_resources()
    cores = cpu_count() if own else have.get("CPU", 1)
    if server > cores:
        raise ConfigError(f"engine.server_cpus={server:g}: there are only {cores:g} CPUs")
    room = int(cores if own else cores - server) // threads
    if gpus:
        room = min(room, int(have.get("GPU", 0) / gpus + 1e-9))
    if workers is None:
        workers = max(1, room)
    if workers > room and (gpus or not own):  # Ray would wait for ever for what is not there
        cpus, cards = have.get("CPU", 0), have.get("GPU", 0)
        raise ConfigError(
            f"engine.workers={workers} do not fit: each takes {threads} CPUs and {gpus:g} GPUs "
            f"(engine.threads_per_worker, engine.gpus_per_worker) of {cpus:g} CPUs and {cards:g} GPUs"
            + (f", where the server takes {server:g} CPUs (engine.server_cpus)" if server else "")
        )
    return workers


def _check(workers: int | None, threads: int, gpus: float) -> None:
    if workers is not None and workers < 1:
        raise ConfigError(f"engine.workers={workers} must be at least 1, or null for one a core")
    if threads < 1:
        raise ConfigError(f"engine.threads_per_worker={threads} must be at least 1")
    if gpus < 0:
        raise ConfigError(f"engine.gpus_per_worker={gpus} must not be negative")
