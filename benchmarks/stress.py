"""Faults at random moments, again and again: every run must end, and no number may differ.

    python -m benchmarks.stress --write         the whole matrix, 146 runs: docs/results/stress.md
    python -m benchmarks.stress --times 1 --kinds die nan --methods local

Each run is compared with an undisturbed one in this process (`engine=inline`); where the fault is the
client's own (it raises, sends NaN, a wrong shape, nothing), with one that has the same faults there. A worker
dies by SIGKILL: from outside, at a random moment of every round (`one`, `all`), or at work for a given client
(`die`). So does the driver (`driver` inline, `driver-ray`), whose run is then resumed until it ends.
"""

import argparse
import json
import logging
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drivers import difference, ended, play, start
from benchmarks.faulty import fault_file
from benchmarks.killer import killing
from simulations.config import resolve
from simulations.recorder import read_rounds
from simulations.rundir import standing

METHODS = {
    "fedavg": ["method=fedavg"],  # no state
    "local": ["method=local"],  # states at the clients
    "fedadam": ["method=fedadam"],  # a state at the server
    "ditto": ["method=ditto", "weighting=eg"],  # both
    "fd": ["method=fd"],  # both, and no weights: clients send what nobody has sent them
    "together": ["method=ditto", "weighting=eg", "engine.vectorise=true", "engine.cohort_size=2"],  # stacked
}
OUTSIDE, WORKER = ("one", "all"), ("die", "hang")
CLIENT, DRIVER = ("raise", "nan", "inf", "shape", "nothing"), ("driver", "driver-ray")
KILLED = (*OUTSIDE, "die")
"""Where a round may take twice its usual time and five seconds."""
KINDS = (*OUTSIDE, *WORKER, *CLIENT, *DRIVER)
SLOW = (*OUTSIDE, "hang", "driver-ray")  # a minute and more for a run: once each
ROUNDS, LONG = 5, 20  # the second where workers are killed from outside, in every round
LEFT_OUT = [("shape", "local"), ("hang", "together")]  # sends no arrays; waits for two deadlines at a time
PAGE = Path(__file__).parents[1] / "docs" / "results" / "stress.md"
CLIENTS = 6
DEADLINE = 30.0  # seconds, for `hang`: more than a new worker's first client takes on a busy machine
KILLS = 5  # of a driver, at most
SETTINGS = ["model=mlp", "model.hidden=[8]", f"clients={CLIENTS}", "data.max_samples=300", "participation=4"]
SETTINGS += ["evaluation.mix_samples=0", "max_failures=1.0", "method.client_app=benchmarks.faulty:app"]
SETTINGS += ["engine.vectorise=false"]
HEAD = "fault      method    survived  strikes  largest difference  slowest round  limit"


@dataclass
class Cell:
    """What became of the runs with one kind of fault and one method."""

    kind: str
    method: str
    runs: int = 0
    survived: int = 0
    strikes: int = 0
    furthest: float = 0.0
    slowest: float = 0.0
    limit: float | None = None
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        share = f"{self.survived}/{self.runs}"
        limit = "" if self.limit is None else f"{self.limit:.1f}"
        figures = f"{share:>9}{self.strikes:>9}{self.furthest:>20g}{self.slowest:>15.1f}{limit:>7}"
        return "\n".join([f"{self.kind:<11}{self.method:<9}{figures.rstrip()}", *self.problems])

    @property
    def late(self) -> bool:
        """Whether a round in which workers were killed took longer than it may."""
        return self.limit is not None and self.slowest > self.limit


