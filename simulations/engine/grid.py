"""`engine=ray`: a Flower `Grid` over long-lived Ray workers."""

import itertools
from collections.abc import Callable
from typing import Any

import ray

from clients.arrays import LazyArray
from fedkd.errors import ConfigError
from simulations.engine.base import RUN_ID, SimulationGrid
from simulations.engine.dispatch import Cohort, Dispatcher
from simulations.engine.packing import Packed
from simulations.engine.pool import Pool
from simulations.engine.ray_runtime import INLINE_BYTES
from simulations.engine.runner import Job, Program, Result
from simulations.flower_private import kind_of

SPLIT_TOGETHER = 5  # faults of a cohort that is trained together, until it is split into its clients
BATCHES = itertools.count(1)
STATE_BYTES = 1 << 20  # a state of this size may stay in the driver
DRIVER_BYTES = 1 << 29  # how much the driver itself keeps of client states


class RayGrid(SimulationGrid):
    """Clients on the workers of a pool.

    `deadline`: seconds a client may take before its worker is replaced. `cost(client)`: an estimate of its
    work; the longest go first.
    """

    def __init__(
        self,
        program: Program,
        pool: Pool,
        deadline: float | None = None,
        cost: Callable[[int], float] | None = None,
        run_id: int = RUN_ID,
    ) -> None:
        super().__init__(program, run_id)
        if deadline is not None and deadline <= 0:
            raise ConfigError(f"engine.deadline={deadline} must be a positive number of seconds, or null")
        self.pool, self.deadline, self.cost = pool, deadline, cost
        pool.load(program)

    def _execute(
        self, jobs: list[Job], shared: list[LazyArray], timeout: float | None, done: Callable[[Result], None]
    ) -> int:
        self.pool.load(self.program)
        weight = sum(array.ndarray.nbytes for array in shared)
        common = (
            (next(BATCHES), ray.put(shared) if weight * len(self.pool.slots) > INLINE_BYTES else shared)
            if shared
            else (0, None)
        )
        split_at = SPLIT_TOGETHER if self.program.together else 2
        cohorts = self._cohorts(jobs)
        size = max(weight, 1) * max((len(cohort.jobs) for cohort in cohorts), default=1)
        together = INLINE_BYTES // size  # replies about as large as what was sent still travel inline
        kind = kind_of(jobs[0].messages[0].metadata) if jobs else ""
        dispatcher = Dispatcher(self.pool, cohorts, common, self.deadline, split_at, together, kind)
        return dispatcher.run(timeout, done)

    def _cohorts(self, jobs: list[Job]) -> list[Cohort]:
        cohorts = [Cohort(part) for part in self.program.cohorts(jobs)]
        if self.cost is not None:
            for cohort in cohorts:
                cohort.work = sum(self.cost(job.client) for job in cohort.jobs)
            cohorts.sort(key=lambda cohort: -cohort.work)
        return cohorts

    def _keep(self, state: Packed) -> Any:
        """Small states stay in the driver while all of them fit; others are copied into the object store.

        Never the reference a task returned: that would keep the task's inputs alive, round after round.
        """
        small = state.nbytes <= STATE_BYTES and state.nbytes * len(self._states) <= DRIVER_BYTES
        return state.frozen() if small else ray.put(state)

    def _fetch(self, kept: list[Any]) -> list[Packed]:
        return [state if isinstance(state, Packed) else ray.get(state) for state in kept]
