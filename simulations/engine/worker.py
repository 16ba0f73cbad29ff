"""The body of a Ray worker. Light to import, so that it has a say in how the rest is."""

import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simulations.engine.memory import keep_freed_memory, uncollected

if TYPE_CHECKING:
    from flwr.app import Array

    from simulations.engine.runner import Job, Program, Result


class Worker:
    """A `Runner`, in a process of its own.

    path: where the driver looks for modules
    threads: of PyTorch
    """

    def __init__(self, path: Sequence[str], threads: int) -> None:
        extend_path(path)
        keep_freed_memory()
        with uncollected():
            import torch

            import simulations.engine.runner
        gc.freeze()  # nor is it looked through ever after
        torch.set_num_threads(threads)
        self.make = simulations.engine.runner.Runner
        self.batch: tuple[int, list[Array]] = (0, [])

    def load(self, program: "Program", arrays: dict[str, Any]) -> None:
        """Set the program up; `arrays` arrive as views of shared memory."""
        with uncollected():
            self.runner = self.make(program, arrays, expendable=True)

    def run(
        self, batch: int, common: "list[Array] | None", cohorts: "list[list[Job]]", *states: Any
    ) -> "list[Result]":
        """The jobs of cohorts; a state from the object store is given by its place in `states`.

        common: what the messages of a batch have in common, with the first call of the batch alone
        """
        if common is not None:
            self.batch = (batch, common)
        received, shared = self.batch
        if batch not in (0, received):
            raise RuntimeError(f"the arrays of batch {batch} did not arrive")

        def ready(job: "Job") -> "Job":
            return job._replace(state=states[job.state]) if isinstance(job.state, int) else job

        done = [self.runner.run_all([ready(job) for job in jobs], shared) for jobs in cohorts]
        return [result for results in done for result in results]


def extend_path(entries: Sequence[str]) -> None:
    """Make importable what the driver can import: a user's client is a file in the current folder."""
    sys.path.extend(entry for entry in entries if entry not in sys.path)
