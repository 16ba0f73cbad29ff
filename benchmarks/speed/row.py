"""One competitor in a process of its own: `python -m benchmarks.speed.row TURN MODULE[.FUNCTION] [WORD ...]`.

The function, `play` by default, takes the gate and the arguments and runs a round whenever the gate lets it.
"""

import importlib
import sys

from benchmarks.speed.gate import Gate

if __name__ == "__main__":
    turn, target, *arguments = sys.argv[1:]
    module, _, function = target.partition(".")
    gate = Gate(int(turn))
    sys.stdout = sys.stderr  # whatever a system prints is no answer
    play = getattr(importlib.import_module(f"benchmarks.speed.{module}"), function or "play")
    play(gate, *arguments)
