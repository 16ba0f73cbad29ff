"""What a round costs beside FedAvg's, and where: `python -m benchmarks.method_cost [METHOD] [KEY=VALUE ...]`.

FedAvg and the method in turns, at their defaults with the same local epochs, in one run of this program.
Compared are the seconds of all rounds but the first, which starts the workers, and the last, which evaluates.
Without a method: all of `CASES`, to docs/results/cost.md.
"""

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.studies import DOCS
from simulations import run
from simulations.config import resolve
from simulations.engine.base import SimulationGrid
from strategies.server import Server

WIDTH = "model.width=16"  # of the data set's own network
SETTING = ("clients=20", "partition=dirichlet", "partition.alpha=0.1", WIDTH)
MOMENTUM = ("local.momentum=0.9", "local.lr=0.02")
TURNS, ROUNDS = 3, 12
CASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("fedd2s", ()),
    ("fedd2s", MOMENTUM),
    ("fedd2s_adaptive", ()),
    ("fedd2s_robust", ()),
    ("ditto", ()),
    ("fedgen", ("model=mlp",)),
    ("fedgen", ("experiment=fedgen_mnist",)),
    ("fedgen", ("data=mnist", "model=mlp")),
)
CLIENTS = "clients"
HEAD = f"""# Cost of a round

Made by `python -m benchmarks.method_cost`, with the machine otherwise idle. Fashion-MNIST extract, 20
clients, Dirichlet 0.1, everybody participates, one local epoch of batches of 32; the 4-convolution CNN of
width 16 unless the words say otherwise. Both took {TURNS} turns of {ROUNDS} rounds each; the first
round (which starts the workers) and the last (which evaluates) do not count. The ratio is the median over
turns (and their range). Shares are of the method's own rounds: the clients' part, the server's own training
by function, and the rest (averaging, messages, records).

| method | words | s a round | ratio to FedAvg | clients | the server's training | rest |
| --- | --- | ---: | ---: | ---: | --- | ---: |
"""


class Stopwatch:
    """Does the server's work in the driver, and keeps the seconds of each function, by round."""

    def __init__(self) -> None:
        self.rounds: list[Counter[str]] = []

    def timed(self, name: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What the work returns; a round begins where clients are asked."""
        if name == CLIENTS:
            self.rounds.append(Counter())
        began = time.perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            self.rounds[-1][name] += time.perf_counter() - began  # type: ignore[assignment]

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return self.timed(work.__name__, work, *arguments)

    def middle(self, count: int) -> Counter[str]:
        """The seconds of each function in `count` rounds from the second on."""
        return sum(self.rounds[1 : 1 + count], Counter())


@dataclass(frozen=True)
class Play:
    """The middle rounds of one run: the seconds of a round, and those of its phases."""

    seconds: float
    phases: Counter[str]


def play(method: str, overrides: tuple[str, ...], out: Path) -> Play:
    """Run a method under a stopwatch."""
    watch, plain, exchange = Stopwatch(), run.server, SimulationGrid.send_and_receive

    def watched(*arguments: Any) -> Server:
        return replace(plain(*arguments), execute=watch)

    def waiting(*arguments: Any, **named: Any) -> Any:
        return watch.timed(CLIENTS, exchange, *arguments, **named)

    given = any(word.startswith(("model=", "experiment=")) for word in overrides)
    words = [word for word in SETTING if word != WIDTH or not given]
    words += [f"rounds={ROUNDS}", f"evaluate_every={ROUNDS}", *overrides]
    run.server, SimulationGrid.send_and_receive = watched, waiting  # type: ignore[method-assign]
    try:
        run.run(resolve([f"method={method}", *words]), out)
    finally:
        run.server, SimulationGrid.send_and_receive = plain, exchange  # type: ignore[method-assign]
    seconds = pd.read_csv(out / "rounds.csv")["seconds"].iloc[1:-1]
    phases = watch.middle(len(seconds))
    return Play(seconds.mean(), Counter({name: spent / len(seconds) for name, spent in phases.items()}))


def row(method: str, overrides: tuple[str, ...]) -> str:
    """Play the turns; a row of the table."""
    plays, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS):
            plain = play("fedavg", overrides, Path(folder) / f"fedavg{turn}")
            plays.append(play(method, overrides, Path(folder) / f"{method}{turn}"))
            ratios.append(plays[-1].seconds / plain.seconds)
    seconds = statistics.median(one.seconds for one in plays)
    names = [name for name in plays[0].phases if name != CLIENTS]
    share = {
        name: statistics.median(one.phases[name] / one.seconds for one in plays) for name in (CLIENTS, *names)
    }
    server = ", ".join(f"`{name}` {share[name]:.0%}" for name in names) or "–"
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    rest = 1 - sum(share.values())
    words = " ".join(overrides)
    return f"| {method} | {words} | {seconds:.2f} | {ratio} | {share[CLIENTS]:.0%} | {server} | {rest:.0%} |"


def main(words: list[str]) -> None:
    """One row to the screen, or all to the page."""
    names = [word for word in words if "=" not in word]
    overrides = tuple(word for word in words if "=" in word)
    if words:
        print(row(names[0] if names else "fedd2s", overrides))
        return
    rows = [row(method, given) for method, given in CASES]
    (DOCS / "cost.md").write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
