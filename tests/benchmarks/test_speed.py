"""The arithmetic of the speed tables, and that competitors alternate and stop."""

import io
import sys

import pytest

from benchmarks.speed import contest
from benchmarks.speed.gate import Gate
from benchmarks.speed.workloads import NAMES, network, share


def test_ratios_are_taken_between_neighbouring_rounds() -> None:
    # The machine was three times slower in the second round, for both.
    assert contest.ratio([2.0, 6.0, 2.2], [1.0, 3.0, 1.0]) == 2.0


def test_rounds_alternate_after_getting_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    class Fake:
        def __init__(self, name: str, python: str, turn: int) -> None:
            if name == "blaze":
                raise RuntimeError("blaze ended")
            self.name = name

        def round(self) -> float:
            turns.append(self.name)
            return float(len(turns))

        def stop(self) -> str:
            turns.append(f"stop {self.name}")
            return ""

    monkeypatch.setattr(contest, "Competitor", Fake)
    times = contest.alternate({"one": ["a"], "absent": ["blaze"], "two": ["b"]}, repeats=2)
    assert turns == ["a", "b", "a", "b", "a", "b", "stop a", "stop b"]
    assert times == {"one": [3.0, 5.0], "two": [4.0, 6.0]}


def test_a_competitor_answers_with_seconds() -> None:
    bare = contest.Competitor("bare", "mlp", python=sys.executable, turn=2)
    assert 0 < bare.round() < 60
    bare.stop()
    assert bare.process.returncode == 0


def test_a_turn_is_so_many_rounds_and_the_gate_tells_the_seconds_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, clock = io.StringIO(), iter([0.0, 6.0, 6.0, 15.0])
    monkeypatch.setattr(sys, "stdout", told)
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\ngo\nstop\n"))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock, 99.0))
    gate, rounds, closing = Gate(3), 0, []
    while gate():
        rounds += 1
        closing.append(gate.closing)
    assert rounds == 6 and closing == [False, False, True] * 2
    assert told.getvalue().splitlines() == ["ready", "2.0", "3.0"]


def test_workloads_have_the_sizes_that_they_are_called_by() -> None:
    sizes = [sum(p.numel() for p in network(name).parameters()) for name in NAMES]
    assert sizes == [159_010, 62_207, 1_663_370]
    import torch

    x, y = torch.arange(100 * 600).view(-1, 1).to(torch.uint8), torch.arange(100 * 600)
    assert share(2, x, y)[1].tolist() == list(range(1200, 1800))
