"""What the tests of the engines share."""

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

EVERYONE = range(5)


def content(**config: Any) -> RecordDict:
    """A global model of three zeros and a configuration."""
    return RecordDict({"arrays": ArrayRecord([np.zeros(3)]), "config": ConfigRecord(config)})


def ask(grid: Grid, stage: str, clients: Any = EVERYONE, **config: Any) -> list[Message]:
    """Send all these clients the same content."""
    shared = content(**config)
    return list(grid.send_and_receive([Message(shared, client + 1, stage) for client in clients]))


def calls(replies: list[Message]) -> list[Any]:
    """How often each client says it was called; None for an error reply."""
    return [None if r.has_error() else r.content["metrics"]["calls"] for r in replies]


def first_values(replies: list[Message]) -> list[float]:
    """The first number of each client's arrays."""
    return [float(r.content["arrays"]["0"].numpy()[0]) for r in replies]


def fault(grid: Grid, folder: Path, kind: str, client: int, times: int) -> list[Message]:
    """Ask everyone; `client` kills, hangs or exhausts its worker that often."""
    folder.mkdir(exist_ok=True)
    return ask(grid, "query.fault", client=client, folder=str(folder), times=times, kind=kind)
