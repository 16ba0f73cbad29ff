"""What a worker does: a client's messages through the ClientApp. Every engine uses it; it knows no Ray."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Array, Context, Error, Message, MessageType, RecordDict

from fedkd.build import build, locate
from simulations.engine.packing import Envelope, Packed, pack, seal, unpack, unseal
from simulations.flower_private import CLIENT_RAISED

MOST_COHORTS = 64


@dataclass(frozen=True)
class Program:
    """What the workers run.

    `app`: the import path of a `ClientApp` (any callable `app(message, context) -> Message`), or a node for
    `fedkd.build` that makes one. `setup`: the import path of `setup(config, arrays)`, called once per worker
    before the app is imported; the target of a node may take what it returns as `resources`.
    `arrays` lie once per machine in shared memory and reach `setup` read-only.
    `together`: the import path of a function that trains several clients at once: it gets (message, context)
    of each and returns a reply or an exception for each. `cohort`: how many clients make one call of a
    worker; None: a function of how many are asked.
    """

    app: str | Mapping[str, Any]
    num_clients: int
    setup: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    together: str | None = None
    cohort: int | None = None

    def cohorts(self, jobs: "Sequence[Job]") -> "list[list[Job]]":
        """The jobs as they go to workers: one client a call for a few clients, at most 64 calls for many."""
        size = self.cohort or max(1, -(-len(jobs) // MOST_COHORTS))
        return [list(jobs[start : start + size]) for start in range(0, len(jobs), size)]


class Job(NamedTuple):
    """One client's work in a batch: its messages in the order they were sent, and its committed state.

    `state` is Packed or None where a `Runner` gets it; before that it is whatever the engine keeps.
    """

    client: int
    messages: tuple[Envelope, ...]
    state: Any


class Result(NamedTuple):
    """A client's replies and new state (`changed=False`: keep the old one), or why there are none."""

    client: int
    replies: tuple[Envelope, ...]
    state: Packed | None
    changed: bool
    lost: str = ""


class ClientError(RuntimeError):
    """A client failed; names the client, the round and the stage, and has the original error as its cause."""


class Runner:
    """The program, set up once, ready for any client.

    `raise_errors`: of clients, in place of error replies. `expendable`: the process is one of several and can
    be replaced, so that running out of memory is its end and no client's failure.
    """

    def __init__(
        self,
        program: Program,
        arrays: Mapping[str, np.ndarray],
        raise_errors: bool = False,
        expendable: bool = False,
    ) -> None:
        self.num_clients = program.num_clients
        self.raise_errors, self.expendable = raise_errors, expendable
        resources = locate(program.setup)(dict(program.config), arrays) if program.setup else None
        made = isinstance(program.app, str)
        self.app = locate(program.app) if made else build(program.app, resources=resources)  # type: ignore
        self.together = locate(program.together) if program.together else None

    def run_all(self, jobs: Sequence[Job], shared: Sequence[Array] = ()) -> list[Result]:
        """A cohort: its clients together where that is wanted and they all train, else one after another."""
        if self.together is None or len(jobs) == 1 or any(len(job.messages) != 1 for job in jobs):
            return [self.run(job, shared) for job in jobs]
        messages = [unseal(job.messages[0], shared) for job in jobs]
        if {message.metadata.message_type for message in messages} != {MessageType.TRAIN}:
            return [self.run(job, shared) for job in jobs]
        contexts = [self._context(j.client, m, j.state) for j, m in zip(jobs, messages, strict=True)]
        answers = self.together(list(zip(messages, contexts, strict=True)))
        results = []
        for job, message, context, answer in zip(jobs, messages, contexts, answers, strict=True):
            reply, state = self._sealed(job.client, message, context, job.state, answer)
            results.append(Result(job.client, (reply,), state, state != job.state))
        return results

    def run(self, job: Job, shared: Sequence[Array] = ()) -> Result:
        """All messages of one client; a state counts only if the message that made it was answered."""
        state, replies = job.state, []
        for envelope in job.messages:
            reply, state = self._answer(job.client, unseal(envelope, shared), state)
            replies.append(reply)
        return Result(job.client, tuple(replies), state, state != job.state)

    def _answer(self, client: int, message: Message, state: Packed | None) -> tuple[Envelope, Packed | None]:
        context = self._context(client, message, state)
        try:
            answer = self.app(message=message, context=context)
        except (Exception, SystemExit) as error:
            answer = error
        return self._sealed(client, message, context, state, answer)

    def _sealed(
        self, client: int, message: Message, context: Context, state: Packed | None, answer: Any
    ) -> tuple[Envelope, Packed | None]:
        """What the app returned or raised, for sending; the new state only beside a reply."""
        try:
            if isinstance(answer, BaseException):
                raise answer
            if not isinstance(answer, Message):
                raise TypeError(f"the ClientApp returned {type(answer).__name__}, not a Message")
            content = pack(answer.content) if answer.has_content() else None
            return seal(answer, content), pack(context.state) if context.state else None
        except (Exception, SystemExit) as error:
            if self.expendable and ran_out_of_memory(error):
                raise
            where = f"client {client} failed in round {_round(message)}, {message.metadata.message_type}"
            text = f"{where}: {type(error).__name__}: {error}"
            if self.raise_errors:
                raise ClientError(text) from error
            reason = f"{text}\n{''.join(traceback.format_exception(error))}"
            return seal(Message(Error(CLIENT_RAISED, reason), reply_to=message), None), state

    def _context(self, client: int, message: Message, state: Packed | None) -> Context:
        return Context(
            run_id=message.metadata.run_id,
            node_id=message.metadata.dst_node_id,
            node_config={"partition-id": client, "num-partitions": self.num_clients},
            state=unpack(state) if state else RecordDict(),
            run_config={},
        )


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused: by Python and NumPy, or by PyTorch, which has no class for it on a CPU."""
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _round(message: Message) -> Any:
    """The round as strategies tell it to clients, or as a message's group."""
    told = (record.get("server-round") for record in message.content.config_records.values())
    return next((number for number in told if number is not None), message.metadata.group_id or "?")
