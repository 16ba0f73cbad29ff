"""The two ways to teach a student through a generator: in turns, or through a pool of inverted batches.

In turns (FedFTG, DFRD, FedZKT, DAFL, ZSKT): a few generator steps, a few student steps, nothing stored.
Pooled (DENSE, DeepInversion, Fast): optimise a batch for many steps, add its best version to a pool, train
the student on the pool. A published method is one of the two with its terms and numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from fedkd.generators.base import Generator, choice, whole
from fedkd.generators.ensemble import Ensemble
from fedkd.generators.kept import Kept
from fedkd.generators.sources import Bank, Inputs, InputsFn, from_bank, from_generator
from fedkd.generators.terms import Terms
from fedkd.generators.train import Fit, History, Optim, Scene, TeacherFn, distill, fit_generator
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.logits import KD
from fedkd.objectives.signals import Signals
from fedkd.training.optimizers import Optimizer

Synthesis = Callable[[Scene], tuple[Tensor, Tensor, History]]
"""One batch for the pool: samples (B, ...), labels (B,), and the history of their making."""


class Synthesiser(Protocol):
    """Makes batches for a pool."""

    def start(self, generator: Generator) -> Synthesis:
        """Begin a run; what is remembered from batch to batch lives in the function."""
        ...


@dataclass(frozen=True)
class InTurns:
    """Generator and student in turns.

    terms: of the generator
    loops: how many turns
    generator_steps, student_steps: of each turn
    labels: how they are drawn, see `label_distribution`
    client_by_client: a generator step is one step for each client in turn (FedFTG)
    same_batch: the student's steps of a turn share the generator's last batch (FedFTG, ZSKT)
    shadow_weight: of the samples of an EMA copy, where one is given (alpha of DFRD)
    """

    terms: Terms
    loops: int = 10
    generator_steps: int = 1
    student_steps: int = 5
    batch_size: int = 64
    labels: Literal["counts", "uniform"] = "counts"
    client_by_client: bool = False
    same_batch: bool = False
    generator_optim: Optim = field(default_factory=Optim)
    student_optim: Optim = field(default_factory=lambda: Optim("sgd", 0.01))
    objective: Objective = field(default_factory=lambda: KD(temperature=1.0))
    shadow_weight: float = 0.5

    def __post_init__(self) -> None:
        _wholes(self, loops=0, generator_steps=0, student_steps=0, batch_size=1)
        choice("labels", self.labels, ("counts", "uniform"))

    def __call__(
        self,
        teachers: Ensemble,
        student: StagedModel,
        generator: Generator,
        rng: torch.Generator,
        server_round: int = 0,
        shadow: Generator | None = None,
    ) -> History:
        """Teach the student; a row a turn with the last generator step's terms and the student's loss."""
        scene = Scene(teachers, student, generator, rng, server_round)
        moves = self.generator_optim(generator.parameters(), server_round)
        kept = Kept.of(self.objective, teachers, student, rng, self.loops)
        learns = self.student_optim([*student.parameters(), *kept.parts.parameters()], server_round)
        clients = range(len(teachers.models)) if self.client_by_client else ()
        judges = [teachers.only(k) for k in clients] or [teachers]
        counts, alpha = teachers.counts, self.shadow_weight
        fresh = from_generator(generator, counts, self.batch_size, self.labels, shadow, alpha)
        history: History = []
        for _ in range(self.loops):
            fit = self._fit(scene, judges, moves)
            tell, inputs = self._lesson(teachers, fit, fresh)
            steps = self.student_steps
            rows = distill(student, tell, inputs, self.objective, learns, steps, rng, server_round, kept)
            history.append({**(fit.history[-1] if fit.history else {}), **(rows[-1] if rows else {})})
        return history

    def _fit(self, scene: Scene, judges: list[Ensemble], moves: Optimizer) -> Fit:
        """The generator's steps of one turn, each judged by all or by one client after another."""
        fit = Fit([], None)
        for judge in judges * self.generator_steps:
            fit = fit_generator(
                scene.generator,
                self.terms,
                judge,
                moves,
                1,
                scene.rng,
                batch_size=self.batch_size,
                labels=self.labels,
                label_counts=scene.teachers.counts,
                student=scene.student,
                server_round=scene.clock,
            )
        return fit

    def _lesson(self, teachers: Ensemble, fit: Fit, fresh: InputsFn) -> tuple[TeacherFn, InputsFn]:
        """Fresh batches judged one by one, or the generator's last batch, judged once."""
        if not self.same_batch or fit.last is None:
            return teachers.signals, fresh
        batch = Inputs(fit.last.x.detach(), fit.last.labels)
        with torch.no_grad():
            told = teachers.signals(batch.x, batch.labels)

        def recall(x: Tensor, labels: Tensor | None) -> Signals:
            return told

        return recall, lambda rng: batch


@dataclass(frozen=True)
class Pooled:
    """Invert batches, store them, train the student on the store.

    synthesiser: makes the batches; weights of its terms are schedules of the epoch
    epochs, batches: epochs, and new batches in each
    warmup: epochs before the student's first step
    student_steps: an epoch; one pass over the pool where not set
    capacity: samples that the pool holds
    """

    synthesiser: Synthesiser
    epochs: int = 200
    batches: int = 1
    warmup: int = 0
    student_steps: int | None = None
    batch_size: int = 256
    capacity: int = 50_000
    student_optim: Optim = field(default_factory=lambda: Optim("sgd", 0.01))
    objective: Objective = field(default_factory=lambda: KD(temperature=20.0))

    def __post_init__(self) -> None:
        _wholes(self, epochs=0, batches=1, warmup=0, batch_size=1, capacity=1)
        if self.student_steps is not None:
            _wholes(self, student_steps=1)

    def __call__(
        self,
        teachers: Ensemble,
        student: StagedModel,
        generator: Generator,
        rng: torch.Generator,
        server_round: int = 0,
        bank: Bank | None = None,
    ) -> History:
        """Teach the student; a row an epoch: the last synthesis step's terms, the student's mean loss."""
        bank = Bank(self.capacity) if bank is None else bank
        kept = Kept.of(self.objective, teachers, student, rng, self.epochs - self.warmup)
        learns = self.student_optim([*student.parameters(), *kept.parts.parameters()], server_round)
        synthesise = self.synthesiser.start(generator)
        history: History = []
        for epoch in range(self.epochs):
            row: dict[str, float] = {}
            for _ in range(self.batches):
                x, labels, made = synthesise(Scene(teachers, student, generator, rng, epoch))
                bank.add(x, labels)
                row = dict(made[-1])
            if epoch >= self.warmup:
                steps = self.student_steps or -(-len(bank) // self.batch_size)
                source = from_bank(bank, self.batch_size)
                rows = distill(
                    student, teachers.signals, source, self.objective, learns, steps, rng, epoch, kept
                )
                row["student"] = sum(r["student"] for r in rows) / len(rows)
            history.append(row)
        return history


def _wholes(scheme: "InTurns | Pooled", **least: int) -> None:
    """Refuse sizes of a scheme below these."""
    for name, smallest in least.items():
        whole(f"method.strategy.scheme.{name}", getattr(scheme, name), smallest)
