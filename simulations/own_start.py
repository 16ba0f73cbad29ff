"""Strategies that bring their own `start`: their loop runs as it is, and is recorded from what it sends.

There is no checkpoint of such a run, because only the strategy knows where it is; `evaluate_every` and the
final evaluation after training are up to it, too.
"""

import inspect
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType
from flwr.serverapp.strategy import Strategy

from fedkd.build import accepted
from fedkd.protocol import EVALUATE_AFTER, SERVER_ROUND, STAGE
from fedkd.training.evaluate import Row
from simulations.hooks import configuring, global_random
from simulations.loop import Plan, Round, Watcher, check_failures, watched
from simulations.observe import Exchange, ObservedGrid

log = logging.getLogger(__name__)


def overrides_start(strategy: Strategy) -> bool:
    """Whether a strategy brings its own round loop."""
    return inspect.getattr_static(type(strategy), "start") is not inspect.getattr_static(Strategy, "start")


def play_own(
    strategy: Strategy,
    grid: ObservedGrid,
    arrays: ArrayRecord,
    plan: Plan,
    watchers: Sequence[Watcher],
    global_test: Callable[[ArrayRecord], Row | None] = lambda arrays: None,
    measure: Callable[[Round], dict[str, Any]] = lambda round_: {},
    stopping: Callable[[], bool] = lambda: False,
) -> ArrayRecord:
    """As `simulations.loop.play`, with the strategy's `start` as the loop."""
    log.warning("%s brings its own start(): it runs as it is, and cannot be resumed", type(strategy).__name__)
    rounds = _Rounds(arrays, plan, watchers, global_test, measure, stopping)
    grid.listener = rounds.heard
    _announce(strategy, grid, plan.seed)
    given: dict[str, Any] = {
        "num_rounds": plan.rounds,
        "timeout": plan.timeout,
        "train_config": ConfigRecord({EVALUATE_AFTER: True} if plan.evaluate_after else {}),
        "evaluate_config": ConfigRecord({STAGE: "before"}),
        "evaluate_fn": rounds.evaluated,
    }
    names, anything = accepted(strategy.start)
    with watched(watchers, plan):
        with global_random(plan.seed, "start", 0):
            strategy.start(grid, arrays, **{k: v for k, v in given.items() if anything or k in names})
        rounds.close()
    return rounds.arrays


class _Rounds:
    """Puts a strategy's exchanges together to rounds, by the round that their messages name."""

    def __init__(
        self,
        arrays: ArrayRecord,
        plan: Plan,
        watchers: Sequence[Watcher],
        global_test: Callable[[ArrayRecord], Row | None],
        measure: Callable[[Round], dict[str, Any]],
        stopping: Callable[[], bool],
    ) -> None:
        self.arrays, self.plan, self.watchers = arrays, plan, watchers
        self.global_test, self.measure, self.stopping = global_test, measure, stopping
        self.open: Round | None = None
        self._begun = time.perf_counter()

    def heard(self, messages: Sequence[Message], exchange: Exchange) -> None:
        """Replies to these messages have come."""
        training = messages[0].metadata.message_type.startswith(MessageType.TRAIN)
        number = self._number(messages[0], training)
        if self.open is None or self.open.number != number:
            self.close()
            self.open = Round(number, Exchange())
        if training:
            check_failures(exchange, self.plan, number)
            self.open.train = self.open.train.joined(exchange)
        else:
            self.open.evaluation = (self.open.evaluation or Exchange()).joined(exchange)

    def evaluated(self, server_round: int, arrays: ArrayRecord) -> None:
        """Flower's `evaluate_fn`: the strategy shows the arrays that a round ended with."""
        self.arrays = arrays
        if self.open is not None and self.open.number == server_round:
            self.open.global_test = self.global_test(arrays)

    def close(self) -> None:
        """The open round, if there is one, is over."""
        if self.open is None:
            return
        round_, self.open = self.open, None
        if round_.evaluation is not None:
            round_.figures = self.measure(round_)
        now = time.perf_counter()
        round_.seconds, self._begun = now - self._begun, now
        for watcher in self.watchers:
            watcher.round_done(round_, self.arrays)
        if self.stopping() and round_.number < self.plan.rounds:
            raise KeyboardInterrupt

    def _number(self, message: Message, training: bool) -> int:
        """The round that the message names; from one that names none, the open one, or the next to train."""
        for record in message.content.config_records.values():
            if SERVER_ROUND in record:
                return int(record[SERVER_ROUND])  # type: ignore[arg-type]
        last = self.open.number if self.open else 0
        evaluated = self.open is not None and self.open.evaluation is not None
        return last + 1 if training and (evaluated or last == 0) else last


def _announce(strategy: Strategy, grid: ObservedGrid, seed: int) -> None:
    """Let the grid know what the strategy's loop chooses clients for, when it calls its own hooks."""
    for stage in (MessageType.TRAIN, MessageType.EVALUATE):
        hook = getattr(strategy, f"configure_{stage}")

        def choose(
            server_round: int, *rest: Any, _hook: Any = hook, _stage: str = stage, **named: Any
        ) -> Any:
            with configuring(strategy, grid, seed, _stage, server_round):
                return list(_hook(server_round, *rest, **named))

        setattr(strategy, f"configure_{stage}", choose)
