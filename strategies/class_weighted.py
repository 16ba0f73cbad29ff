"""Any strategy, with a say in how much each class counts: `class_weighting=...` composed with `method=...`.

`ClassWeighted` stands around a strategy (and around `Weighted`, whose weights it finds in the replies). It
asks the clients for class counts, and tells them, and the server's own workbench, the shift `-log c` that
every loss of the round gets. The shift of the first round is zero: nothing is known yet.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkd.errors import ConfigError
from fedkd.protocol import (
    CLASS_CORRECT,
    CLASS_COUNTS,
    CLASS_SHIFT,
    CLASS_TOTAL,
    NUM_EXAMPLES,
    REPORT_CLASSES,
)
from fedkd.robust.class_weighting import ClassWeighting
from fedkd.robust.worst_class import pooled_class_risks
from strategies.around import Around, innermost
from strategies.fedd2s_records import metrics_of
from strategies.server import Server, ServerSide, places_of

_ANSWERS = (CLASS_COUNTS, CLASS_CORRECT, CLASS_TOTAL)


class ClassWeighted(Around):
    """A strategy under margins.

    strategy: any whose losses can have margins; one of Flower's has none
    weighting: of the classes
    name: of the method, for sentences
    """

    prefix = "class_weighting."

    def __init__(self, strategy: Strategy, weighting: ClassWeighting, name: str = "this method") -> None:
        super().__init__(strategy)
        if isinstance(innermost(strategy), ServerSide) and not innermost(strategy).class_margins:
            raise ConfigError(
                f"class_weighting does not go with {name}, whose server does not learn under margins; "
                "class_weighting=null, or a method such as fedavg, fedavg_ft, fedgen or fedd2s is needed"
            )
        self.weighting = weighting
        self._risks = np.zeros(0)
        self._position: dict[int, int] = {}

    def attach(self, server: Server) -> None:
        super().attach(server)
        clients = server.training_size or server.federation_size
        self._state = self.weighting.init(clients, server.num_classes)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        shift = self._shift()
        self.server.shift = torch.from_numpy(shift).float()
        config.update({REPORT_CLASSES: True, CLASS_SHIFT: shift.tolist()})
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        self._position = places_of(grid)
        return messages

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        classes = self.server.num_classes
        metrics = {name: value for told in content.metric_records.values() for name, value in told.items()}
        for name in _ANSWERS:
            found = metrics.get(name)
            if not isinstance(found, list) or len(found) != classes:
                return f"'{name}' are not {classes} numbers"
        return super().refuse(asked, content)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        metrics = {
            self._position[reply.metadata.src_node_id]: metrics_of(reply)
            for reply in replies
            if reply.has_content()
        }
        told = [np.array([record.pop(name) for record in metrics.values()]) for name in _ANSWERS]
        aggregated = self.strategy.aggregate_train(server_round, replies)
        if metrics:  # the weights are there now, whoever decided on them
            key = getattr(innermost(self.strategy), "weighted_by_key", NUM_EXAMPLES)
            weight = np.array([record[key] for record in metrics.values()], np.float64)
            self._observe(np.array(list(metrics)), weight, *told)
        return aggregated

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config.update({CLASS_SHIFT: self._shift().tolist()})
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def report(self) -> list[dict[str, Any]]:
        """What the inner strategy reports, and a row a class: what the next round's training goes by."""
        state, weighting = self._state, self.weighting
        columns = {
            "prior": weighting.prior(state),
            "multiplier": weighting.multipliers(state),
            "gain": weighting.gains(state),
        }
        return super().report() + [
            {"class": y, **{name: float(values[y]) for name, values in columns.items()}, "risk": risk}
            for y, risk in enumerate(float(r) if np.isfinite(r) else None for r in self._risks)
        ]

    def _observe(
        self, ids: np.ndarray, weight: np.ndarray, counts: np.ndarray, correct: np.ndarray, total: np.ndarray
    ) -> None:
        self._state = self.weighting.observe(ids, counts, weight, correct, total, self._state)
        self._risks = pooled_class_risks(correct, total)

    def _shift(self) -> np.ndarray:
        return -np.log(self.weighting.gains(self._state))
