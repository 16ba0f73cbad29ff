"""Checkpoints: everything a later round depends on, on disk after each round (or each few).

A checkpoint is a small manifest `<round>.json` that names data files with their sizes and checksums, and has
a checksum of its own. It appears by rename, after all it names has reached the disk, so a kill at any moment
leaves the last one whole. Client states are written only where they changed: the manifest lists the files to
read one after another, later ones win; when most of what these hold is out of date, all states are written
anew. The two newest checkpoints are kept; one that was cut short or altered is noticed, and the one before it
is used.

The server's part is written while the next round is at work; that round's own checkpoint waits for it.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from fedkd.protocol import ARRAYS
from simulations.loop import Plan, Round, Watcher
from simulations.records import copied, dump, loads
from simulations.rundir import write_text
from simulations.strategy_state import strategy_state

FOLDER = "checkpoint"
KEPT = 2
CLIENTS_A_FILE = 2000
HEAD_START = 0.005  # seconds before the server's part is written: the next round's messages go out first
WASTE = 3
"""Client states are written anew once their files are this many times as large as what is still valid."""

_GLOBAL, _STRATEGY = "global", "strategy"
_SLACK = 1 << 20  # bytes; below this nobody minds waste
log = logging.getLogger(__name__)


class Stateful(Protocol):
    """A grid that holds its clients' states."""

    def client_states(self, clients: Any = None) -> dict[int, RecordDict]:
        """States by client."""

    def take_changed(self) -> set[int]:
        """Whose state changed since the last call."""


@dataclass
class Saved:
    """A checkpoint that was read back."""

    round: int
    arrays: ArrayRecord
    strategy: RecordDict
    clients: dict[int, RecordDict]


class Damaged(Exception):
    """A checkpoint that is not what was written."""


