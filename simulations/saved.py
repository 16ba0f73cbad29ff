"""Reading checkpoints back: the newest one that is what was written, by its checksums."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, RecordDict

from fedkd.protocol import ARRAYS
from simulations.records import loads

FOLDER = "checkpoint"
GLOBAL, STRATEGY = "global", "strategy"
"""The two owners of records in the server's file."""
log = logging.getLogger(__name__)


@dataclass
class Saved:
    """A checkpoint that was read back."""

    round: int
    arrays: ArrayRecord
    strategy: RecordDict
    clients: dict[int, RecordDict]


class Damaged(Exception):
    """A checkpoint that is not what was written."""


def newest(out: Path) -> Saved | None:
    """The newest whole checkpoint of a run folder; damaged ones are passed over with a warning."""
    for manifest in manifests(out / FOLDER):
        try:
            return _read(manifest)
        except Damaged as problem:
            log.warning("checkpoint of round %d cannot be used: %s", int(manifest.stem), problem)
    return None


def manifests(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("[0-9]*.json"), reverse=True)


def _read(manifest: Path) -> Saved:
    content = content_of(manifest)
    books = {name: loads(data) for name, data in _whole_files(manifest.parent, content["files"])}
    server = books[content["server"]]
    clients: dict[int, RecordDict] = {}
    for name in content["clients"]:
        clients |= {int(client): state for client, state in books[name].items()}
    held = {client: state for client, state in sorted(clients.items()) if state}
    return Saved(content["round"], server[GLOBAL].array_records[ARRAYS], server[STRATEGY], held)


def content_of(manifest: Path) -> dict[str, Any]:
    """What a manifest says: its round, its files with sizes and checksums, which of them are whose.

    Raises `Damaged`.
    """
    try:
        sealed = json.loads(manifest.read_bytes())
        content: dict[str, Any] = sealed["content"]
        whole = sealed["sha256"] == checksum(json.dumps(content).encode())
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
        if checksum(data) != wanted["sha256"]:
            raise Damaged(f"{name} was altered")
        yield name, data


def checksum(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
