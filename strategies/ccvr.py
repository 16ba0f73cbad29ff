"""CCVR: M. Luo et al., "No Fear of Heterogeneity: Classifier Calibration for Federated Learning with Non-IID
Data", NeurIPS 2021, arXiv 2106.05001.

FedAvg; then, in a second exchange, the round's clients tell class statistics of the average's features, and
the last block is retrained on virtual features from the pooled Gaussians. A run is evaluated with, and ends
with, the calibrated classifier; training goes on from the uncalibrated average, so that the last round is
the paper's post-hoc calibration, whichever it is. Where clients tell variances alone, covariances are 0.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.generators.ccvr import ClassStatistics, Gaussian, calibrate, last_layer, pool
from fedkd.protocol import ASK, SERVER_ROUND, STATISTICS
from fedkd.training.program import Params
from strategies.fedd2s_records import record_of, tensors_of
from strategies.fitting import Shape, misfit
from strategies.server import Server, ServerSide


def retrain(
    classifier: nn.Module, told: Sequence[ClassStatistics], rng: torch.Generator, per_class: int, epochs: int
) -> Params:
    """The calibrated classifier's state; a function of its arguments alone."""
    gaussian = Gaussian(reduce(lambda total, more: pool([total, more]), told))
    calibrate(classifier, gaussian, rng, per_class, epochs)
    return classifier.state_dict()


class CCVR(ServerSide, FedAvg):
    """FedAvg with a classifier that is calibrated for evaluation.

    per_class: virtual features of each class; 0 is FedAvg, bit for bit
    epochs: passes over them
    flower: of Flower's FedAvg
    """

    def __init__(self, per_class: int = 2000, epochs: int = 10, **flower: Any) -> None:
        super().__init__(**flower)
        if per_class < 0 or epochs < 1:
            raise ConfigError(
                f"method.strategy.per_class={per_class}, method.strategy.epochs={epochs}: 0 or more features "
                "and 1 or more epochs are needed"
            )
        self.per_class, self.epochs = per_class, epochs
        self._plain: Params = {}  # the last block as averaging left it
        self._now = ArrayRecord()
        self._asked: list[int] = []

    def attach(self, server: Server) -> None:
        super().attach(server)
        network = server.trainer.network
        network.check_cut(1)
        last_layer(network)
        self._names = network.keys(-1)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        plain = ArrayRecord({**arrays, **record_of(self._plain)})
        messages = list(super().configure_train(server_round, plain, config, grid))
        self._asked = [message.metadata.dst_node_id for message in messages]
        return messages

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        if self.arrayrecord_key in content.array_records:
            return None
        classes, width = self.server.num_classes, last_layer(self.server.trainer.network)[1].in_features
        layout: dict[str, Shape] = {"counts": (classes,), "means": (classes, width)}
        if "variances" in content.array_records.get(STATISTICS, {}):
            return misfit(content, {STATISTICS: {**layout, "variances": (classes, width)}})
        return misfit(content, {STATISTICS: {**layout, "covariances": (classes, width, width)}})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is not None:
            self._now = arrays
            self._plain = {name: value for name, value in tensors_of(arrays).items() if name in self._names}
        return arrays, metrics

    def follow_up(self, server_round: int, grid: Grid) -> Iterable[Message]:
        """Ask the round's clients for the statistics of the average's features."""
        if not self.per_class or not self._now:
            return []
        config = ConfigRecord({SERVER_ROUND: server_round, ASK: STATISTICS})
        content = RecordDict({self.arrayrecord_key: self._now, self.configrecord_key: config})
        return [
            Message(content, dst_node_id=node, message_type=MessageType.TRAIN) for node in sorted(self._asked)
        ]

    def heard(self, server_round: int, replies: Iterable[Message]) -> None:
        """Calibrate, and put the classifier into the arrays that this round's aggregation returned."""
        told = [statistics_of(reply) for reply in replies if reply.has_content()]
        if not told:
            return
        network = self.server.trainer.network
        classifier = copy.deepcopy(last_layer(network)[1]).requires_grad_(True)
        names = {name.rpartition(".")[2]: name for name in self._names}
        classifier.load_state_dict({own: self._plain[name] for own, name in names.items()})
        rng = self.server.rng("calibration", server_round)
        taught = self.server.execute(retrain, classifier, told, rng, self.per_class, self.epochs)
        self._now.update(record_of({names[own]: value for own, value in taught.items()}))

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._plain)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._plain = dict(state)


def statistics_of(reply: Message) -> ClassStatistics:
    """What a client told, in float64; variances become diagonal covariances."""
    record = reply.content.array_records[STATISTICS]
    sent = {name: value.double() for name, value in tensors_of(record).items()}
    covariances = sent["covariances"] if "covariances" in sent else torch.diag_embed(sent["variances"])
    return ClassStatistics(sent["counts"], sent["means"], covariances)
