"""Several clients driven together: what is alike in their work is trained as one stacked network.

The methods do not know: each client's generator yields its phases as ever. Phases of clients in a cohort are
alike where they have the same loss (a function, or a method of the program: not a closure over the client's
own tensors, which belong into `fixed` and `extras`), move the same parameters, and have tensors of the same
shapes. Those that are not alike, or that PyTorch cannot vectorise, are trained one after another, and the log
says so once.

Whether clients are driven together at all is decided by a written rule, from configuration and device alone
(`stacks`), because stacked and single kernels round differently.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import torch

from fedkd.training.loop import Trainer
from fedkd.training.program import Batch, Params, Phase, Task, Work
from fedkd.training.progress import Progress
from fedkd.training.stacked import Stack, Unstackable

COHORT = {"cpu": 10, "cuda": 32}
"""Clients that are stacked at a time: as many as pay off, and a constant, so that numbers stay the same."""

log = logging.getLogger(__name__)
_told: set[str] = set()


@dataclass
class Seat:
    """One client in a cohort.

    result: what its generator returned; error: what it raised instead, or what its training did
    """

    work: Work
    task: Task
    progress: Progress = field(default_factory=Progress)
    phase: Phase | None = None
    result: Any = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._order = self.task.rng("batches")
        self.take(None)

    @property
    def order(self) -> torch.Generator:
        """What shuffles the present phase; see `Trainer.drive`."""
        return self.task.rng("batches") if self.phase and self.phase.replay else self._order

    def take(self, trained: Params | Exception | None) -> None:
        """Hand over what the last phase gave (None: begin) and go on to the next one, if any."""
        self.phase = None
        if isinstance(trained, Exception):
            self.error = trained
            return
        try:
            self.phase = next(self.work) if trained is None else self.work.send(trained)
        except StopIteration as end:
            self.result = end.value
        except Exception as error:
            self.error = error


def drive_together(trainer: Trainer, seats: Sequence[Seat]) -> None:
    """Drive the work of all these clients to its end; their seats hold what came of it."""
    while waiting := [seat for seat in seats if seat.phase is not None]:
        alike: dict[Any, list[Seat]] = {}
        for seat in waiting:
            alike.setdefault(_kind(seat), []).append(seat)
        if len(alike) == len(waiting) > 1:
            _tell(_name(waiting[0]), "no two clients' phases are alike")
        for group in alike.values():
            _train(trainer, group)


def stacks(device: str) -> bool:
    """The rule: whether clients are trained together on this device where the user does not say.

    On a GPU, where small kernels wait for their launch. On a CPU not: only the smallest networks gain
    (`benchmarks/cohorts.py` measures it), and one client after another gives the bits of Flower's engines.
    """
    return torch.device(device).type != "cpu"


def _train(trainer: Trainer, seats: list[Seat]) -> None:
    """One phase of each of these clients, which are alike."""
    feeds = [iter(trainer.batches(_phase(seat), seat.task, seat.order)) for seat in seats]
    heads = [list(islice(feed, 1)) for feed in feeds]  # at hand again if they cannot be stacked

    def fresh() -> list[Iterator[Batch]]:
        return [chain(head, feed) for head, feed in zip(heads, feeds, strict=True)]

    if len(seats) > 1 and _name(seats[0]) not in _told:
        try:
            stack = Stack(trainer, [_phase(seat) for seat in seats], [seat.task for seat in seats])
            results: Sequence[Params | Exception] = stack.train(fresh(), [seat.progress for seat in seats])
        except Unstackable as error:
            _tell(_name(seats[0]), f"PyTorch cannot vectorise it ({error})")
        else:
            for seat, stacked in zip(seats, results, strict=True):
                seat.take(stacked)
            return
    for seat, feed in zip(seats, fresh(), strict=True):
        try:
            result: Params | Exception = trainer.train_on(feed, _phase(seat), seat.task, seat.progress)
        except Exception as error:
            result = error
        seat.take(result)


def _kind(seat: Seat) -> Any:
    """Equal for clients whose phases can be stacked."""
    phase, task = _phase(seat), seat.task
    moved = frozenset(name for name in phase.params if phase.moves is None or phase.moves(name))
    shapes = [
        tuple(sorted((name, tensor.shape[first:], tensor.dtype) for name, tensor in what.items()))
        for what, first in ((phase.params, 0), (phase.fixed, 0), (phase.extras, 1))
    ]
    steps = (phase.repeat, phase.lr_scale, phase.sgd, task.server_round)
    return phase.loss, phase.networks, moved, steps, str(shapes)


def _phase(seat: Seat) -> Phase:
    assert seat.phase is not None
    return seat.phase


def _name(seat: Seat) -> str:
    loss: Any = _phase(seat).loss
    return f"{loss.__module__}.{getattr(loss, '__qualname__', type(loss).__name__)}"


def _tell(name: str, why: str) -> None:
    """Say once in this process why clients are trained one after another."""
    if name not in _told:
        _told.add(name)
        log.warning("clients are trained one after another under %s: %s", name, why)
