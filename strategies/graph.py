"""The server of `clients.graph`: two models averaged, the one in use and the one that teaches it."""

from collections.abc import Iterable, Mapping

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from fedkd.protocol import TEACHER
from fedkd.training.program import Params
from strategies.carrying import Carrying, answers, mean, take
from strategies.fitting import layout_of, misfit


class WithTeacher(Carrying):
    """FedAvg of the model, and of a teacher beside it by the same weights."""

    teacher: Params | None = None

    def carried(self) -> Mapping[str, Params]:
        return {TEACHER: self.teacher} if self.teacher else {}

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        return misfit(content, {TEACHER: layout_of(self.server.initial)})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        if replies:
            self.teacher = mean(take(replies, TEACHER), self.weights(replies))
        return super().aggregate_train(server_round, replies)

    def state_dict(self) -> dict[str, Tensor]:
        return self.teacher or {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.teacher = dict(state) or None
