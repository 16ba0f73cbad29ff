"""The grid as a strategy sees it: nodes in partition order, replies in partition order, bad ones left out.

Works around any Flower grid (ours, Flower's simulation, a deployment), which is what makes runs repeatable
with strategies that know nothing of this project: they sample positions of a sorted list and sum replies in
a fixed order. Everything that passes is also counted and shown to whoever records the run.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedkd.protocol import CONFIG, CUT, ROWS
from simulations.availability import Fleet
from simulations.contents import as_error, attach, problem, samples, shapes, sizes
from simulations.engine.base import SimulationGrid


@dataclass
class Exchange:
    """What one exchange of messages moved and lost.

    bytes_down, bytes_up: by record name, array bytes only
    failures: reason by client; their replies were left out
    late: simulated seconds by client; their replies came after the deadline and were left out
    unavailable: how many clients were away when the round's clients were chosen
    simulated_seconds: how long it took by the simulated clock; None without one
    retries: how often clients ran again because a worker died or hung
    rows: evaluation rows, each with its client
    cuts: the block boundary that each client was told to work at, by strategies that tell one
    """

    bytes_down: Counter[str] = field(default_factory=Counter)
    bytes_up: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    late: dict[int, float] = field(default_factory=dict)
    unavailable: int = 0
    simulated_seconds: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    participants: list[int] = field(default_factory=list)
    retries: int = 0
    cuts: dict[int, int] = field(default_factory=dict)

    def joined(self, later: "Exchange") -> "Exchange":
        """This exchange and a later one of the same round as one."""
        clocks = [e.simulated_seconds for e in (self, later) if e.simulated_seconds is not None]
        return Exchange(
            self.bytes_down + later.bytes_down,
            self.bytes_up + later.bytes_up,
            self.failures | later.failures,
            self.late | later.late,
            max(self.unavailable, later.unavailable),
            sum(clocks) if clocks else None,
            self.rows + later.rows,
            self.participants + later.participants,
            self.retries + later.retries,
            self.cuts | later.cuts,
        )


class Verdict(NamedTuple):
    """Whether a reply counts: not if there is a problem with it, or it is late; and its simulated time."""

    problem: str | None
    seconds: float | None = None
    late: bool = False


class ObservedGrid(Grid):
    """A grid around a grid.

    A reply that does not count leaves nothing behind: an engine of ours then keeps the client's old state.
    (Under Flower's own engines a client's state is its own affair.)

    inner: the grid that carries the messages
    clients: node id of each partition, in partition order
    training: the partitions that may be sampled for training (the others are newcomers)
    setup: resolved configuration to attach to each message, for engines whose clients start without one
    fleet: who is away or slow in a round of training; None: nobody ever
    """

    def __init__(
        self,
        inner: Grid,
        clients: Sequence[int],
        training: Sequence[int],
        setup: Mapping[str, Any] | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self._inner = inner
        self._nodes = clients
        self._may_train = np.asarray(training) if fleet or len(training) < len(clients) else None
        # a list, which strategies copy each round: numbers of a range would be made anew each time
        self.training = [clients[int(k)] for k in training] if self._may_train is not None else list(clients)
        self._present: Sequence[int] = self.training
        self._client_of = _inverse(clients)
        self._setup = ConfigRecord({"json": json.dumps(setup, sort_keys=True)}) if setup else None
        self._fleet = fleet
        self._configuring = MessageType.TRAIN
        self.last = Exchange()
        self.listener: Callable[[Sequence[Message], Exchange], None] | None = None
        self._down: dict[int, int] = {}  # bytes sent to each client in this exchange
        self._wanted: dict[str, tuple[int, ...]] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._asked: dict[int, RecordDict] = {}
        self.refuse: Callable[[RecordDict, RecordDict], str | None] | None = None
        if isinstance(inner, SimulationGrid):
            inner.accept = self._accept

    def begin(self, stage: str, number: int) -> None:
        """The clients of this stage (train or evaluate) of a round are about to be chosen."""
        self._configuring = stage
        if stage == MessageType.TRAIN and self._fleet is not None and self._may_train is not None:
            there = self._fleet.present(number)[self._may_train]
            self._present = [self.training[int(k)] for k in np.flatnonzero(there)]

    def nothing(self) -> Exchange:
        """An exchange of no messages."""
        away = len(self.training) - len(self._present) if self._configuring == MessageType.TRAIN else 0
        return Exchange(unavailable=away, simulated_seconds=0.0 if self._clock() else None)

    def get_node_ids(self) -> Sequence[int]:
        """Nodes in partition order; for training only those that are there, without the newcomers."""
        return self._present if self._configuring == MessageType.TRAIN else self._nodes

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies in partition order; one that does not count becomes an error reply."""
        messages = list(messages)
        self.last, self._verdicts, self._wanted = self.nothing(), {}, shapes(messages)
        self._asked = {message.metadata.dst_node_id: message.content for message in messages}
        self._send(messages)
        if self._setup is not None:
            attach(messages, self._setup)
        replies = sorted(
            self._inner.send_and_receive(messages, timeout=timeout),
            key=lambda reply: self._client_of(reply.metadata.src_node_id),
        )
        answered = {reply.metadata.src_node_id for reply in replies}
        for message in messages:
            client = self._client_of(message.metadata.dst_node_id)
            self.last.participants.append(client)
            if message.metadata.dst_node_id not in answered:
                self.last.failures[client] = "no reply"
        inspected = [self._inspect(reply) for reply in replies]
        self._asked = {}
        if isinstance(self._inner, SimulationGrid):
            self.last.retries = self._inner.last.retries
        if self.listener is not None and messages:
            self.listener(messages, self.last)
        return inspected

    def _send(self, messages: Sequence[Message]) -> None:
        self._down = {}
        known: dict[int, Counter[str]] = {}
        for message in messages:
            if id(message.content) not in known:
                known[id(message.content)] = sizes(message.content)
            size = known[id(message.content)]
            self.last.bytes_down.update(size)
            client = self._client_of(message.metadata.dst_node_id)
            self._down[client] = self._down.get(client, 0) + size.total()
            told = message.content.config_records.get(CONFIG)
            if told is not None and CUT in told:
                self.last.cuts[client] = int(told[CUT])  # type: ignore[arg-type]

    def _accept(self, replies: Sequence[Message]) -> bool:
        verdicts = [self._verdict(reply) for reply in replies]
        return not any(verdict.problem or verdict.late for verdict in verdicts)

    def _verdict(self, reply: Message) -> Verdict:
        """Found once a reply: our engines already ask when it comes in, while other clients are at work."""
        key = reply.metadata.reply_to_message_id
        if key not in self._verdicts:
            self._verdicts[key] = self._judge(reply)
        return self._verdicts[key]

    def _judge(self, reply: Message) -> Verdict:
        if reply.has_error():
            return Verdict(reply.error.reason or "an error without a reason")
        wrong = problem(reply.content, self._wanted)
        if not wrong and self.refuse and reply.metadata.message_type == MessageType.TRAIN:
            wrong = self.refuse(self._asked[reply.metadata.src_node_id], reply.content)
        fleet = self._clock()
        if wrong or fleet is None:
            return Verdict(wrong)
        client = self._client_of(reply.metadata.src_node_id)
        moved = self._down.get(client, 0) + sizes(reply.content).total()
        seconds = fleet.seconds(client, samples(reply.content), moved)
        deadline = fleet.settings.deadline
        return Verdict(None, seconds, deadline is not None and seconds > deadline)

    def _clock(self) -> Fleet | None:
        fleet = self._fleet
        return fleet if fleet and fleet.settings.timed and self._configuring == MessageType.TRAIN else None

    def _inspect(self, reply: Message) -> Message:
        client = self._client_of(reply.metadata.src_node_id)
        wrong, seconds, late = self._verdict(reply)
        if wrong:
            self.last.failures[client] = wrong
            return reply if reply.has_error() else as_error(reply, wrong)
        if seconds is not None:
            limit = self._fleet.settings.deadline if late else seconds  # type: ignore[union-attr]
            self.last.simulated_seconds = max(self.last.simulated_seconds or 0.0, limit or 0.0)
            if late:
                self.last.late[client] = seconds
                return as_error(reply, f"late: {seconds:.1f} simulated seconds")
        self.last.bytes_up.update(sizes(reply.content))
        if ROWS in reply.content:
            rows = json.loads(str(reply.content.config_records[ROWS]["json"]))
            self.last.rows += [{"client": client, **row} for row in rows]
        return reply

    def set_run(self, run: Any) -> None:
        self._inner.set_run(run)

    @property
    def run(self) -> Any:
        return self._inner.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._inner.create_message(*args, **kwargs)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._inner.pull_messages(message_ids)


def _inverse(nodes: Sequence[int]) -> Any:
    if isinstance(nodes, range):
        return nodes.index
    return {node: k for k, node in enumerate(nodes)}.__getitem__