class Stress:
    """The runs of one matrix, in one folder, with one Ray and its two workers."""

    def __init__(self, folder: Path, rounds: int | None, seed: int) -> None:
        self.folder, self.wanted, self.chance = folder, rounds, random.Random(seed)
        self.rounds = rounds or ROUNDS  # of the run at hand
        self._usual: dict[tuple[str, str], float] = {}
        self._number = 0

    def once(self, cell: Cell) -> None:
        """One run with faults, and what it is compared with."""
        self.rounds = self.wanted or (LONG if cell.kind in OUTSIDE else ROUNDS)
        struck = self._struck(cell.kind)
        reference, out = self._out(), self._out()
        self._faults(reference, cell.kind if cell.kind in CLIENT else "none", struck)
        self._faults(out, cell.kind, struck)
        play(self._config(cell.method, "inline"), reference)
        cell.runs += 1
        try:
            cell.strikes += (self._driver if cell.kind in DRIVER else self._workers)(cell, out)
            cell.furthest = max(cell.furthest, difference(reference, out))
            cell.survived += 1
        except Exception as error:  # whatever happens is what this program is to find
            cell.problems.append(f"  {out.name}: {type(error).__name__}: {error}")
        seconds = [row["seconds"] for row in read_rounds(out / "rounds.csv")]
        cell.slowest = max([cell.slowest, *seconds])
        if cell.kind in KILLED:
            cell.limit = 2 * self._usual_round(cell.method) + 5

    def _workers(self, cell: Cell, out: Path) -> int:
        """A run under Ray; how many faults there were."""
        config = self._config(cell.method, "ray", cell.kind)
        if cell.kind in OUTSIDE:
            with killing(out, cell.kind == "all", self._usual_round(cell.method), self.chance) as kills:
                play(config, out)
            return len(kills)
        play(config, out)
        if cell.kind in WORKER:
            return len(list(out.parent.glob(f"{out.name}.{cell.kind}-*")))
        return sum(row["failures"] for row in read_rounds(out / "rounds.csv"))

    def _driver(self, cell: Cell, out: Path) -> int:
        """A run whose driver is killed and resumed; how often it was killed."""
        config = self._config(cell.method, "inline" if cell.kind == "driver" else "ray")
        usual, kills = self._usual_time(cell, config), 0
        while standing(out) != "finished":
            if kills < KILLS:  # at a write to the disk, or before, at any moment
                process = start(config, out, kill_at=self.chance.randint(4, 7 * self.rounds))
                process.join(self.chance.uniform(0.2, 1.5) * usual)
                process.kill()
            else:
                process = start(config, out)
            code = ended(process)
            kills += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                raise RuntimeError(f"the driver ended with {code}")
        return kills

    def _usual_round(self, method: str) -> float:
        """Seconds of a round without faults, once the workers are warm."""
        if ("round", method) not in self._usual:
            quiet = self._quiet()
            play(self._config(method, "ray"), quiet)
            seconds = [row["seconds"] for row in read_rounds(quiet / "rounds.csv")]
            self._usual["round", method] = statistics.median(seconds)
        return self._usual["round", method]

    def _usual_time(self, cell: Cell, config: dict[str, Any]) -> float:
        """Seconds of a whole run without faults in a process of its own."""
        if (cell.kind, cell.method) not in self._usual:
            process = start(config, self._quiet())  # the first one may wait for the process that forks
            ended(process)
            began = time.monotonic()
            ended(start(config, self._quiet()))
            self._usual[cell.kind, cell.method] = time.monotonic() - began
        return self._usual[cell.kind, cell.method]

    def _config(self, method: str, engine: str, kind: str = "") -> dict[str, Any]:
        deadline = DEADLINE if kind == "hang" else "null"  # on a busy machine honest clients might miss it
        ray = ["engine=ray", "engine.workers=2", f"engine.deadline={deadline}"]
        words = ray if engine == "ray" else ["engine=inline", "engine.raise_errors=false"]
        return resolve([*words, *SETTINGS, *METHODS[method], f"rounds={self.rounds}"])

    def _struck(self, kind: str) -> dict[int, list[int]]:
        """The clients that have the fault, by round: two in each; only in one where it takes a deadline."""
        rounds = range(1, self.rounds + 1)
        chosen = self.chance.sample(rounds, 1) if kind == "hang" else rounds
        return {number: self.chance.sample(range(CLIENTS), 2) for number in chosen}

    def _faults(self, out: Path, kind: str, struck: dict[int, list[int]]) -> None:
        clients = struck if kind in (*WORKER, *CLIENT) else {}
        fault_file(out).write_text(json.dumps({"kind": kind, "clients": clients}))

    def _quiet(self) -> Path:
        out = self._out()
        self._faults(out, "none", {})
        return out

    def _out(self) -> Path:
        self._number += 1
        return self.folder / f"run{self._number}"


def main(arguments: list[str] | None = None) -> int:
    """Run the matrix and print it; 0 where all survived, nothing differs and no killed round is late."""
    parser = argparse.ArgumentParser(description="faults at random moments: all must survive, none differ")
    parser.add_argument("--times", type=int, default=3, help="runs of each kind of fault with each method")
    parser.add_argument(
        "--rounds", type=int, help=f"of each run; default: {LONG} for {OUTSIDE}, else {ROUNDS}"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--write", action="store_true", help="write docs/results/stress.md")
    wanted = parser.parse_args(arguments)
    logging.getLogger("simulations").setLevel(logging.ERROR)
    pairs = [(kind, method) for kind in wanted.kinds for method in wanted.methods]
    cells = [Cell(*pair) for pair in pairs if pair not in LEFT_OUT]
    began = time.monotonic()
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        stress = Stress(Path(folder), wanted.rounds, wanted.seed)
        for cell in cells:
            for _ in range(1 if cell.kind in SLOW else wanted.times):
                stress.once(cell)
            print(cell, flush=True)
    runs, survived, strikes = (sum(getattr(c, key) for c in cells) for key in ("runs", "survived", "strikes"))
    furthest = max(cell.furthest for cell in cells)
    late = sum(cell.late for cell in cells)
    verdict = f"survived {survived} of {runs} ({strikes} faults), largest difference {furthest:g}"
    verdict += f", {late} rows over their limit"
    print(verdict)
    if wanted.write:
        write(cells, verdict, (time.monotonic() - began) / 60)
    return 0 if survived == runs and furthest == 0 and not late else 1


def write(cells: list[Cell], verdict: str, minutes: float) -> None:
    """The page: the table as it was printed."""
    table = "\n".join([HEAD, *map(str, cells)])
    PAGE.write_text(f"""# Faults at random moments

Written by `make stress` ({minutes:.0f} minutes): {verdict}.

A run is five rounds of four clients, or twenty where workers are killed from outside (`one`, `all`) in every
round. It survives if it ends; then it is compared with an undisturbed run (or one with the same clients'
faults): all figures, models and states, bit for bit, times aside. `docs/faults.md` says what happens under
each fault; `python -m benchmarks.stress --help` how to run a part. A round in which workers are killed may
take twice the usual time and five seconds, its limit.

```
{table}
```
""")


if __name__ == "__main__":
    sys.exit(main())
