"""Where a competitor's process waits until it is its turn: what makes rounds of several systems alternate."""

import sys
import time


class Gate:
    """Called before each round: tells how long the one before took and waits for the next order.

    False: there are no more rounds. The first call says `ready`.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._out = sys.stdout

    def __call__(self) -> bool:
        told = "ready" if self._began is None else repr(time.perf_counter() - self._began)
        print(told, file=self._out, flush=True)
        order = sys.stdin.readline().strip()
        self._began = time.perf_counter()
        return order == "go"
