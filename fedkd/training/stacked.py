"""One phase of several clients at once: their parameters stacked, their losses under `torch.func.vmap`.

Each client sees the batches, corrections and steps that it would see alone, so that results differ from those
one after another only by the rounding of other kernels. Gradient rules and what follows a batch get each
client's own slices, as views. Clients whose batches have another size (the last of a pass) are a group of
their own in that step; one whose steps are over is read out, and its slice no longer looked at.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from fedkd.protocol import SNAPSHOT_STEP
from fedkd.training.loop import Trainer, correct, optimizer_of, result_of
from fedkd.training.program import Batch, Loss, Params, Phase, Task
from fedkd.training.progress import DivergedError, Progress

Groups = list[tuple[list[int], Batch]]
"""Clients whose batches have one size, by their place, and these batches stacked (G, B, ...)."""


class Unstackable(RuntimeError):
    """PyTorch cannot vectorise this loss with this network; nothing has been trained."""


class Stack:
    """The clients of one phase; their phases are alike (`fedkd.training.cohort` sees to that)."""

    def __init__(self, trainer: Trainer, phases: Sequence[Phase], tasks: Sequence[Task]) -> None:
        self.trainer, self.phases, self.tasks = trainer, phases, tasks
        self.network = trainer.module(phases[0])
        self.network.train()
        self.call = _Call(self.network, phases[0].loss, bool(phases[0].networks))
        self.params = {name: self._stacked(name) for name, _ in self.network.named_parameters()}
        self.buffers = {name: self._stacked(name) for name, _ in self.network.named_buffers()}
        moves = phases[0].moves
        self.names = [name for name in self.params if moves is None or moves(name)]
        for name in self.names:
            self.params[name].requires_grad_()
        self.moving: list[Any] = [self.params[name] for name in self.names]
        self.fixed = {
            name: torch.stack([phase.fixed[name] for phase in phases]).to(trainer.device)
            for name in phases[0].fixed
        }

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([phase.params[name] for phase in self.phases]).to(self.trainer.device)

    def train(
        self, feeds: Sequence[Iterator[Batch]], progress: Sequence[Progress]
    ) -> list[Params | DivergedError]:
        """Every client's result, or why there is none.

        Raises Unstackable, before anything of `progress` was touched, with the first batches taken.
        """
        phase, settings = self.phases[0], self.trainer.settings
        optimizer = optimizer_of(phase, settings, self.moving, self.tasks[0].server_round)
        results: dict[int, Params | DivergedError] = {}
        moments: dict[int, Params] = {}
        for step in count(1):
            given = {
                k: batch
                for k in range(len(feeds))
                if k not in results and (batch := next(feeds[k], None)) is not None
            }
            for k in set(range(len(feeds))) - given.keys() - results.keys():
                results[k] = self._result(k)
            if not given:
                break
            groups = _grouped(given)
            for repetition in range(phase.repeat):
                optimizer.zero_grad()
                losses = self._gradients(groups, first=step == 1 and repetition == 0)
                for k, batch in given.items():
                    if progress[k].first_loss is None:
                        progress[k].first_loss = float(losses[k])
                    self._correct(k)
                    progress[k].samples += len(batch.y)
                optimizer.step()
            for k in given:
                self._follow(k)
                if step == self.tasks[k].config.get(SNAPSHOT_STEP):
                    moments[k] = self._result(k)  # type: ignore[assignment]
        for k, moment in moments.items():
            if not isinstance(results[k], DivergedError) and not isinstance(moment, DivergedError):
                progress[k].snapshots.append((results[k], moment))  # type: ignore[arg-type]
        return [results[k] for k in range(len(feeds))]

    def _gradients(self, groups: Groups, first: bool) -> dict[int, Tensor]:
        """Mean losses by client; their gradients are in `moving`."""
        losses: dict[int, Tensor] = {}
        for places, batch in groups:
            try:
                means = self._losses(places, batch)
                means.sum().backward()  # type: ignore[no-untyped-call]
            except Exception as error:
                if first:
                    raise Unstackable(str(error).strip().partition("\n")[0]) from error
                raise
            losses |= dict(zip(places, means.detach(), strict=True))
        return losses

    def _losses(self, places: list[int], batch: Batch) -> Tensor:
        """Mean losses (G,) of the clients at these places."""
        params, buffers, fixed = (self._at(places, what) for what in (self.params, self.buffers, self.fixed))

        def one(params: Params, buffers: Params, fixed: Params, x: Tensor, y: Tensor, extras: Params) -> Any:
            state = {f"network.{name}": value for name, value in (params | buffers).items()}
            return torch.func.functional_call(self.call, state, (Batch(x, y, extras), fixed)).mean()

        with torch.autocast(self.trainer.device.type, torch.bfloat16, enabled=self.trainer.bf16):
            means: Tensor = torch.func.vmap(one)(params, buffers, fixed, batch.x, batch.y, batch.extras)
        if len(places) < len(self.phases):
            for name, values in buffers.items():
                self.buffers[name][places] = values
        return means

    def _at(self, places: list[int], what: Mapping[str, Tensor]) -> Params:
        """The slices of these clients; the tensors themselves where it is everybody."""
        everybody = len(places) == len(self.phases)
        return {name: value if everybody else value[places] for name, value in what.items()}

    def _correct(self, k: int) -> None:
        if self.phases[k].gradient is not None or self.trainer.settings.clip_norm is not None:
            held = [
                (name, tensor.data[k], tensor.grad[k])
                for name, tensor in zip(self.names, self.moving, strict=True)
                if tensor.grad is not None
            ]
            correct(self.phases[k], held, self.trainer.settings)

    def _follow(self, k: int) -> None:
        if (follow := self.phases[k].after_batch) is not None:
            follow(self.names, [tensor.data[k] for tensor in self.moving])

    def _result(self, k: int) -> Params | DivergedError:
        state = self.params | self.buffers
        try:
            return result_of({name: state[name][k] for name in self.network.state_dict()}, self.phases[k])
        except DivergedError as error:
            return error


class _Call(nn.Module):
    """A network under a loss, so that `functional_call` puts a client's parameters into all that it calls."""

    def __init__(self, network: nn.Module, loss: Loss, several: bool) -> None:
        super().__init__()
        self.network, self.loss, self.several = network, loss, several

    def forward(self, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
        model: Any = dict(self.network.items()) if self.several else self.network  # type: ignore[operator]
        return self.loss(model, batch, fixed)


def _grouped(given: Mapping[int, Batch]) -> Groups:
    sizes: dict[torch.Size, list[int]] = {}
    for k, batch in given.items():
        sizes.setdefault(batch.x.shape, []).append(k)
    return [(places, _joined([given[k] for k in places])) for places in sizes.values()]


def _joined(batches: Iterable[Batch]) -> Batch:
    batches = list(batches)
    extras = {name: torch.stack([batch.extras[name] for batch in batches]) for name in batches[0].extras}
    return Batch(torch.stack([b.x for b in batches]), torch.stack([b.y for b in batches]), extras)
