"""Whole runs side by side: long-lived processes, each of which does one call after another.

A worker that dies takes only the call in its hands with it and is replaced. Ctrl-C is the parent's to handle;
workers end with it, however it ends.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from fedkd.errors import ConfigError

LEAVING = 5.0
"""Seconds that a dismissed worker has."""
Call = tuple[Callable[..., None], tuple[Any, ...]]
"""A function that another process can import, and its arguments."""


class Outcome(NamedTuple):
    """How a call ended; `error` is empty where it went well, `trace` where it was the user's mistake."""

    error: str
    trace: str
    seconds: float


@dataclass
class _Worker:
    process: SpawnProcess
    link: Connection
    place: int | None = None
    begun: float = 0.0

    def dismiss(self) -> None:
        """Who has nothing to do leaves by itself, so that its libraries can tidy up; who has is stopped."""
        if self.place is not None:
            self.process.terminate()
            return
        with suppress(OSError):
            self.link.send(None)


class Workers:
    """A context that holds `count` processes, started when there is work."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._let_rounds_end()
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.process.join(LEAVING)
            worker.process.terminate()
            worker.process.join()
            worker.link.close()
        self._workers.clear()

    def _let_rounds_end(self) -> None:
        """The first Ctrl-C reaches what the workers do, and is waited for; a second one ends them at once."""
        busy = [worker.process for worker in self._workers if worker.place is not None]
        for process in busy:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)
        with suppress(KeyboardInterrupt):
            for process in busy:
                process.join()

    def play(self, calls: Sequence[Call]) -> Iterator[tuple[int, Outcome]]:
        """Do all calls, begun in their order; yields (position, outcome) as they end."""
        waiting = list(enumerate(calls))[::-1]
        while len(self._workers) < min(self.count, len(calls)):
            self._workers.append(_hire())
        while True:
            for worker in self._workers:
                if worker.place is None and waiting:
                    worker.place, call = waiting.pop()
                    worker.begun = time.perf_counter()
                    worker.link.send(call)
            busy = {worker.link: worker for worker in self._workers if worker.place is not None}
            if not busy:
                return
            for link in wait(list(busy)):
                assert isinstance(link, Connection)
                yield self._ended(busy[link])

    def _ended(self, worker: _Worker) -> tuple[int, Outcome]:
        assert worker.place is not None
        place, worker.place = worker.place, None
        try:
            return place, worker.link.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            self._workers[self._workers.index(worker)] = _hire()
            error = f"its process ended with code {worker.process.exitcode}"
            return place, Outcome(error, "", time.perf_counter() - worker.begun)


def _hire() -> _Worker:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there,), name="fedkd-run", daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _work(link: Connection) -> None:
    """Do calls until the parent is gone; what they print is dropped, what they warn of is not."""
    os.setpgrp()  # Ctrl-C in the terminal goes to the parent's group alone
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    while True:
        call = link.recv()
        if call is None:
            return
        function, arguments = call
        begun = time.perf_counter()
        error = trace = ""
        try:
            function(*arguments)
        except KeyboardInterrupt:  # the parent had it first, and waits
            return
        except ConfigError as mistake:
            error = str(mistake)
        except Exception as failure:  # whatever a call raises, its worker goes on to the next
            error, trace = f"{type(failure).__name__}: {failure}", traceback.format_exc()
        link.send(Outcome(error, trace, time.perf_counter() - begun))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
