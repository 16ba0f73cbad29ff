"""The servers of SCAFFOLD, FedDyn and FedNova: what follows from the drift that clients report.

All three average the clients' models w_k by their weights p_k (`num-examples`, which `weighting=` may
rewrite; the papers of the first two use a plain mean, `weighting=uniform`). avg = sum p_k w_k over the m
clients of the round, out of K; parameters only, buffers are averaged.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.protocol import CONTROL, LOCAL_STEPS, STAGE
from fedkd.training.program import Params, parameter_names
from strategies.carrying import Carrying, answers, mean, take
from strategies.fedd2s_records import metrics_of, record_of, tensors_of
from strategies.fitting import layout_of, misfit
from strategies.server import Server


class Corrected(Carrying):
    """What the three have in common: the parameters' names, and what was sent."""

    def attach(self, server: Server) -> None:
        super().attach(server)
        self.names = sorted(parameter_names(server.trainer.network))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._sent = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def zeros(self) -> Params:
        """As many zeros as parameters."""
        return {name: torch.zeros_like(self.server.initial[name]) for name in self.names}

    def moved(self, average: ArrayRecord) -> Params:
        """From what was sent to `average`."""
        before, after = tensors_of(self._sent), tensors_of(average)
        return {name: after[name] - before[name] for name in self.names}

    def stretched(self, arrays: ArrayRecord, factor: float) -> ArrayRecord:
        """`factor` times as far from what was sent; buffers as they are."""
        before = tensors_of(self._sent)
        far = {name: before[name] + factor * step for name, step in self.moved(arrays).items()}
        return ArrayRecord({**arrays, **record_of(far)})


class Scaffold(Corrected):
    """Karimireddy et al. 2020, arXiv 1910.06378.

    w <- w + eta_g (avg - w), c <- c + (m/K) sum p_k (c_k+ - c_k). With equal weights the step of c is the
    paper's (1/K) sum (c_k+ - c_k).

    server_lr: eta_g
    flower: of Flower's FedAvg
    """

    def __init__(self, server_lr: float = 1.0, **flower: Any) -> None:
        if server_lr <= 0:
            raise ConfigError(f"method.strategy.server_lr={server_lr}: a positive number is needed")
        super().__init__(**flower)
        self.server_lr = server_lr

    def attach(self, server: Server) -> None:
        super().attach(server)
        self.control = self.zeros()

    def carried(self) -> Mapping[str, Params]:
        return {CONTROL: self.control}

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        return misfit(content, {CONTROL: layout_of(self.control)})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        if replies:
            change = mean(take(replies, CONTROL), self.weights(replies))
            share = len(replies) / self.population
            self.control = {name: value + share * change[name] for name, value in self.control.items()}
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is not None and self.server_lr != 1.0:
            arrays = self.stretched(arrays, self.server_lr)
        return arrays, metrics

    def state_dict(self) -> dict[str, Tensor]:
        return self.control

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.control = dict(state)


class FedDyn(Corrected):
    """Acar et al. 2021, arXiv 2111.04263: clients start from w = avg + l, l <- l + (m/K) (avg - w).

    l is the mean over all clients of what each has moved in all, -h / alpha of the paper. avg is the global
    model that is kept, evaluated and saved (w itself can be unstable); w is what clients train from.
    """

    def attach(self, server: Server) -> None:
        super().attach(server)
        self.drift: Params = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return super().configure_train(server_round, self.start_of(arrays), config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        training = config.get(STAGE) == "after"
        arrays = self.start_of(arrays) if training else arrays
        return super().configure_evaluate(server_round, arrays, config, grid)

    def start_of(self, average: ArrayRecord) -> ArrayRecord:
        """w, from which clients train."""
        tensors = tensors_of(average)
        shifted = {name: tensors[name] + step for name, step in self.drift.items()}
        return ArrayRecord({**average, **record_of(shifted)})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is not None:
            before, share = self.drift or self.zeros(), len(replies) / self.population
            self.drift = {name: before[name] + share * step for name, step in self.moved(arrays).items()}
        return arrays, metrics

    def state_dict(self) -> dict[str, Tensor]:
        return self.drift

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.drift = dict(state)


class FedNova(Corrected):
    """Wang et al. 2020, arXiv 2007.07481: w <- w - (sum p_k a_k) sum p_k (w - w_k) / a_k.

    That is the average of the models w + (A / a_k) (w_k - w), A = sum p_k a_k; with equal a_k it is FedAvg's,
    bit for bit.
    """

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = answers(replies)
        weights = self.weights(replies)
        steps = [float(metrics_of(reply)[LOCAL_STEPS]) for reply in replies]  # type: ignore[arg-type]
        if len(set(steps)) > 1:
            typical = sum(w * a for w, a in zip(weights, steps, strict=True)) / sum(weights)
            for reply, a in zip(replies, steps, strict=True):
                own = reply.content.array_records[self.arrayrecord_key]
                reply.content[self.arrayrecord_key] = self.stretched(own, typical / a)
        return super().aggregate_train(server_round, replies)
