"""Where a competitor's process waits until it is its turn: what makes rounds of several systems alternate."""

import sys
import time


class Gate:
    """Called before each round: at the end of a turn it tells how long a round took and waits for an order.

    turn: consecutive rounds; what the last of them leaves to be written belongs to it
    False: there are no more rounds. The first call says `ready`.
    """

    def __init__(self, turn: int = 1) -> None:
        self.turn = turn
        self._began: float | None = None
        self._left = 0
        self._out = sys.stdout

    @property
    def closing(self) -> bool:
        """Whether the next call ends a turn."""
        return self._left == 0

    def __call__(self) -> bool:
        if not self.closing:
            self._left -= 1
            return True
        told = "ready" if self._began is None else repr((time.perf_counter() - self._began) / self.turn)
        print(told, file=self._out, flush=True)
        order = sys.stdin.readline().strip()
        self._left = self.turn - 1
        self._began = time.perf_counter()
        return order == "go"
