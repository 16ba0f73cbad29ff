"""Giving cohorts to workers until every one is done, whatever happens to the workers.

Whoever is free gets the next cohort; where they are short, most of its share in one call, and a call more to
go on with while results travel. What a cohort is does not depend on that: only how many travel together.
A cohort whose worker dies or passes the deadline runs again; if that happens twice it is split into its
clients, and a client that does it once more is given up. A single client is given up at its third death or
second deadline. (Clients that are trained together are split at the fifth fault only: alone their numbers
would round differently.)
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from simulations.engine.pool import Pool, Slot
from simulations.engine.runner import Job, Result

START_SECONDS = 300.0  # how long workers may take to start while none is at work
START_TRIES = 3
SHORT = 0.1  # seconds; a worker with cohorts shorter than this gets its next one before it asks
EARLY = 0.8  # of what is left: how much may travel in large calls; the rest evens out
FEW = 8  # cohorts a worker; of fewer the rest would be one each, which evens out nothing
PATIENT = 60.0  # seconds; with a timeout below nothing waits for what travels with it
log = logging.getLogger(__name__)


@dataclass
class Cohort:
    """Clients that go to a worker together, how often their worker was lost, and an estimate of the work."""

    jobs: list[Job]
    faults: int = 0
    work: float = 1.0

    @property
    def clients(self) -> str:
        """Their numbers, for messages."""
        return ", ".join(str(job.client) for job in self.jobs)


class Dispatcher:
    """One batch of cohorts over a pool.

    `common`: a number for the batch and the arrays its messages share (or their reference); (0, None) where
    there are none. `deadline`: seconds a client may take; None: for ever. `split_at`: faults after which a
    cohort is split. `together`: how many cohorts may travel in one call. `kind`: of
    the messages; each kind has a pace of its own.
    """

    def __init__(
        self,
        pool: Pool,
        cohorts: Iterable[Cohort],
        common: tuple[int, Any],
        deadline: float | None,
        split_at: int = 2,
        together: int = 1,
        kind: str = "",
    ) -> None:
        self.pool = pool
        self.pending = deque(cohorts)
        self.batch, self.shared = common
        self.deadline = deadline
        self.split_at, self.kind = split_at, kind
        self.together = together if deadline is None else 1  # a client that hangs is noticed at once
        self.retries = 0
        self._failed_starts = 0

    def run(self, timeout: float | None, done: Callable[[Result], None]) -> int:
        """Until all is done, or `timeout` seconds are over; how often did a cohort run again?"""
        end = None if timeout is None else time.monotonic() + timeout
        if timeout is not None and timeout < PATIENT:
            self.together = 1  # who waits seconds wants all that is there by then
        try:
            while self.pending or any(slot.queue for slot in self.pool.slots):
                self._give()
                slot = self._wait(end)
                if slot is not None:
                    self._collect(slot, done)
                self._expire(done)
                if end is not None and time.monotonic() >= end:
                    self._give_up_rest(f"no reply within the timeout of {timeout:g} s", done)
        except BaseException:  # an interrupt, or a program that cannot start: leave no worker at old work
            self._reset()
            raise
        return self.retries

    def _give(self) -> None:
        slots = self.pool.slots
        for depth in (1, 2):
            early = EARLY if len(self.pending) >= FEW * len(slots) else 1.0
            share = early * sum(cohort.work for cohort in self.pending) / len(slots)
            enough = len(self.pending) >= len(slots)
            for slot in slots:
                free = self.pending and slot.loading is None and len(slot.queue) < depth
                if free and (depth == 1 or (enough and self._may_follow(slot))):
                    self._submit(slot, self._call_for(slot, share))

    def _may_follow(self, slot: Slot) -> bool:
        """Whether the next cohort may wait behind what the worker is at: neither is suspected of its death.

        A worker that dies takes the reply on its way along, and the call before would get the blame.
        """
        at_work = [cohort for _, call in slot.queue for cohort in call]
        return self._took(slot) < SHORT and not any(cohort.faults for cohort in [*at_work, self.pending[0]])

    def _call_for(self, slot: Slot, share: float) -> list[Cohort]:
        """The next cohort; several that are short and small, since a call costs a millisecond or two.

        share: of the work, at most, unless a single cohort is more
        """
        most = min(self.together, int(SHORT / max(self._took(slot), 1e-3)))
        call = [self.pending.popleft()]
        share -= call[0].work
        while self.pending and len(call) < most and not call[-1].faults and not self.pending[0].faults:
            share -= self.pending[0].work
            if share < 0:
                break
            call.append(self.pending.popleft())
        return call

    def _took(self, slot: Slot) -> float:
        return slot.pace.get(self.kind, float("inf"))

    def _submit(self, slot: Slot, call: list[Cohort]) -> None:
        stored: list[Any] = []  # states from the object store, given by their place

        def placed(job: Job) -> Job:
            if not isinstance(job.state, ray.ObjectRef):
                return job
            stored.append(job.state)
            return job._replace(state=len(stored) - 1)

        cohorts = [[placed(job) for job in cohort.jobs] for cohort in call]
        if not slot.queue:
            slot.since = time.monotonic()
        common = self.shared if slot.batch != self.batch else None
        slot.batch = self.batch
        slot.queue.append((slot.actor.run.remote(self.batch, common, cohorts, *stored), call))

    def _wait(self, end: float | None) -> Slot | None:
        """The slot that has news: its worker is ready, or the first in its queue is done."""
        news = {
            slot.loading or slot.queue[0][0]: slot for slot in self.pool.slots if slot.loading or slot.queue
        }
        ready, _ = ray.wait(list(news), timeout=self._patience(end))
        busy = any(slot.queue for slot in self.pool.slots)
        if not ready and not busy and (end is None or time.monotonic() < end):
            raise RuntimeError(f"no Ray worker started within {START_SECONDS:g} s")
        return news[ready[0]] if ready else None

    def _patience(self, end: float | None) -> float | None:
        busy = [slot for slot in self.pool.slots if slot.queue]
        limits = [] if end is None else [end]
        if self.deadline is not None:
            limits += [slot.since + self.deadline * _clients(slot) for slot in busy]
        if not busy:
            limits.append(time.monotonic() + START_SECONDS)
        return max(0.0, min(limits) - time.monotonic()) if limits else None

    def _collect(self, slot: Slot, done: Callable[[Result], None]) -> None:
        if slot.loading is not None:
            self._started(slot)
            return
        try:
            results = ray.get(slot.queue[0][0])
        except RayError as error:
            self._fault(slot, f"its worker was lost ({type(error).__name__})", done)
            return
        _, call = slot.queue.popleft()
        now = time.monotonic()
        slot.pace[self.kind], slot.since = (now - slot.since) / len(call), now
        for result in results:
            done(result)

    def _started(self, slot: Slot) -> None:
        try:
            ray.get(slot.loading)
            slot.loading = None
            self._failed_starts = 0
        except RayTaskError as error:  # the program itself raised: its own error is what the user must see
            raise error.cause from None
        except RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= START_TRIES:
                raise RuntimeError(f"workers die while they start: {error}") from error
            self.pool.replace(slot)

    def _expire(self, done: Callable[[Result], None]) -> None:
        if self.deadline is None:
            return
        for slot in self.pool.slots:
            late = slot.queue and time.monotonic() - slot.since > self.deadline * _clients(slot)
            if late and not ray.wait([slot.queue[0][0]], timeout=0)[0]:  # not merely waiting to be collected
                reason = f"no reply within engine.deadline={self.deadline:g} s a client"
                self._fault(slot, reason, done, last=2)

    def _fault(self, slot: Slot, reason: str, done: Callable[[Result], None], last: int = 3) -> None:
        """The first call in the queue lost its worker, whichever cohort did it; the rest has not begun."""
        (_, call), *waiting = slot.queue
        self.pool.replace(slot)
        self.pending.extendleft(cohort for _, later in reversed(waiting) for cohort in reversed(later))
        for cohort in reversed(call):
            cohort.faults += 1
            if len(cohort.jobs) == 1 and cohort.faults >= last:
                self._give_up(cohort, reason, done)
                continue
            self.retries += 1
            log.warning("clients %s run again: %s", cohort.clients, reason)
            split = cohort.faults >= self.split_at
            parts = [Cohort([job], last - 1) for job in cohort.jobs] if split else [cohort]
            self.pending.extendleft(reversed(parts))

    def _give_up(self, cohort: Cohort, reason: str, done: Callable[[Result], None]) -> None:
        log.warning("clients %s are given up: %s", cohort.clients, reason)
        for job in cohort.jobs:
            done(Result(job.client, (), None, False, f"client {job.client}: {reason}"))

    def _give_up_rest(self, reason: str, done: Callable[[Result], None]) -> None:
        calls = [call for slot in self.pool.slots for _, call in slot.queue]
        unfinished = [*self.pending, *(cohort for call in calls for cohort in call)]
        self._reset()
        for cohort in unfinished:
            self._give_up(cohort, reason, done)

    def _reset(self) -> None:
        self.pending.clear()
        for slot in self.pool.slots:
            if slot.queue:
                self.pool.replace(slot)


def _clients(slot: Slot) -> int:
    """How many clients are in the call that the slot's worker is at."""
    return sum(len(cohort.jobs) for cohort in slot.queue[0][1])
