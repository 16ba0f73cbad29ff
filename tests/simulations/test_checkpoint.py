"""Checkpoints as files: what is written, what is noticed, what a kill leaves."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from clients.arrays import record_from_arrays
from simulations import checkpoint
from simulations.checkpoint import Checkpoints
from simulations.loop import Plan, Round
from simulations.observe import Exchange
from simulations.saved import newest


class States:
    """The part of a grid that checkpoints use: states that change when told."""

    def __init__(self) -> None:
        self.held: dict[int, RecordDict] = {}
        self.changed: set[int] = set()

    def commit(self, client: int, value: float, size: int = 2) -> None:
        """Commit a state with records of all kinds."""
        self.held[client] = RecordDict(
            {
                "fedkd.state": record_from_arrays({"w": np.full(size, value, np.float32)}),
                "m": MetricRecord({"value": value}),
                "c": ConfigRecord({"client": client}),
            }
        )
        self.changed.add(client)

    def forget(self, client: int) -> None:
        """Empty a state."""
        del self.held[client]
        self.changed.add(client)

    def client_states(self, clients: Iterable[int]) -> dict[int, RecordDict]:
        return {client: self.held[client] for client in clients if client in self.held}

    def take_changed(self) -> set[int]:
        changed, self.changed = self.changed, set()
        return changed


class Saver:
    """A run of `rounds` rounds that is saved as it goes; the global array holds the round's number."""

    def __init__(self, out: Path, states: States, first: int = 1, every: int = 1, rounds: int = 100) -> None:
        self.watcher = Checkpoints(out, FedAvg(), states, every)
        self.watcher.started(Plan(0, rounds, first))

    def end(self, number: int) -> None:
        arrays = record_from_arrays({"w": np.array([number, 0.5])})
        self.watcher.round_done(Round(number, Exchange()), arrays)
        self.watcher.settle()


def begun(out: Path) -> tuple[States, Saver]:
    """After a round in which four clients committed a state."""
    states = States()
    saver = Saver(out, states)
    for client in range(4):
        states.commit(client, 10.0 + client)
    saver.end(1)
    return states, saver


