"""Any strategy, with a say in how much each client counts: `weighting=...` composed with `method=...`.

`Weighted` stands around a strategy and changes the replies before it sees them: the sample counts become the
weights of `fedkd.robust` and, where these carry a server step s, the models w_k become w + s (w_k - w). So
whatever the strategy sums over clients (models, an ensemble, the loss of a head or a generator) follows the
weights, and averaging models makes the step `w <- w + s * sum_k omega_k (w_k - w)` exactly.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Bulyan, FedMedian, FedTrimmedAvg, MultiKrum, QFedAvg, Strategy

from fedkd.errors import ConfigError
from fedkd.protocol import ARRAYS, CONFIG, NUM_EXAMPLES, RISK, SERVER_ROUND, SNAPSHOT
from fedkd.robust.weighting import REFERENCE_RISK, Weighting, Weights
from strategies.around import Around
from strategies.fedd2s_records import metrics_of
from strategies.fitting import misfit
from strategies.server import Server, places_of

ASK_RISK = "evaluate.risk"
"""Type of the messages to DRFA's second sample."""

_OWN_WEIGHTS = (Bulyan, FedMedian, FedTrimmedAvg, MultiKrum, QFedAvg)


class Weighted(Around):
    """A strategy whose clients count as the weighting says.

    strategy: any; its hooks are called as ever
    weighting: one that is not neutral: with alpha=0 leave the strategy alone
    sizes: training samples of the clients that may be sampled, in partition order
    clients: the numbers of these clients
    references: the validation error that clients reach alone, by number, for `risk=excess`
    name: of the method, for sentences
    """

    prefix = "weighting."

    def __init__(
        self,
        strategy: Strategy,
        weighting: Weighting,
        sizes: np.ndarray,
        clients: Sequence[int] | np.ndarray,
        references: Mapping[int, float] | None = None,
        name: str = "this method",
    ) -> None:
        if isinstance(strategy, _OWN_WEIGHTS):
            raise ConfigError(
                f"weighting={weighting.name} does not go with {name}, which decides by itself how much each "
                "client counts; weighting=samples is needed"
            )
        models = getattr(strategy, "averages_models", True)
        sends = {"losses", "updates"} if getattr(strategy, "sends_updates", models) else {"losses"}
        weighting.check(sends, name)
        super().__init__(strategy)
        self.weighting, self.name = weighting, name
        self.clients = [int(client) for client in clients]
        known = references or {}
        reports = {k: {REFERENCE_RISK: known[c]} for k, c in enumerate(self.clients) if c in known}
        self._state = weighting.observe(reports, weighting.init(len(sizes), sizes))
        self._key = getattr(strategy, "weighted_by_key", NUM_EXAMPLES)
        self._arrays = getattr(strategy, "arrayrecord_key", ARRAYS)
        self._buffers: set[str] = set()
        self._sent: dict[int, RecordDict] = {}
        self._position: dict[int, int] = {}
        self._moment: ArrayRecord | None = None
        self._rows: dict[int, dict[str, Any]] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config.update(self.weighting.client_config(server_round))
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        self._position = places_of(grid)
        self._sent = {message.metadata.dst_node_id: message.content for message in messages}
        self._moment, self._rows = None, {}
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        answers = [reply for reply in replies if reply.has_content()]
        if answers:
            self._weigh(answers)
        return self.strategy.aggregate_train(server_round, replies)

    def attach(self, server: Server) -> None:
        super().attach(server)
        self._buffers = {name for name, _ in server.trainer.network.named_buffers()}

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        if SNAPSHOT in content:
            sent = content.array_records.get(self._arrays) or ArrayRecord()
            alike = {name: tuple(array.shape) for name, array in sent.items()}
            if problem := misfit(content, {SNAPSHOT: alike}):
                return problem
        return super().refuse(asked, content)

    def follow_up(self, server_round: int, grid: Grid) -> Iterable[Message]:
        """The strategy's own second exchange, and the weighting's: its risk at the averaged snapshots."""
        return [*super().follow_up(server_round, grid), *self._risk_messages(server_round, grid)]

    def _risk_messages(self, server_round: int, grid: Grid) -> list[Message]:
        nodes = list(grid.get_node_ids())
        asked = self.weighting.second_sample(server_round, len(nodes), len(self._sent))
        if len(asked) == 0 or self._moment is None:
            return []
        config = ConfigRecord({SERVER_ROUND: server_round, **self.weighting.report_config()})
        content = RecordDict({ARRAYS: self._moment, CONFIG: config})
        return [Message(content, dst_node_id=nodes[k], message_type=ASK_RISK) for k in asked]

    def heard(self, server_round: int, replies: Iterable[Message]) -> None:
        """Learn from the risks of the second sample; the rest is the strategy's."""
        replies = list(replies)
        risks = [reply for reply in replies if reply.metadata.message_type == ASK_RISK]
        super().heard(server_round, [r for r in replies if r.metadata.message_type != ASK_RISK])
        told = {
            self._position[reply.metadata.src_node_id]: metrics_of(reply)
            for reply in risks
            if reply.has_content()
        }
        reports = {k: {RISK: float(metrics[RISK])} for k, metrics in told.items() if RISK in metrics}  # type: ignore[arg-type]
        self._state = self.weighting.observe(reports, self._state)
        for k, report in reports.items():
            self._rows.setdefault(k, {})[RISK] = report[RISK]

    def report(self) -> list[dict[str, Any]]:
        """The round's weights: base (the method's own), weight (these sum to one), scale; and the risks."""
        return [{"client": self.clients[k], **self._rows[k]} for k in sorted(self._rows)]

    def _weigh(self, replies: list[Message]) -> None:
        """Put the weights into the replies, and take out what only the weighting asked for."""
        metrics = [metrics_of(reply) for reply in replies]
        ids = np.array([self._position[reply.metadata.src_node_id] for reply in replies])
        sizes = np.array([record[self._key] for record in metrics], np.float64)
        risks = np.array([record.pop(RISK, np.nan) for record in metrics], np.float64)
        snapshots = [moment for reply in replies if (moment := taken(reply)) is not None]
        moves = all(
            self._arrays in c for r in replies for c in (r.content, self._sent[r.metadata.src_node_id])
        )
        self.weighting.check({"losses", "updates"} if moves else {"losses"}, self.name)
        needs = self.weighting.needs
        reports = {int(k): {RISK: risk} for k, risk in zip(ids, risks, strict=True) if np.isfinite(risk)}
        weights, self._state = self.weighting.weights(
            ids,
            sizes,
            risks if "losses" in needs else None,
            Updates(self, replies) if "updates" in needs else None,
            self.weighting.observe(reports, self._state),
        )
        for record, share in zip(metrics, weights.client, strict=True):
            record[self._key] = float(share * sizes.sum())
        if moves and weights.scale != 1.0:
            for reply in replies:
                self._stretch(reply, weights.scale)
        if len(snapshots) == len(replies):
            self._moment = average(snapshots, weights.client)
        self._note(ids, sizes, weights, risks)

    def moving(self, reply: Message) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What the client received and what it sent back, by name; buffers do not count as moved."""
        before = self._sent[reply.metadata.src_node_id].array_records[self._arrays]
        after = reply.content.array_records[self._arrays]
        both = {name: (before[name].numpy(), after[name].numpy()) for name in after if name in before}
        return {
            name: pair
            for name, pair in both.items()
            if name not in self._buffers and pair[1].dtype.kind == "f"
        }

    def _stretch(self, reply: Message, scale: float) -> None:
        moved = {name: w + scale * (w_k - w) for name, (w, w_k) in self.moving(reply).items()}
        arrays = {
            name: Array(np.asarray(moved[name], array.dtype)) if name in moved else array
            for name, array in reply.content.array_records[self._arrays].items()
        }
        reply.content[self._arrays] = ArrayRecord(arrays)

    def _note(self, ids: np.ndarray, sizes: np.ndarray, weights: Weights, risks: np.ndarray) -> None:
        for k, base, share, risk in zip(ids, sizes / sizes.sum(), weights.client, risks, strict=True):
            row = {"base": float(base), "weight": float(share), "scale": weights.scale}
            self._rows[int(k)] = row | {RISK: float(risk) if np.isfinite(risk) else None}


class Updates(Sequence[np.ndarray]):
    """The clients' flat updates, made when they are read: most weightings only look at their norms."""

    def __init__(self, strategy: Weighted, replies: list[Message]) -> None:
        self.strategy, self.replies = strategy, replies

    def __len__(self) -> int:
        return len(self.replies)

    def __getitem__(self, k: Any) -> Any:
        pairs = self.strategy.moving(self.replies[k]).values()
        return np.concatenate([(after - before).ravel() for before, after in pairs])


def taken(reply: Message) -> ArrayRecord | None:
    """The reply's snapshot, which it no longer holds: strategies want one record of arrays."""
    record = reply.content.array_records.get(SNAPSHOT)
    if record is not None:
        del reply.content[SNAPSHOT]
    return record


def average(records: Sequence[ArrayRecord], shares: np.ndarray) -> ArrayRecord:
    """The weighted mean of records with the same names, each array in its own kind of number."""
    mean = {
        name: sum(share * record[name].numpy() for record, share in zip(records, shares, strict=True))
        for name in records[0]
    }
    return ArrayRecord({name: Array(np.asarray(v, records[0][name].dtype)) for name, v in mean.items()})
