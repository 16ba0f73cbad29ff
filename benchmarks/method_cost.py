"""What a method's rounds cost beside FedAvg's: `python -m benchmarks.method_cost [METHOD] [KEY=VALUE ...]`.

FedAvg and the method (fedd2s unless given) in turns, at their defaults with the same local epochs. Compared
are the seconds of all rounds but the first, which starts the workers, and the last, which evaluates; printed
are the ratio of each turn, and the part of the method's rounds that each piece of its server's work takes.
"""

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from simulations import run
from simulations.config import resolve
from strategies.server import Server

WIDTH = "model.width=16"  # of the data set's own network
SETTING = (
    "clients=20",
    "partition=dirichlet",
    "partition.alpha=0.1",
    WIDTH,
    "rounds=12",
    "evaluate_every=12",
)
TURNS = 3


class Stopwatch:
    """Does the server's work in the driver, and keeps the seconds of each function."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            self.spent[work.__name__] += time.perf_counter() - began  # type: ignore[assignment]


def play(method: str, overrides: list[str], out: Path) -> tuple[float, Counter[str]]:
    """Seconds of the middle rounds, and of the server's work in all rounds."""
    watch, plain = Stopwatch(), run.server

    def watched(*arguments: Any) -> Server:
        return replace(plain(*arguments), execute=watch)

    run.server = watched
    try:
        own = [
            word for word in SETTING if word != WIDTH or not any(o.startswith("model=") for o in overrides)
        ]
        run.run(resolve([f"method={method}", *own, *overrides]), out)
    finally:
        run.server = plain
    seconds = pd.read_csv(out / "rounds.csv")["seconds"]
    return float(seconds.iloc[1:-1].sum()), watch.spent


def main(method: str, overrides: list[str]) -> None:
    """Play the turns and print what they show."""
    ratios, base, own, spent = [], [], [], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS):
            plain, _ = play("fedavg", overrides, Path(folder) / f"fedavg{turn}")
            full, work = play(method, overrides, Path(folder) / f"{method}{turn}")
            ratios.append(full / plain)
            base.append(plain)
            own.append(full)
            spent += work
    print(f"fedavg {statistics.median(base):.1f} s, {method} {statistics.median(own):.1f} s (10 rounds)")
    for name, seconds in spent.most_common():
        print(f"  {name} at the server: {seconds / TURNS / 12:.2f} s a round")
    print("ratios", *(f"{ratio:.2f}" for ratio in ratios))
    print(f"ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    given = sys.argv[1:]
    names = [word for word in given if "=" not in word]
    main(names[0] if names else "fedd2s", [word for word in given if "=" in word])
