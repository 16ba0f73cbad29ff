"""The run folder's figures: `clients.parquet`, `rounds.csv`, `summary.json`.

Rows of a round are written as one part file, so that a kill at any moment leaves readable files; the parts
become `clients.parquet` at the end. Text files are replaced as a whole or appended line by line and flushed.
Numbers are written so that they are read back as they were: a run that goes on ends in the same summary.
"""

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from flwr.app import ArrayRecord

from simulations.loop import Plan, Round, Watcher
from simulations.rundir import replacing, write_text

PARTS = "parts"
WHOLE = "clients.parquet"
_COMMON = ("train_loss", "samples-trained")
"""What every method's metrics hold; the rest are figures of its own (a cut, a generator's losses)."""
SORT = ["round", "client", "split", "model", "stage"]


class Recorder(Watcher):
    """Writes what happened, round by round.

    out: the run folder, which exists
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.parts = out / PARTS
        self.rounds: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self._header: list[str] = []  # of rounds.csv, as it was written
        self._begun = time.perf_counter()

    def started(self, plan: Plan) -> None:
        """Forget what was written after the round the run goes on from."""
        self.parts.mkdir(exist_ok=True)
        (self.out / WHOLE).unlink(missing_ok=True)
        for part in self.parts.iterdir():
            if part.name.startswith(".") or int(part.stem) >= plan.first:  # a dot: not finished when killed
                part.unlink()
        for part in sorted(self.parts.glob("*.json")):
            self.failures += json.loads(part.read_text())
        path = self.out / "rounds.csv"
        if path.exists():
            self.rounds = [row for row in read_rounds(path) if row["round"] < plan.first]
            self._write_rounds()
        self._begun = time.perf_counter() - sum(row["seconds"] for row in self.rounds)

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        if round_.rows:
            frame = pd.DataFrame([{"round": round_.number, **row} for row in round_.rows])
            with replacing(self.parts / f"{round_.number:06d}.parquet") as path:
                frame.to_parquet(path, index=False)
        training = [e for e in (round_.train, round_.follow_up) if e]
        failures = [
            {"round": round_.number, "client": client, "reason": reason}
            for exchange in round_.exchanges
            for client, reason in exchange.failures.items()
        ]
        if failures:
            write_text(self.parts / f"{round_.number:06d}.json", json.dumps(failures))
            self.failures += failures
        clocks = [e.simulated_seconds for e in training if e.simulated_seconds is not None]
        row = {
            "round": round_.number,
            **round_.figures,
            "train_loss": round_.metrics.get("train_loss"),
            **own_figures(round_),
            "bytes_up": sum(sum(e.bytes_up.values()) for e in training),
            "bytes_down": sum(sum(e.bytes_down.values()) for e in training),
            **{f"bytes_up_{name}": count for name, count in sorted(round_.train.bytes_up.items())},
            **{f"bytes_down_{name}": count for name, count in sorted(round_.train.bytes_down.items())},
            "participants": len(round_.train.participants),
            "unavailable": round_.train.unavailable,
            "late": sum(len(e.late) for e in training),
            "failures": len(failures),
            "retries": sum(e.retries for e in round_.exchanges),
            "simulated_seconds": sum(clocks) if clocks else None,
            "seconds": round_.seconds,
        }
        self.rounds.append(row)
        self._append(row)

    def finished(self) -> None:
        """Compact the parts and write the summary; its presence says that the run is whole."""
        frame = read_rows(self.out)
        with replacing(self.out / WHOLE) as path:
            frame.to_parquet(path, index=False)
        if self.failures:
            write_text(self.out / "failures.json", json.dumps(self.failures, indent=1) + "\n")
        summary = summarise_rounds(self.rounds, time.perf_counter() - self._begun)
        write_text(self.out / "summary.json", json.dumps(summary, indent=2) + "\n")
        for part in self.parts.iterdir():
            part.unlink()
        self.parts.rmdir()

    def _append(self, row: dict[str, Any]) -> None:
        if set(row) - set(self._header):
            self._write_rounds()
            return
        with (self.out / "rounds.csv").open("a", newline="") as file:
            csv.DictWriter(file, self._header, lineterminator="\n").writerow(row)
            file.flush()
            os.fsync(file.fileno())

    def _write_rounds(self) -> None:
        text = io.StringIO()
        self._header = columns_of(self.rounds)
        writer = csv.DictWriter(text, self._header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rounds)
        write_text(self.out / "rounds.csv", text.getvalue())


def own_figures(round_: Round) -> dict[str, Any]:
    """The numbers among what the strategy says of its round, beside what every strategy says."""
    taken = (*_COMMON, *round_.figures)
    return {k: v for k, v in round_.metrics.items() if k not in taken and _is_number(v)}


def columns_of(rounds: list[dict[str, Any]]) -> list[str]:
    """All columns, in the order in which they came up."""
    return list(dict.fromkeys(key for row in rounds for key in row))


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """The rows of `rounds.csv` with their numbers as they were written; a line cut short is left out."""
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [{key: _number(word) for key, word in row.items()} for row in csv.DictReader(lines)]


def _number(word: str) -> int | float | str | None:
    if word == "":
        return None
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def read_rows(out: Path, columns: Sequence[str] | None = None, rounds: Sequence[int] = ()) -> pd.DataFrame:
    """The client rows of a run folder, finished or not, in a fixed order.

    columns: those of them that there are, and `SORT`; None: all
    rounds: only these, where any are named
    """
    whole = out / WHOLE
    if whole.exists():
        return _read(whole, columns, rounds)
    parts = [_read(part, columns, rounds) for part in sorted((out / PARTS).glob("[0-9]*.parquet"))]
    if not parts:
        return pd.DataFrame(columns=SORT)
    return pd.concat(parts, ignore_index=True).sort_values(SORT, kind="stable", ignore_index=True)


def _read(file: Path, columns: Sequence[str] | None, rounds: Sequence[int]) -> pd.DataFrame:
    wanted = None
    if columns is not None:
        wanted = [name for name in pq.read_schema(file).names if name in (*SORT, *columns)]
    filters = [("round", "in", list(rounds))] if rounds else None
    return pd.read_parquet(file, columns=wanted, filters=filters)


def summarise_rounds(rounds: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The last evaluated round's figures, the best-on-validation round's with prefix `best_`, and totals."""
    evaluated = [row for row in rounds if _is_number(row.get("mean"))]
    summary: dict[str, Any] = {}
    if evaluated:
        best = max(evaluated, key=lambda row: row["val_mean"] if _is_number(row.get("val_mean")) else -1.0)
        names = [name for name in columns_of(rounds) if name != "retries"]  # no figure of what was learnt
        summary = {key: evaluated[-1].get(key) for key in names}
        summary |= {f"best_{key}": best.get(key) for key in names}
    for key in ("bytes_up", "bytes_down", "failures", "late"):
        summary[f"total_{key}"] = int(sum(row[key] for row in rounds))
    if any(_is_number(row["simulated_seconds"]) for row in rounds):
        summary["total_simulated_seconds"] = float(sum(row["simulated_seconds"] or 0.0 for row in rounds))
    summary["wall_seconds"] = seconds
    return {
        key: value if _is_number(value) or isinstance(value, str) else None for key, value in summary.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value
