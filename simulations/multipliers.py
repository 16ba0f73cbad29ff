"""How much each client, and each class, counted in each round, and where a client's network was cut.

`multipliers.csv`: round, client, base (the method's own weight), weight (of a round sum to one), scale (of
the server step), risk (that it told). A client that was only asked for its risk has no weight. `weighting`.

`class_multipliers.csv`: round, class, prior (its share in the data as it counts), multiplier (of a round sum
to one), gain (what the next round trains with), risk (on validation). Under `class_weighting`.

`cuts.csv`: round, client, cut (the block boundary it worked at), for methods whose cut moves.
"""

import csv
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord

from fedkd.protocol import CUT
from simulations.loop import Plan, Round, Watcher
from simulations.rundir import write_text

FILES = {
    "client": ("multipliers.csv", ("round", "client", "base", "weight", "scale", "risk")),
    "class": ("class_multipliers.csv", ("round", "class", "prior", "multiplier", "gain", "risk")),
    "cut": ("cuts.csv", ("round", "client", "cut")),
}
"""File and columns by what a row is about."""


class MultiplierLog(Watcher):
    """Writes down what the strategy reports about its last aggregation, and the cuts it told, round by round.

    out: the run folder, which exists
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def started(self, plan: Plan) -> None:
        """Forget what was written after the round the run goes on from."""
        for path in (self.out / file for file, _ in FILES.values()):
            if path.exists():
                header, *lines = path.read_text().splitlines(keepends=True)
                kept = [line for line in lines if int(line.partition(",")[0]) < plan.first]
                write_text(path, "".join([header, *kept]))

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        told = {group: [row for row in round_.report if group in row] for group in ("client", "class")}
        told["cut"] = cuts(round_)
        for group, (file, columns) in FILES.items():
            rows = [{"round": round_.number, **row} for row in told[group]]
            if rows:
                _append(self.out / file, columns, rows)


def cuts(round_: Round) -> list[dict[str, Any]]:
    """A row a client whose reply counts, where the strategy says at which cut its round was."""
    lost = round_.train.failures.keys() | round_.train.late.keys()
    known = round_.train.cuts if CUT in round_.metrics else {}
    return [{"client": client, "cut": cut} for client, cut in sorted(known.items()) if client not in lost]


def _append(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        writer.writerows(rows)
