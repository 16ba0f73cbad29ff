"""Centralised training of one network, towards labels or teachers, under an objective and a class method.

    stage = Distillation(objective, method, network, teachers, data, settings, rounds=10, seed=0)
    for number, loss in stage.rounds(): ...     # each one a phase of the one training loop
    stage.params          # the model as it is now: `network.*`, and `parts.*` of the objective

The objective says what is learnt (`fedkd.objectives`), the method how classes count
(`fedkd.robust.class_methods`). A round is one phase, with a fresh optimizer, after the method has seen the
validation risks of the model that the round starts from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel, in_layout
from fedkd.objectives.base import Objective, Observed
from fedkd.objectives.kd3 import KD3
from fedkd.objectives.seats import terms
from fedkd.objectives.signals import EMBEDDING, Signals, State
from fedkd.objectives.taps import head_of, last_linear, tap
from fedkd.robust.class_baselines import teacher_margins
from fedkd.robust.class_methods import ClassMethod
from fedkd.robust.worst_class import class_priors, class_risks
from fedkd.schedule import at
from fedkd.training.learner import Learner, check_fit, follow_validation
from fedkd.training.lessons import EVERYTHING, Lessons
from fedkd.training.loop import Trainer
from fedkd.training.program import Batch, Params, Phase, Task
from fedkd.training.settings import LocalSettings

PLACE = "fedkd distill"


class Distillation:
    """One stage of training, by rounds; see the module.

    teachers: none where the objective only reads labels
    validation: labels for the class risks on validation data: onehot, or teacher (its probabilities)
    lessons: what of the training data the network is taught with
    """

    def __init__(
        self,
        objective: Objective,
        method: ClassMethod,
        network: StagedModel,
        teachers: Sequence[StagedModel],
        data: ClientData,
        settings: LocalSettings,
        rounds: int,
        seed: int,
        precision: str = "float32",
        validation: Literal["onehot", "teacher"] = "onehot",
        lessons: Lessons = EVERYTHING,
    ) -> None:
        check_fit(objective, method, len(teachers), PLACE, lessons)
        self.objective, self.method, self.settings, self.lessons = objective, method, settings, lessons
        self.data = data if lessons.proxy is None else replace(data, train=lessons.proxy)
        self.total_rounds, self.seed = rounds, seed
        self.learner = Learner(objective, network, teachers, seed)
        self.trainer = Trainer(self.learner, settings, precision)  # type: ignore[arg-type]
        self.params: Params = {name: t.detach().clone() for name, t in self.learner.state_dict().items()}
        self.memory: State = objective.init()
        self.steps = 0
        self.learned: dict[str, Any] = {}
        self.cached: dict[str, Tensor] = {}
        self.targets = data.val.y
        self._held: tuple[Params, Tensor] | None = None
        self.state = self._begin(validation)

    def predict(self, x: Tensor) -> Tensor:
        """Log-probabilities (n, M) of the model as it is now."""
        return self.trainer.predict(self.params, x)

    def held_out(self) -> Tensor:
        """The same on the validation data (n, M), told once for each model."""
        if self._held is None or self._held[0] is not self.params:
            self._held = self.params, self.predict(self.data.val.x)
        return self._held[1]

    def rounds(self) -> Iterator[tuple[int, float]]:
        """Train round after round; yields its number, from 1, and the loss on its first batch."""
        for number in range(1, self.total_rounds + 1):
            risks = class_risks(self.held_out(), self.targets)
            self.state = self.method.update(risks, self.state)
            task = self.trainer.task(self.data, self.params, self.params, seed=self.seed, server_round=number)
            self.trainer.progress.first_loss = None
            self.params = self.trainer.train(self._phase(task), task, task.rng("batches"))
            if number == self.total_rounds:
                self._finish()
            yield number, self.trainer.progress.first_loss or 0.0

    def _finish(self) -> None:
        """Put the method's shift, if it has one, into the finished network."""
        shift = self.method.finish(self.held_out(), self.targets, self.state)
        if shift is not None:
            self.params = shifted(self.learner, self.params, shift)

    def _begin(self, validation: str) -> dict[str, Any]:
        """Ask the teachers all that does not change; the method's state before training."""
        train, classes, known = self.data.train, self.data.num_classes, self.lessons.known(self.data.train)
        if not self.learner.teachers:
            return self.method.begin(class_priors(train.y[known], classes))
        told = self._told(train.x)
        logits = told["teacher_logits"]
        labels = torch.where(known, train.y, logits.argmax(1))  # nothing below sees a hidden label
        self.data = replace(self.data, train=replace(train, y=labels))
        seen = Observed(logits, told.get(EMBEDDING, logits), labels, head_of(self.learner.teachers[0]))
        with torch.no_grad():
            self.learned = self.objective.learn(seen, self.seed)
        if self._stays():
            self.cached = {name: rows for name, rows in told.items() if name in self._kept()}
        if validation == "teacher":
            self.targets = F.softmax(self._told(self.data.val.x)["teacher_logits"], 1)
        probabilities = F.softmax(logits, 1)
        follows = any(name.startswith(("teacher", "ensemble")) for name in self.objective.needs)
        prior = class_priors(probabilities if follows else labels, classes)
        return self.method.begin(prior, teacher_margins(probabilities, labels))

    def _stays(self) -> bool:
        """Whether what was asked once is all that is needed of the teachers, and the same in every round."""
        told = {need for need in self.objective.needs if need.startswith("teacher_")}
        once = {"teacher_logits", "teacher_head", f"teacher_features@{EMBEDDING}"}
        return self.settings.augment == "none" and self.learner.taught is None and told <= once

    def _kept(self) -> set[str]:
        """What is kept of each training sample, by the names of `_told`."""
        embedded = f"teacher_features@{EMBEDDING}" in self.objective.needs
        return {"teacher_logits", "ensemble_logits"} | ({EMBEDDING} if embedded else set())

    def _phase(self, task: Task) -> Phase:
        draw, last = task.rng("objective"), {}
        lesson, extras = self._lesson(task.server_round)
        steps = self.total_rounds * self.settings.step_count(len(lesson))

        def loss(model: Learner, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
            last["batch"] = batch
            signals = self._signals(model, batch, task.server_round, draw)
            total, self.state = self.method.total(self.objective(signals), batch.y, self.state)
            self.steps += 1
            self.memory = self.objective.advance(signals, self.steps / steps)
            return total

        def again(model: Learner) -> Tensor:
            return self.objective(self._signals(model, last["batch"], task.server_round, draw)).mean()

        rule = follow_validation(
            self.learner, again, self._held_out(task), at(self.settings.lr, task.server_round)
        )
        return Phase(self.params, loss, extras=extras, gradient=rule, data=lesson)

    def _lesson(self, number: int) -> tuple[Samples, dict[str, Tensor]]:
        """The samples that a round is about, and what comes with each of them."""
        train = self.data.train
        extras = self.cached | self.lessons.extras(len(train))
        if self.lessons.keep == 1.0:
            return train, extras
        told = self._told(train.x)["teacher_logits"]
        shares = [at(term.student_share, number) for term in terms(self.objective) if isinstance(term, KD3)]
        rows = self.lessons.chosen(told, self.predict(train.x), shares[0] if shares else 0.0)
        return train.take(rows), {name: values[rows] for name, values in extras.items()}

    def _signals(self, model: Learner, batch: Batch, number: int, draw: torch.Generator) -> Signals:
        told: Mapping[str, Any] = {}
        if self.cached and self.cached.keys() <= batch.extras.keys():  # a batch from elsewhere has no rows
            told = self._recalled(batch.extras)
        elif model.teachers:
            told = model.told(batch.x)
        known = self.lessons.signals(batch.extras, len(self.data.train))
        given = {**self.learned, **told, **known, "labels": batch.y, "generator": draw}
        signals = replace(model.student(batch.x), **given, server_round=number, state=self.memory)
        return self.method.adjust(signals, self.state)

    def _recalled(self, rows: Mapping[str, Tensor]) -> dict[str, Any]:
        """The teachers' side of a batch, from what was kept of its samples."""
        told: dict[str, Any] = {name: rows[name] for name in self.cached if name != EMBEDDING}
        told["ensemble_logits"] = told["ensemble_logits"].transpose(0, 1)
        if EMBEDDING in self.cached:
            told["teacher_features"] = {EMBEDDING: rows[EMBEDDING]}
        if "teacher_head" in self.objective.needs:
            told["teacher_head"] = head_of(self.learner.teachers[0])
        return told

    def _held_out(self, task: Task) -> Samples:
        """A batch of the validation data, anew each round."""
        order = torch.randperm(len(self.data.val), generator=task.rng("held out"))
        return self.data.val.take(order[: self.settings.batch_size])

    @torch.no_grad()
    def _told(self, x: Tensor, size: int = 512) -> dict[str, Tensor]:
        """Logits of the teachers on all of `x`, (n, M) and (n, teachers, M); embeddings of a single one."""
        batches = [in_layout(x[start : start + size]) for start in range(0, len(x), size)]
        seen = [
            [tap(teacher.eval(), batch, (EMBEDDING,)) for batch in batches]
            for teacher in self.learner.teachers
        ]
        every = torch.stack([torch.cat([logits for logits, _ in parts]) for parts in seen], dim=1)
        told = {"teacher_logits": every.mean(1), "ensemble_logits": every}
        if len(seen) == 1:
            told[EMBEDDING] = torch.cat([features[EMBEDDING] for _, features in seen[0]])
        return told


@torch.no_grad()
def logits_of(model: StagedModel, x: Tensor, size: int = 512) -> Tensor:
    """Logits (n, M) of a finished network."""
    model.eval()
    return torch.cat([model(in_layout(batch)) for batch in x.split(size)])


def shifted(learner: Learner, params: Params, shift: Tensor) -> Params:
    """The model `params` whose logits are larger by `shift` (M,): it goes into the last layer's bias."""
    bias = last_linear(learner.network).bias
    names = [name for name, parameter in learner.named_parameters() if parameter is bias]
    if not names:
        raise ConfigError("a shift of the logits needs a bias in the last layer of the model, which has none")
    return {**params, names[0]: params[names[0]] + shift.to(params[names[0]])}
