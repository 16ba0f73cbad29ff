"""The tables of docs/results/objectives.md, from scratch: `make results-objectives`.

    python -m benchmarks.objectives [FOLDER] [--only REGIME ...] [--tiny] [--page]

Each row of a regime has three trials on seed 0, chosen by the balanced accuracy on validation data, and runs
five seeds with what was chosen. A teacher is trained once for each seed and serves all rows. Killed and
started again it goes on where it stopped. The page is written anew after each seed, of what is finished.
"""

import argparse
import hashlib
import json
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student_t

from benchmarks.regimes import REGIMES, Regime, Row, Words
from simulations.config import resolve
from simulations.distill import Session
from simulations.distill_parts import prepare
from simulations.programs import DISTILL
from simulations.rundir import SUMMARY, claim

SEEDS = (1, 2, 3, 4, 5)
TUNING_SEED = 0
PAGE = Path(__file__).parents[1] / "docs" / "results" / "objectives.md"
PLACE = Path("runs/objectives")
TINY = ("teacher.rounds=1", "student.rounds=1", "local.epochs=1")
"""To try the driver itself: its figures mean nothing."""


class Study:
    """One regime in the folder `out`: what is run, and what came of it."""

    def __init__(self, name: str, out: Path, tiny: bool = False) -> None:
        self.regime: Regime = REGIMES[name]
        self.out, self.tiny = out / name, tiny

    def play(self, seed: int) -> None:
        """The runs of this seed that are not finished: all trials, or what they chose."""
        self._teach(seed)
        for label, row in self.regime.rows.items():
            for trial in range(len(row.trials)) if seed == TUNING_SEED else [self.chosen(label)]:
                self._run(self.words(row, trial, seed), self._folder(label, trial, seed))

    def teachers(self, seed: int, out: Path | None = None) -> Words:
        """`teacher.from=...` of this seed."""
        folders = [str(self.home(i, seed, out)) for i in range(len(self.regime.teachers))]
        return (f"teacher.from={folders[0] if len(folders) == 1 else '[' + ','.join(folders) + ']'}",)

    def words(self, row: Row, trial: int, seed: int, out: Path | None = None) -> Words:
        """One run's overrides, its folder apart."""
        words = (*self.regime.data, *self.regime.student, *row.words, *row.trials[trial])
        return (*words, *self.teachers(seed, out), f"seed={seed}")

    def chosen(self, label: str) -> int:
        """The first trial with the best balanced accuracy on validation data."""
        trials = range(len(self.regime.rows[label].trials))
        return max(trials, key=lambda trial: (self.read(label, trial, TUNING_SEED)["val_mean"], -trial))

    def read(self, label: str, trial: int, seed: int) -> dict[str, float]:
        """The figures of a finished run; empty where it is not finished."""
        file = self._folder(label, trial, seed) / SUMMARY
        return json.loads(file.read_text()) if file.is_file() else {}

    def tuned(self, label: str) -> bool:
        """Whether all its trials are finished."""
        return all(self.read(label, trial, TUNING_SEED) for trial in range(3))

    def figures(self, label: str, key: str) -> dict[int, float]:
        """By seed, of the finished runs."""
        if not self.tuned(label):
            return {}
        trial = self.chosen(label)
        return {seed: found[key] for seed in SEEDS if (found := self.read(label, trial, seed))}

    def teacher(self, i: int, seed: int) -> Words:
        """The run that trains teacher `i`; its student is there because every run has one."""
        words = (*self.regime.data, *self.regime.teachers[i], "student.rounds=1", "student.model=mlp")
        return (*words, "objective=ce", f"seed={seed}")

    def _teach(self, seed: int) -> None:
        for i in range(len(self.regime.teachers)):
            self._run(self.teacher(i, seed), self.home(i, seed))

    def home(self, i: int, seed: int, out: Path | None = None) -> Path:
        """Where a teacher's run lies; regimes with the same teacher share it."""
        code = hashlib.sha256(" ".join(self.teacher(i, 0)).encode()).hexdigest()[:8]
        return (out or self.out).parent / "teachers" / f"{code}-s{seed}"

    def _folder(self, label: str, trial: int, seed: int) -> Path:
        return self.out / f"{label}-t{trial}-s{seed}"

    def _run(self, words: Words, out: Path) -> None:
        """A run of `fedkd distill` without its report."""
        if (out / SUMMARY).is_file():
            return
        small = TINY if self.tiny else ()
        config = resolve([*words, *small, f"out={out}", "overwrite=true"], DISTILL)
        prepared = prepare(config)
        with claim(prepared.config) as folder:
            Session(prepared, folder).play()


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval (Student's t) of independent repeats."""
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "-"
    half = (
        float(student_t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    )
    return f"{np.mean(values):.3f} ± {half:.3f}"


def section(study: Study) -> Iterator[str]:
    """The regime's part of the page."""
    regime = study.regime
    yield f"## {regime.title}\n\n{regime.about}\n"
    names = list(regime.figures)
    yield f"| | {' | '.join(names)} | accuracy minus kd | seeds | chosen |"
    yield "| --- |" + " ---: |" * (len(names) + 2) + " --- |"
    accuracy = regime.figures["accuracy"]
    plain = study.figures("kd", accuracy)
    for i in range(len(regime.teachers)):
        yield _teacher(study, i, names)
    for label, row in regime.rows.items():
        found = study.figures(label, accuracy)
        cells = [interval(list(study.figures(label, key).values())) for key in regime.figures.values()]
        both = [found[seed] - plain[seed] for seed in found if seed in plain]
        away = "" if label == "kd" else interval(both)
        told = " ".join(row.trials[study.chosen(label)]) if study.tuned(label) else "not tuned yet"
        yield f"| {label} | {' | '.join(cells)} | {away} | {len(found)} | `{told}` |"
    yield "\nAll trials, the chosen one among them, on validation data of seed 0 (balanced accuracy):\n"
    for label, row in regime.rows.items():
        trials = [(t, study.read(label, t, TUNING_SEED)) for t in range(len(row.trials))]
        told = [f"`{' '.join(row.trials[t])}` {found['val_mean']:.3f}" for t, found in trials if found]
        yield f"* {label}: {', '.join(told) or '-'}"
    yield "\nA teacher, and each row's first trial, as typed:\n"
    yield _typed((*study.teacher(0, 1), f"out={study.home(0, 1, PLACE / study.out.name)}"))
    for row in regime.rows.values():
        yield _typed(study.words(row, 0, 1, PLACE / study.out.name))
    yield ""


def _teacher(study: Study, i: int, names: list[str]) -> str:
    files = [study.home(i, seed) / SUMMARY for seed in SEEDS]
    found = [json.loads(file.read_text()) for file in files if file.is_file()]
    keys = ["teacher_weighted_mean", "teacher_worst_class" if "worst class" in names else ""]
    cells = [interval([each[key] for each in found]) if key else "" for key in keys[: len(names)]]
    label = "teacher" if len(study.regime.teachers) == 1 else f"teacher {i + 1}"
    return f"| {label} | {' | '.join(cells)} | | {len(found)} | |"


def _typed(words: Words) -> str:
    return "    fedkd distill " + " ".join(shlex.quote(word) for word in words)


def page(out: Path, tiny: bool) -> str:
    """The whole page, of what is finished."""
    head = (Path(__file__).with_name("objectives.md")).read_text()
    begun = [Study(name, out, tiny) for name in REGIMES if (out / name).is_dir()]
    return "\n".join([head, *(line for study in begun for line in section(study))])


def main() -> None:
    """Play the studies and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", nargs="?", type=Path, default=PLACE)
    parser.add_argument("--only", nargs="+", choices=list(REGIMES), default=list(REGIMES))
    parser.add_argument("--tiny", action="store_true", help="try the driver; writes the page into the folder")
    parser.add_argument("--page", action="store_true", help="write the page of what is finished, run nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    target = given.out / "objectives.md" if given.tiny else PAGE
    for name in [] if given.page else given.only:
        for seed in (TUNING_SEED, *SEEDS):
            Study(name, given.out, given.tiny).play(seed)
            target.write_text(page(given.out, given.tiny))
    target.write_text(page(given.out, given.tiny))
    print(target)


if __name__ == "__main__":
    main()
