"""The server's loop over a Flower strategy's four hooks (and a `ServerSide`'s fifth), with watchers.

We own the loop (instead of `Strategy.start`) so that a run can be evaluated at its own pace, be watched, and
go on from a checkpoint. Stock strategies draw from global generators; these are seeded around each hook and
put back afterwards, so that choices depend on (seed, round) alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType
from flwr.serverapp.strategy import Strategy

from fedkd.protocol import EVALUATE_AFTER, SERVER_ROUND, STAGE
from fedkd.training.evaluate import Row
from simulations.hooks import configuring, global_random
from simulations.observe import Exchange, ObservedGrid
from strategies.server import ServerSide


class TooManyFailures(RuntimeError):
    """More clients of a round failed than the run allows."""


@dataclass(frozen=True)
class Plan:
    """When things happen in a run.

    max_failures: share of a round's training clients that may fail before the run is stopped
    evaluate_after: whether clients are also evaluated after local training: each evaluated round's
        participants, and in the last round everybody, from the final model
    timeout: seconds to wait for one exchange; None: for ever
    """

    seed: int
    rounds: int
    first: int = 1
    evaluate_every: int = 1
    max_failures: float = 0.5
    evaluate_after: bool = True
    timeout: float | None = None

    def evaluates(self, number: int) -> bool:
        """Whether clients are evaluated at the end of round `number`."""
        return number % self.evaluate_every == 0 or number == self.rounds


@dataclass
class Round:
    """What happened in one round."""

    number: int
    train: Exchange
    evaluation: Exchange | None = None
    after: Exchange | None = None
    follow_up: Exchange | None = None
    global_test: Row | None = None
    report: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def exchanges(self) -> list[Exchange]:
        """All that took place, in this order."""
        return [e for e in (self.train, self.follow_up, self.evaluation, self.after) if e]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All evaluation rows of the round, each with its client."""
        return [row for exchange in self.exchanges for row in exchange.rows]


class Watcher:
    """Something that watches a run and never changes it. All methods are optional."""

    def started(self, plan: Plan) -> None:
        """The run begins (or goes on at round `plan.first`)."""

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        """A whole round is over; `arrays` are the new global arrays."""

    def interrupted(self) -> None:
        """The user wants the run to stop here, after the round that was told last."""

    def finished(self) -> None:
        """The last round is over."""

    def closed(self) -> None:
        """The run is over, however it ended; told last."""


@contextmanager
def watched(watchers: Sequence[Watcher], plan: Plan) -> Iterator[None]:
    """Tell the watchers that a run begins, that it is finished if it is, and that it is over."""
    try:
        for watcher in watchers:
            watcher.started(plan)
        yield
        for watcher in watchers:
            watcher.finished()
    finally:
        for watcher in watchers:
            watcher.closed()


def play(
    strategy: Strategy,
    grid: ObservedGrid,
    arrays: ArrayRecord,
    plan: Plan,
    watchers: Sequence[Watcher],
    global_test: Callable[[ArrayRecord], Row | None] = lambda arrays: None,
    measure: Callable[[Round], dict[str, Any]] = lambda round_: {},
    stopping: Callable[[], bool] = lambda: False,
) -> ArrayRecord:
    """Run the rounds of `plan` and return the last global arrays.

    global_test: evaluates the global arrays on the official test set, None where they are no model
    measure: the figures of an evaluated round
    stopping: whether the user wants the run to stop after this round; then KeyboardInterrupt is raised
    Raises TooManyFailures where the share of failed training clients exceeds `plan.max_failures`.
    """
    with watched(watchers, plan):
        for number in range(plan.first, plan.rounds + 1):
            start = time.perf_counter()
            round_, arrays = _train(strategy, grid, arrays, plan, number)
            if plan.evaluates(number):
                round_.evaluation = _evaluate(strategy, grid, arrays, plan, number, "before")
                round_.global_test = global_test(arrays)
                if number == plan.rounds and plan.evaluate_after:
                    round_.after = _evaluate(strategy, grid, arrays, plan, number, "after")
                round_.figures = measure(round_)
            round_.seconds = time.perf_counter() - start
            for watcher in watchers:
                watcher.round_done(round_, arrays)
            if stopping() and number < plan.rounds:
                for watcher in watchers:
                    watcher.interrupted()
                raise KeyboardInterrupt
    return arrays


def _train(
    strategy: Strategy, grid: ObservedGrid, arrays: ArrayRecord, plan: Plan, number: int
) -> tuple[Round, ArrayRecord]:
    config = ConfigRecord({SERVER_ROUND: number})
    if plan.evaluate_after and plan.evaluates(number) and number < plan.rounds:
        config[EVALUATE_AFTER] = True
    with configuring(strategy, grid, plan.seed, MessageType.TRAIN, number):
        if not grid.get_node_ids():  # nobody is there: the round changes nothing
            return Round(number, grid.nothing()), arrays
        messages = list(strategy.configure_train(number, arrays, config, grid))
    grid.refuse = strategy.refuse if isinstance(strategy, ServerSide) else None
    replies = _exchange(grid, messages, plan)
    exchange = grid.last
    check_failures(exchange, plan, number)
    with global_random(plan.seed, "aggregate-train", number):
        new, metrics = strategy.aggregate_train(number, replies)
    round_ = Round(number, exchange, metrics=dict(metrics or {}))
    if isinstance(strategy, ServerSide):
        round_.follow_up = _follow_up(strategy, grid, plan, number)
        round_.report = strategy.report()
    return round_, arrays if new is None else new


def _follow_up(strategy: ServerSide, grid: ObservedGrid, plan: Plan, number: int) -> Exchange | None:
    """The second exchange of a round, for strategies that want one."""
    messages = list(strategy.follow_up(number, grid))
    if not messages:
        return None
    replies = _exchange(grid, messages, plan)
    exchange = grid.last
    strategy.heard(number, replies)
    return exchange


def _evaluate(
    strategy: Strategy, grid: ObservedGrid, arrays: ArrayRecord, plan: Plan, number: int, stage: str
) -> Exchange:
    config = ConfigRecord({SERVER_ROUND: number, STAGE: stage})
    with configuring(strategy, grid, plan.seed, MessageType.EVALUATE, number):
        messages = list(strategy.configure_evaluate(number, arrays, config, grid))
    replies = _exchange(grid, messages, plan)
    exchange = grid.last
    with global_random(plan.seed, "aggregate-evaluate", number):
        strategy.aggregate_evaluate(number, replies)
    return exchange


def _exchange(grid: ObservedGrid, messages: list[Message], plan: Plan) -> list[Message]:
    if not messages:
        grid.last = grid.nothing()
        return []
    return list(grid.send_and_receive(messages, timeout=plan.timeout))


def check_failures(exchange: Exchange, plan: Plan, number: int) -> None:
    """Raise TooManyFailures where more of the round's clients failed than the plan allows."""
    failed, asked = len(exchange.failures), len(exchange.participants)
    if failed and failed > plan.max_failures * asked:
        client, reason = next(iter(exchange.failures.items()))
        raise TooManyFailures(
            f"round {number}: {failed} of {asked} clients failed, more than "
            f"max_failures={plan.max_failures}; client {client}: {reason}"
        )
