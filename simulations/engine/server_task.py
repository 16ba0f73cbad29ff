"""Where the server's own training runs (a generator, a head, a distilled student): here, or as a Ray task.

`engine.server=task` hands each piece of work, a function of its arguments alone, to a task that asks Ray for
`engine.server_cpus` CPUs: on a cluster the driver may be a small machine. The task has as many torch threads
as a worker, which is what the driver has, so the numbers are the same bit for bit.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from simulations.engine.ray_runtime import start_ray
from simulations.engine.worker import extend_path
from strategies.server import in_driver

Execute = Callable[..., Any]


@dataclass(frozen=True)
class RayTask:
    """Carries out work as a Ray task, and waits for it.

    cpus: that it asks for; threads: of torch; address: of the Ray that is started where none is
    """

    cpus: float
    threads: int
    address: str | None = None

    def __call__(self, work: Execute, *arguments: Any) -> Any:
        """What `work(*arguments)` returns; what it raises is raised here."""
        start_ray(self.address)
        import ray

        path = [os.getcwd(), *sys.path]
        task = ray.remote(_work).options(num_cpus=self.cpus, max_retries=3)
        try:
            return ray.get(task.remote(path, self.threads, work, arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _work(path: Sequence[str], threads: int, work: Execute, arguments: Sequence[Any]) -> Any:
    extend_path(path)
    torch.set_num_threads(threads)
    return work(*arguments)


def executor(engine: Mapping[str, Any]) -> Execute:
    """Who carries out the server's work under these settings of the engine."""
    if engine.get("server", "driver") == "driver":
        return in_driver
    return RayTask(engine["server_cpus"], engine["threads_per_worker"], engine["address"])
