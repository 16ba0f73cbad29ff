"""How several runs fill one machine, with the same numbers bit for bit whichever way is taken.

*Side by side*: as many whole runs at a time as there are cores, each in a process of its own that plays its
clients one after another. *One after another*: each run on all workers of the one Ray instance that serves
them all. `places` is the rule.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkd.errors import ConfigError
from simulations import rundir
from simulations.engine.ray_runtime import cpu_count
from simulations.workers import Workers

PARALLEL = "sweep.parallel"
MEMORY_A_RUN = 2 * 2**30
"""Bytes of the machine's memory that one of several runs side by side may count on."""

Start = Callable[[dict[str, Any], Path], None]
"""What carries out one run: `start(config, out)`."""

Resume = Callable[[Path], None]
"""What goes on with an unfinished run."""


@dataclass
class Job:
    """One run and what became of it.

    parallel: how many runs at a time the user wants, where that was said
    trace: of what it raised, where that was no mistake of the user's
    """

    config: dict[str, Any]
    status: str = "waiting"
    seconds: float = 0.0
    parallel: int | None = None
    trace: str = ""

    @property
    def out(self) -> Path:
        """The run folder."""
        return Path(self.config["out"])

    @property
    def finished(self) -> bool:
        """Whether its run folder is whole, now or from before."""
        return self.status.startswith("done")


Play = Callable[[Sequence[Job]], Iterator[Job]]
"""Does jobs and yields each as it ends, with its status and seconds."""


def take_parallel(overrides: Sequence[str]) -> tuple[list[str], int | None]:
    """The overrides of the runs themselves, and how many runs at a time the user wants."""
    own = [text for text in overrides if text.partition("=")[0].lstrip("+") == PARALLEL]
    rest = [text for text in overrides if text not in own]
    if not own:
        return rest, None
    value = own[-1].partition("=")[2]
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"{PARALLEL}={value}: a whole number of runs at a time, from 1, is needed")
    return rest, int(value)


def places(jobs: Sequence[Job], start: Start) -> int:
    """How many of these runs are played at a time, where the user did not say.

    The machine has a place for each `engine.threads_per_worker` cores (of `fedkd distill`, which has no
    engine: `threads`), as far as its memory has `MEMORY_A_RUN` for each. They are used if at least as many
    runs are left and nothing under `engine` asks for certain workers (a number of them, GPUs, a cluster, this
    process); else runs go one after another.
    """
    if not jobs or "<" in start.__qualname__:  # made inside a function, it cannot reach another process
        return 1
    engines = [job.config.get("engine") or {"threads_per_worker": job.config["threads"]} for job in jobs]
    bound = any(
        engine.get("gpus_per_worker") or engine.get("address", "local") != "local" for engine in engines
    )
    wanted = jobs[0].parallel
    if wanted is not None:
        if wanted > 1 and bound:
            raise ConfigError(
                f"{PARALLEL}={wanted}: side by side runs use neither GPUs nor a cluster; 1 is needed"
            )
        return min(wanted, len(jobs))
    bound |= any(job.config["choices"].get("engine", "ray") != "ray" for job in jobs)
    bound |= any(engine.get("workers") is not None for engine in engines)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    there = min(
        cpu_count() // max(engine["threads_per_worker"] for engine in engines), memory // MEMORY_A_RUN
    )
    return there if not bound and 1 < there <= len(jobs) else 1


@contextmanager
def player(jobs: Sequence[Job], start: Start, resume: Resume | None = None) -> Iterator[Play]:
    """What plays batches of jobs like these, side by side or one after another."""
    count = places(jobs, start)
    if count == 1:
        yield lambda batch: (_do(job, start, resume) for job in batch)
        return
    print(f"{count} runs at a time, each in a process of its own", flush=True)
    with Workers(count) as workers:
        yield lambda batch: _together(workers, batch, start, resume)


def _together(workers: Workers, jobs: Sequence[Job], start: Start, resume: Resume | None) -> Iterator[Job]:
    """Side by side; a run that was begun on Ray goes on there, in this process."""
    begun = [job for job in jobs if rundir.standing(job.out) == "unfinished" and _began_on_ray(job.out)]
    yield from (_do(job, start, resume) for job in begun)
    rest = [job for job in jobs if job not in begun]
    for place, outcome in workers.play([(_advance, (_inline(job.config), start, resume)) for job in rest]):
        job = rest[place]
        job.seconds, job.trace = outcome.seconds, outcome.trace
        job.status = f"failed: {outcome.error}" if outcome.error else "done"
        yield job


def _began_on_ray(out: Path) -> bool:
    return bool(rundir.load_config(out)["choices"].get("engine") == "ray")


def _inline(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same run in one process; as on Ray, a client that raises is left out instead of ending the run."""
    if config["choices"].get("engine") != "ray":
        return dict(config)
    same = {key: config["engine"].get(key) for key in ("threads_per_worker", "vectorise", "cohort_size")}
    engine = {**same, "raise_errors": False}
    return {**config, "choices": {**config["choices"], "engine": "inline"}, "engine": engine}


def _advance(config: dict[str, Any], start: Start, resume: Resume | None) -> None:
    """Finish a run from wherever it stands."""
    out = Path(config["out"])
    if resume is not None and not config["overwrite"] and rundir.standing(out) == "unfinished":
        resume(out)
    elif not rundir.is_done(config):
        start(config, out)


def _do(job: Job, start: Start, resume: Resume | None) -> Job:
    began = time.perf_counter()
    try:
        _advance(job.config, start, resume)
        job.status = "done"
    except ConfigError as error:
        job.status = f"failed: {error}"
    except Exception as error:  # whatever a run raises, the other runs go on
        job.status, job.trace = f"failed: {type(error).__name__}: {error}", traceback.format_exc()
    job.seconds = time.perf_counter() - began
    return job
