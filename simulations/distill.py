"""`fedkd distill`: from a resolved configuration to a run folder, teacher first, then student.

Beside the files that every run folder has (`simulations.classes` says what their rows are here) it holds
`teacher.safetensors` and `student.safetensors`, and `teacher.csv`, the teacher's rounds. In `clients.parquet`
the finished teacher is round 0, and the figures of `rounds.csv` are the student's, with the teacher's beside
them as `teacher_*`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from flwr.app import ArrayRecord
from safetensors.torch import save_file
from torch import Tensor

from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.logits import CE
from fedkd.objectives.taps import last_linear
from fedkd.robust.calibration import class_calibration, mix_weights, rescale, vector_scaling
from fedkd.training.distill import Distillation, logits_of, shifted
from fedkd.training.program import Params, part
from simulations.classes import ClassLog, class_rows, figures
from simulations.distill_parts import Prepared, prepare, seed_of
from simulations.loop import Plan, Round
from simulations.observe import Exchange
from simulations.progress import ProgressWatcher
from simulations.recorder import PARTS, Recorder
from simulations.report import write_report
from simulations.rundir import claim, load_config, replacing, write_text

_NOTHING = ArrayRecord()
_TOLD = ("mean", "weighted_mean", "worst10", "worst_class", "calibration")
"""The teacher's figures that stand beside the student's."""


def run(config: dict[str, Any], out: Path) -> None:
    """Train what is to be trained and write the run folder `out`."""
    prepared = prepare({**config, "out": str(out)})
    with claim(prepared.config) as folder:
        Session(prepared, folder).play()
        write_report(folder)


def again(out: Path) -> None:
    """Play an unfinished run from its beginning, to the same figures: it keeps no checkpoints."""
    run({**load_config(out), "overwrite": True}, out)


class Session:
    """One run, as it is played into its folder."""

    def __init__(self, prepared: Prepared, out: Path) -> None:
        self.prepared, self.out, self.config = prepared, out, prepared.config
        self.data, self.seed = prepared.data, int(prepared.config["seed"])
        self.weights = mix_weights(self.data.train.y, self.data.val.y, self.data.num_classes)
        self.log = ClassLog(out, self.weights)

    def play(self) -> None:
        """Teacher, then student."""
        recorder = Recorder(self.out)
        plan = self._plan(self.config["student"]["rounds"])
        recorder.started(plan)
        teachers, beside = self._teachers()
        stage = self._stage(
            "student", self.prepared.objective, teachers, self.config["student"]["validation"]
        )
        progress = ProgressWatcher(f"{self.out.name} student")
        progress.started(plan)
        try:
            for round_ in self._rounds("student", stage):
                round_.figures |= beside if round_.evaluation else {}
                for watcher in (recorder, progress):
                    watcher.round_done(round_, _NOTHING)
        finally:
            progress.closed()
        own = part(stage.params, "network")
        heads = {f"parts.{name}": tensor for name, tensor in part(stage.params, "parts").items()}
        self._save("student", own | heads)
        recorder.finished()

    def _teachers(self) -> tuple[Sequence[StagedModel], dict[str, Any]]:
        """The teachers, trained here or given, and the first one's figures under `teacher_*`."""
        given = self.prepared.given
        teachers, last = (given, self._judge_given()) if given else self._train_teacher()
        rows, told = last.rows, last.figures
        frame = pd.DataFrame([{"round": 0, **row} for row in rows])
        with replacing(self.out / PARTS / f"{0:06d}.parquet") as path:
            frame.to_parquet(path, index=False)
        beside = {f"teacher_{name}": told[name] for name in _TOLD}
        if self.config["teacher"]["calibrate"]:
            beside["teacher_calibrated"] = max(self._calibrate(teacher) for teacher in teachers)
        return teachers, beside

    def _train_teacher(self) -> tuple[list[StagedModel], Round]:
        stage = self._stage("teacher", CE(), [])
        history: list[dict[str, Any]] = []
        progress = ProgressWatcher(f"{self.out.name} teacher")
        progress.started(self._plan(stage.total_rounds))
        try:
            for round_ in self._rounds("teacher", stage):
                progress.round_done(round_, _NOTHING)
                history.append({"round": round_.number, **round_.figures, **round_.metrics})
                write_text(self.out / "teacher.csv", pd.DataFrame(history).to_csv(index=False))
        finally:
            progress.closed()
        self._save("teacher", part(stage.params, "network"))
        params = stage.params
        if self.config["teacher"]["undo_gains"]:
            params = shifted(stage.learner, params, -torch.as_tensor(stage.state["gains"]).log())
        model = self.prepared.networks["teacher"]
        model.load_state_dict(part(params, "network"))
        return [model], round_

    def _calibrate(self, teacher: StagedModel) -> float:
        """Calibrate by class on validation data; what is left of the error, of the worst class."""
        val = self.data.val
        rescale(last_linear(teacher), *vector_scaling(logits_of(teacher, val.x), val.y, self.weights))
        probabilities = logits_of(teacher, val.x).softmax(1)
        return float(class_calibration(probabilities, val.y, self.weights).max())

    def _judge_given(self) -> Round:
        """The first given teacher is written down, and judged, as one of this run."""
        first = self.prepared.given[0]
        self._save("teacher", first.state_dict())
        stage = Distillation(
            CE(),
            self.prepared.methods["teacher"],
            first,
            [],
            self.data,
            self.prepared.settings,
            0,
            self.seed,
            lessons=self.prepared.lessons["teacher"],
        )
        return self._judged("teacher", 0, stage)

    def _plan(self, rounds: int) -> Plan:
        return Plan(self.seed, rounds, evaluate_every=self.config["evaluate_every"])

    def _stage(
        self, side: str, objective: Objective, teachers: Sequence[StagedModel], validation: Any = "onehot"
    ) -> Distillation:
        return Distillation(
            objective,
            self.prepared.methods[side],
            self.prepared.networks[side],
            teachers,
            self.data,
            self.prepared.settings,
            self.config[side]["rounds"],
            seed_of(side, self.seed),
            self.config["precision"],
            validation,
            self.prepared.lessons[side],
        )

    def _rounds(self, side: str, stage: Distillation) -> Iterator[Round]:
        """Train, and judge the model after each round, or each few."""
        begun, plan = time.perf_counter(), self._plan(stage.total_rounds)
        for number, loss in stage.rounds():
            judged = plan.evaluates(number)
            round_ = self._judged(side, number, stage) if judged else Round(number, Exchange())
            round_.metrics["train_loss"] = loss
            round_.seconds, begun = time.perf_counter() - begun, time.perf_counter()
            yield round_

    def _judged(self, side: str, number: int, stage: Distillation) -> Round:
        val, test = self.data.val, self.data.test
        told = stage.held_out()
        rows = class_rows(stage.predict(test.x), test, "test", side) + class_rows(told, val, "val", side)
        worst = self.log.add(side, number, rows, val, told, stage.state)
        found = figures(rows, self.seed) | {"calibration": worst}
        return Round(number, Exchange(), evaluation=Exchange(rows=rows), figures=found)

    def _save(self, side: str, tensors: Params | Mapping[str, Tensor]) -> None:
        with replacing(self.out / f"{side}.safetensors") as path:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
