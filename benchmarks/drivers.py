"""Runs in processes of their own, to be killed; and how far two runs ended from each other.

A server process imports everything once and forks for each run, so that a run costs only itself.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from flwr.app import RecordDict

from simulations import run
from simulations.cli import main
from simulations.config import resolve
from simulations.resume import resume
from simulations.rundir import standing
from simulations.saved import newest

TINY = ["engine=inline", "engine.raise_errors=false", "model=mlp", "model.hidden=[8]"]
TINY += ["clients=4", "data.max_samples=240", "rounds=4", "participation=0.5", "evaluation.mix_samples=0"]
ASIDE = ("seconds", "retries", "best_seconds", "best_retries", "wall_seconds", "total_retries")
"""What tells of the faults themselves: times, and how often cohorts ran again."""

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["benchmarks.warm"])


def tiny(*overrides: str) -> dict[str, Any]:
    """The configuration of a run that takes a moment."""
    return resolve([*TINY, *overrides])


def play(config: dict[str, Any], out: Path, kill_at: int | None = None) -> None:
    """Start the run, or go on with it; die at the `kill_at`-th time that something is put on the disk."""
    torch.set_num_threads(1)
    if kill_at is not None:
        _die_at(kill_at)
    stands = standing(out)
    with contextlib.redirect_stdout(None), patch("simulations.report.write_report", lambda out: []):
        if stands == "absent":
            run.run(config, out)
        elif stands == "unfinished":
            resume(out)


def _die_at(count: int) -> None:
    sync, left = os.fsync, [count]

    def fsync(file: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    os.fsync = fsync  # type: ignore[assignment]


def start(config: dict[str, Any], out: Path, kill_at: int | None = None) -> ForkServerProcess:
    """`play` in a process of its own."""
    process = server.Process(target=play, args=(config, out, kill_at), daemon=True)
    process.start()
    return process


def command(words: list[str], log: Path) -> None:
    """`fedkd` with these words; what it tells goes to `log`."""
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
    sys.exit(main(words))


def start_command(words: list[str], log: Path) -> ForkServerProcess:
    """`command` in a process of its own."""
    process = server.Process(target=command, args=(words, log), daemon=True)
    process.start()
    return process


def ended(process: ForkServerProcess, within: float = 120) -> int | None:
    """How the process ended."""
    process.join(within)
    return process.exitcode


def difference(one: Path, other: Path) -> float:
    """The largest difference between two finished runs: of figures, models and states; times are left aside.

    0 where they are equal bit for bit; infinite where they do not even hold the same things.
    """
    values, others = dict(_values(one)), dict(_values(other))
    if values.keys() != others.keys():
        return np.inf
    return max(_distance(values[name], others[name]) for name in values)


def _values(out: Path) -> Iterator[tuple[str, np.ndarray]]:
    """All that must not depend on faults, by name."""
    summary = json.loads((out / "summary.json").read_text())
    for key in summary.keys() - set(ASIDE):
        yield f"summary {key}", np.array(summary[key], np.float64)
    rounds = pd.read_csv(out / "rounds.csv", float_precision="round_trip").drop(
        columns=["seconds", "retries"]
    )
    rows = pd.read_parquet(out / "clients.parquet")
    for name, table in (("rounds", rounds), ("clients", rows)):
        for column in table:
            whole = table[column]
            numbers = pd.api.types.is_numeric_dtype(whole)
            yield f"{name} {column}", whole.to_numpy() if numbers else np.array([repr(list(whole))])
    saved = newest(out)
    assert saved is not None, f"{out} has no checkpoint"
    books = {"global": RecordDict({"arrays": saved.arrays}), "strategy": saved.strategy}
    books |= {f"client {client}": state for client, state in saved.clients.items()}
    for owner, records in books.items():
        for name, record in records.items():
            value: Any
            for key, value in record.items():
                array = value.numpy() if name in records.array_records else np.array([repr(value)])
                yield f"{owner} {name} {key}", array


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    if one.dtype != other.dtype or one.shape != other.shape:
        return np.inf
    if one.tobytes() == other.tobytes():
        return 0.0
    if one.dtype.kind not in "fiub":
        return np.inf
    away = np.abs(one.astype(np.float64) - other.astype(np.float64))
    both = np.isnan(one) & np.isnan(other)
    return float(np.where(np.isnan(away), np.where(both, 0.0, np.inf), away).max())
