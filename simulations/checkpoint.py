"""Checkpoints: everything a later round depends on, on disk after each round (or each few).

A checkpoint is a small manifest `<round>.json` that names data files with their sizes and checksums, and has
a checksum of its own. It appears by rename, after all it names has reached the disk, so a kill at any moment
leaves the last one whole. Client states are written only where they changed: the manifest lists the files to
read one after another, later ones win; when most of what these hold is out of date, all states are written
anew. The two newest checkpoints are kept; one that was cut short or altered is noticed, and the one before it
is used. They have no file in common: of a file that both need there are two copies, which take turns.

The server's part is written while the next round is at work; that round's own checkpoint waits for it.
"""

import json
import os
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from fedkd.protocol import ARRAYS
from simulations.loop import Plan, Round, Watcher
from simulations.records import copied, dump
from simulations.rundir import write_text
from simulations.saved import FOLDER, GLOBAL, STRATEGY, Damaged, checksum, content_of, manifests
from simulations.strategy_state import strategy_state

KEPT = 2
CLIENTS_A_FILE = 2000
HEAD_START = 0.005  # seconds before the server's part is written: the next round's messages go out first
WASTE = 3
"""Client states are written anew once their files are this many times as large as what is still valid."""

_SLACK = 1 << 20  # bytes; below this nobody minds waste
_COPY = "-copy"  # in the name of a file's second copy


class Stateful(Protocol):
    """A grid that holds its clients' states."""

    def client_states(self, clients: Any = None) -> dict[int, RecordDict]:
        """States by client."""

    def take_changed(self) -> set[int]:
        """Whose state changed since the last call."""


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
        self._first: set[str] = set()  # the files of which the last checkpoint names the first copy
        self._unsaved: tuple[int, ArrayRecord] | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._hurry = threading.Event()  # somebody waits for what is being written
        self._writing: Future[None] | None = None

    def started(self, plan: Plan) -> None:
        """Forget what is later than where the run goes on."""
        self.folder.mkdir(exist_ok=True)
        self.rounds = plan.rounds
        for manifest in manifests(self.folder):
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
        records = {GLOBAL: RecordDict({ARRAYS: arrays}), STRATEGY: strategy_state(self.strategy)}
        book = {owner: copied(each) for owner, each in records.items()}
        self._hurry.clear()
        self._writing = self._thread.submit(self._save_server, number, book, self._turned())
        self._unsaved = None

    def _save_server(
        self, number: int, book: Mapping[str, RecordDict], clients: Mapping[str, dict[str, Any]]
    ) -> None:
        """The server's file, and the manifest, which names the files of client states as well."""
        self._hurry.wait(HEAD_START)
        for name in clients:
            self._copied(name)
        server = f"{number:06d}-server.safetensors"
        content = {"round": number, "server": server, "clients": list(clients)}
        content["files"] = {server: self._write(server, book), **clients}
        seal = checksum(json.dumps(content).encode())
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

    def _turned(self) -> dict[str, dict[str, Any]]:
        """The files of client states, none under the name that the checkpoint before has for it."""
        self._first = self._files.keys() - self._first
        return {
            name if name in self._first else name.replace(".", f"{_COPY}."): file
            for name, file in self._files.items()
        }

    def _copied(self, name: str) -> None:
        path, first = self.folder / name, self.folder / name.replace(_COPY, "")
        if not path.exists() and first.exists():
            shutil.copyfile(first, path)
            with path.open("rb+") as file:
                os.fsync(file.fileno())

    def _write(self, name: str, book: Mapping[str, RecordDict]) -> dict[str, Any]:
        with (self.folder / name).open("wb") as file:  # nobody reads it before a manifest names it
            written = dump(book, file)
            file.flush()
            os.fsync(file.fileno())
        return written

    def _tidy(self) -> None:
        kept: dict[str, set[str]] = {}
        for manifest in manifests(self.folder):
            with suppress(Damaged):
                kept[manifest.name] = set(content_of(manifest)["files"])
            if len(kept) == KEPT:
                break
        needed = kept.keys() | set().union(*kept.values())
        for path in self.folder.iterdir():
            if path.name not in needed:
                path.unlink()
