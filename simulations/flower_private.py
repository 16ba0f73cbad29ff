"""Every use of a name that Flower does not promise to keep, so that a new Flower is checked in one place.

`tests/engine/test_flower_private.py` fails when one of them moves and says where to look for it.
"""

import os
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # before Flower is imported: it reads this once

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE_ID = 0
CLIENT_RAISED: int = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
CLIENT_CRASHED: int = ErrorCode.CLIENT_APP_CRASHED


def claim_identity(run_id: int) -> None:
    """Make this process the server of a run: without it `Message(...)` refuses to build an instruction."""
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SERVER_NODE_ID
    TaskIdentity.task_id = 0


def stamp(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would give it when it is sent."""
    message.metadata.__dict__["_message_id"] = message_id


def metadata_of(message: Message) -> dict[str, Any]:
    """A message's metadata as plain values."""
    return dict(message.metadata.__dict__)


def kind_of(metadata: dict[str, Any]) -> str:
    """The message type among these plain values."""
    return str(metadata["_message_type"])


def message_from(metadata: dict[str, Any], content: RecordDict | None, error: Error | None) -> Message:
    """A message with exactly this metadata; the public signatures only make new instructions and replies."""
    restored = Metadata.__new__(Metadata)
    restored.__dict__.update(metadata)
    return Message(content=content, error=error, metadata=restored)  # type: ignore[call-overload]


def new_run(run_id: int) -> Run:
    """A run as a `Grid` reports it, with nothing configured."""
    return Run.create_empty(run_id)