class Checkpoints(Watcher):
    """Saves the run as it goes.

    out: the run folder
    every: rounds between checkpoints; the last round, and the last one before an interrupt, have one too
    """

    def __init__(self, out: Path, strategy: Strategy, grid: Stateful, every: int = 1) -> None:
        self.folder = out / FOLDER
        self.strategy, self.grid, self.every = strategy, grid, every
        self._files: dict[str, dict[str, Any]] = {}  # of client states, oldest first: size and checksum
        self._place: dict[int, tuple[str, int]] = {}  # the file with a client's state, and its share of it
        self._unsaved: tuple[int, ArrayRecord] | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._hurry = threading.Event()  # somebody waits for what is being written
        self._writing: Future[None] | None = None

    def started(self, plan: Plan) -> None:
        """Forget what is later than where the run goes on."""
        self.folder.mkdir(exist_ok=True)
        self.rounds = plan.rounds
        for manifest in _manifests(self.folder):
            if int(manifest.stem) >= plan.first:
                manifest.unlink()

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        self._unsaved = (round_.number, arrays)
        self.settle()  # what went wrong with the one before is told a round later, and not when it is late
        if round_.number == self.rounds:
            self.interrupted()
        elif round_.number % self.every == 0:
            self._save()

    def interrupted(self) -> None:
        """Save the last whole round, unless it is saved."""
        self._save()
        self.settle()

    def settle(self) -> None:
        """Wait until all is written; raises what writing raised."""
        if self._writing is not None:
            self._hurry.set()
            writing, self._writing = self._writing, None
            writing.result()

    def closed(self) -> None:
        """Nothing is left half written by this process."""
        try:
            self.settle()
        finally:
            self._thread.shutdown()

    def _save(self) -> None:
        if self._unsaved is None:
            return
        number, arrays = self._unsaved
        self.settle()
        self._save_clients(number, self.grid.take_changed())
        records = {_GLOBAL: RecordDict({ARRAYS: arrays}), _STRATEGY: strategy_state(self.strategy)}
        book = {owner: copied(each) for owner, each in records.items()}
        self._hurry.clear()
        self._writing = self._thread.submit(self._save_server, number, book, dict(self._files))
        self._unsaved = None

    def _save_server(
        self, number: int, book: Mapping[str, RecordDict], clients: Mapping[str, dict[str, Any]]
    ) -> None:
        """The server's file, and the manifest, which names the files of client states as well."""
        self._hurry.wait(HEAD_START)
        server = f"{number:06d}-server.safetensors"
        content = {"round": number, "server": server, "clients": list(clients)}
        content["files"] = {server: self._write(server, book), **clients}
        seal = _checksum(json.dumps(content).encode())
        write_text(self.folder / f"{number:06d}.json", json.dumps({"sha256": seal, "content": content}))
        self._tidy()

    def _save_clients(self, number: int, changed: set[int]) -> None:
        self._place = {client: place for client, place in self._place.items() if client not in changed}
        used = {name for name, _ in self._place.values()}
        self._files = {name: file for name, file in self._files.items() if name in used}
        valid = sum(size for _, size in self._place.values())
        if sum(file["bytes"] for file in self._files.values()) > WASTE * valid + _SLACK:
            changed |= self._place.keys()
            self._place, self._files = {}, {}
        ordered = sorted(changed)
        for part, start in enumerate(range(0, len(ordered), CLIENTS_A_FILE)):
            chosen = ordered[start : start + CLIENTS_A_FILE]
            states = self.grid.client_states(chosen)
            name = f"{number:06d}-clients-{part}.safetensors"
            book = {str(client): states.get(client, RecordDict()) for client in chosen}
            self._files[name] = self._write(name, book)
            share = self._files[name]["bytes"] // len(chosen)
            self._place |= dict.fromkeys(chosen, (name, share))

    def _write(self, name: str, book: Mapping[str, RecordDict]) -> dict[str, Any]:
        with (self.folder / name).open("wb") as file:  # nobody reads it before a manifest names it
            written = dump(book, file)
            file.flush()
            os.fsync(file.fileno())
        return written

    def _tidy(self) -> None:
        kept: dict[str, set[str]] = {}
        for manifest in _manifests(self.folder):
            with suppress(Damaged):
                kept[manifest.name] = set(_content(manifest)["files"])
            if len(kept) == KEPT:
                break
        needed = kept.keys() | set().union(*kept.values())
        for path in self.folder.iterdir():
            if path.name not in needed:
                path.unlink()


def newest(out: Path) -> Saved | None:
    """The newest whole checkpoint of a run folder; damaged ones are passed over with a warning."""
    for manifest in _manifests(out / FOLDER):
        try:
            return _read(manifest)
        except Damaged as problem:
            log.warning("checkpoint of round %d cannot be used: %s", int(manifest.stem), problem)
    return None


def _manifests(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("[0-9]*.json"), reverse=True)


def _read(manifest: Path) -> Saved:
    content = _content(manifest)
    books = {name: loads(data) for name, data in _whole_files(manifest.parent, content["files"])}
    server = books[content["server"]]
    clients: dict[int, RecordDict] = {}
    for name in content["clients"]:
        clients |= {int(client): state for client, state in books[name].items()}
    held = {client: state for client, state in sorted(clients.items()) if state}
    return Saved(content["round"], server[_GLOBAL].array_records[ARRAYS], server[_STRATEGY], held)


def _content(manifest: Path) -> dict[str, Any]:
    try:
        sealed = json.loads(manifest.read_bytes())
        content: dict[str, Any] = sealed["content"]
        whole = sealed["sha256"] == _checksum(json.dumps(content).encode())
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{manifest.name} is cut short") from error
    if not whole:
        raise Damaged(f"{manifest.name} was altered")
    return content


def _whole_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{name} is missing")
        data = path.read_bytes()
        if len(data) != wanted["bytes"]:
            raise Damaged(f"{name} has {len(data)} bytes, {wanted['bytes']} were written")
        if _checksum(data) != wanted["sha256"]:
            raise Damaged(f"{name} was altered")
        yield name, data


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