def files(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoint").iterdir())


def saved_rounds(out: Path) -> tuple[int, float, dict[int, float]]:
    saved = newest(out)
    assert saved is not None
    values = {client: state.metric_records["m"]["value"] for client, state in saved.clients.items()}
    return saved.round, float(saved.arrays["w"].numpy()[0]), values  # type: ignore[return-value]


def test_states_are_written_only_where_they_changed_and_read_back_whole(tmp_path: Path) -> None:
    states, saver = begun(tmp_path)
    states.commit(2, 22.0)
    saver.end(2)
    states.forget(3)
    saver.end(3)
    saver.end(4)
    assert saved_rounds(tmp_path) == (4, 4.0, {0: 10.0, 1: 11.0, 2: 22.0})
    saved = newest(tmp_path)
    assert saved is not None and saved.clients == states.held
    clients = [name.removesuffix(".safetensors") for name in files(tmp_path) if "clients" in name]
    assert sorted(clients) == [f"00000{n}-clients-0{copy}" for n in (1, 2, 3) for copy in ("", "-copy")]


def test_damage_to_any_one_file_costs_one_checkpoint_at_most(tmp_path: Path) -> None:
    states, saver = begun(tmp_path)
    rounds: dict[str, set[int]] = {}
    for number in (2, 3, 4, 5):
        states.commit(3, float(number))  # the others' states stay those of round 1
        saver.end(number)
        for path in (tmp_path / "checkpoint").iterdir():
            whole = path.read_bytes()
            path.write_bytes(b"x" * len(whole))
            done, value, clients = saved_rounds(tmp_path)
            assert done == value and clients == {0: 10.0, 1: 11.0, 2: 12.0, 3: 13.0 if done == 1 else done}
            rounds.setdefault(f"{number}", set()).add(done)
            path.write_bytes(whole)
    assert rounds == {f"{number}": {number - 1, number} for number in (2, 3, 4, 5)}


def test_two_checkpoints_are_kept_and_nothing_else(tmp_path: Path) -> None:
    states = States()
    saver = Saver(tmp_path, states)
    (tmp_path / "checkpoint" / ".000001.77.json").touch()  # left behind by a kill
    for number in range(1, 6):
        states.commit(0, float(number))
        saver.end(number)
    both = [
        f"{n:06d}{rest}"
        for n in (4, 5)
        for rest in ("-clients-0.safetensors", "-server.safetensors", ".json")
    ]
    assert files(tmp_path) == sorted(both)


def test_states_are_written_anew_when_most_files_are_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_SLACK", 0)
    states = States()
    saver = Saver(tmp_path, states)
    sizes = []
    for number in range(1, 60):
        for client in (number % 7, 7 + number % 11, 18 + number % 13):
            states.commit(client, float(number), size=500)
        saver.end(number)
        sizes.append(sum(p.stat().st_size for p in (tmp_path / "checkpoint").glob("*clients*")))
        assert newest(tmp_path).clients == dict(sorted(states.held.items()))  # type: ignore[union-attr]
    live = 31 * 500 * 4
    assert max(sizes) < 2 * (checkpoint.WASTE + 1) * live


def test_every_so_many_rounds_the_last_and_before_an_interrupt(tmp_path: Path) -> None:
    saver = Saver(tmp_path, States(), every=3, rounds=8)
    seen = []
    for number in range(1, 9):
        saver.end(number)
        seen.append(saved_rounds(tmp_path)[0] if number > 2 else 0)
    assert seen == [0, 0, 3, 3, 3, 6, 6, 8]
    (tmp_path / "other").mkdir()
    saver = Saver(tmp_path / "other", States(), every=100)
    saver.end(1)
    saver.end(2)
    saver.watcher.interrupted()
    assert saved_rounds(tmp_path / "other")[0] == 2


@pytest.mark.parametrize(
    "victim", ["000002.json", "000002-server.safetensors", "000002-clients-0.safetensors"]
)
@pytest.mark.parametrize("harm", ["cut", "altered", "gone"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    tmp_path: Path, victim: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    states = States()
    saver = Saver(tmp_path, states)
    for number in (1, 2):
        states.commit(0, float(number))
        saver.end(number)
    path = tmp_path / "checkpoint" / victim
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.unlink() if harm == "gone" else path.write_bytes(data if harm == "altered" else data[:-7])
    assert saved_rounds(tmp_path) == (1, 1.0, {0: 1.0})
    assert ("checkpoint of round 2 cannot be used" in caplog.text) == (
        (victim, harm) != ("000002.json", "gone")
    )
    again = Saver(tmp_path, states, first=2)
    states.commit(0, 2.0)
    again.end(2)
    assert saved_rounds(tmp_path) == (2, 2.0, {0: 2.0})


def test_without_any_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    Saver(tmp_path, States()).end(1)
    (tmp_path / "checkpoint" / "000001.json").write_text("{")
    assert newest(tmp_path) is None


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


def test_a_kill_at_any_write_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    for moment in range(1, 40):
        out = tmp_path / str(moment)
        out.mkdir()
        states, left = States(), moment
        saver = Saver(out, states)

        def fsync(file: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            sync(file)

        monkeypatch.setattr(os, "fsync", fsync)
        done = 0
        try:
            for number in range(1, 6):
                states.commit(number % 2, float(number))
                saver.end(number)
                done = number
        except Killed:
            pass
        monkeypatch.setattr(os, "fsync", sync)
        if done == 5:
            assert moment > 5
            return
        found = newest(out)
        assert (found.round if found else 0) in (done, done + 1)
        if found:
            assert {c: s.metric_records["m"]["value"] for c, s in found.clients.items()} == {
                n % 2: float(n) for n in (found.round - 1, found.round) if n > 0
            }
    raise AssertionError("the run never came to its end")


def test_the_global_arrays_keep_their_kinds(tmp_path: Path) -> None:
    watcher = Checkpoints(tmp_path, FedAvg(), States())
    watcher.started(Plan(0, 1))
    arrays = ArrayRecord({"b": Array(np.ones(1) / 3), "a": Array(np.arange(3, dtype=np.int64))})
    watcher.round_done(Round(1, Exchange()), arrays)
    saved = newest(tmp_path)
    assert saved is not None and list(saved.arrays) == ["b", "a"]
    assert {k: (a.dtype, a.data) for k, a in saved.arrays.items()} == {
        k: (a.dtype, a.data) for k, a in arrays.items()
    }


def test_what_is_saved_is_what_the_round_ended_with_and_a_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Checkpoints(tmp_path, FedAvg(), States())
    watcher.started(Plan(0, 9))
    mine, free = np.array([1.0]), threading.Event()
    dump = checkpoint.dump
    monkeypatch.setattr(checkpoint, "dump", lambda *given: free.wait(60) and dump(*given))
    watcher.round_done(Round(1, Exchange()), record_from_arrays({"w": mine}))
    mine[0] = 2.0  # a strategy that goes on in place, before the disk has seen anything
    assert newest(tmp_path) is None
    free.set()
    watcher.settle()
    saved = newest(tmp_path)
    assert saved is not None and saved.arrays["w"].numpy().tolist() == [1.0]

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "dump", full)
    watcher.every = 2
    watcher.round_done(Round(2, Exchange()), record_from_arrays({"w": mine}))
    with pytest.raises(OSError, match="no space left"):  # a round later, whenever the next one is due
        watcher.round_done(Round(3, Exchange()), record_from_arrays({"w": mine}))
    watcher.closed()
    left = newest(tmp_path)
    assert left is not None and left.round == 1
