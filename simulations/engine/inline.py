"""`engine=inline`: clients one after another in this process, for debugging and tiny runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from clients.arrays import LazyArray
from simulations.engine.base import RUN_ID, SimulationGrid
from simulations.engine.memory import keep_freed_memory
from simulations.engine.runner import Job, Program, Result, Runner


class InlineGrid(SimulationGrid):
    """With `raise_errors` a client's exception stops the run as `ClientError`, its traceback whole."""

    def __init__(
        self, program: Program, threads_per_worker: int = 1, raise_errors: bool = False, run_id: int = RUN_ID
    ) -> None:
        super().__init__(program, run_id)
        keep_freed_memory()
        self.threads = threads_per_worker
        self.runner = Runner(program, {k: _constant(v) for k, v in program.arrays.items()}, raise_errors)

    def _execute(
        self, jobs: list[Job], shared: list[LazyArray], timeout: float | None, done: Callable[[Result], None]
    ) -> int:
        with torch_threads(self.threads):
            for cohort in self.program.cohorts(jobs):
                for result in self.runner.run_all(cohort, shared):
                    done(result._replace(replies=tuple(envelope.frozen() for envelope in result.replies)))
        return 0


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """As many torch threads as a worker has: float sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _constant(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
