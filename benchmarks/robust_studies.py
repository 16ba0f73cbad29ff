"""Kinds of studies that `benchmarks.robust` is made of: sweeps and curves, attacks, teachers and students."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.objectives import interval
from benchmarks.studies import DOCS, Study
from simulations.comparing.groups import Group, group
from simulations.comparing.runs import load_run, run_folders

RISKS = ("standard", "balanced", "robust", "tradeoff")


@dataclass(frozen=True)
class Sweeps(Study):
    """Rows made by several sweeps.

    methods: those that are tuned
    sweeps: the overrides of each sweep
    over: the key along which average against worst is drawn
    parent: the study whose tuning is used, and whose rows stand beside these; the page then shows the curve
    """

    trials: int = 4
    sweeps: tuple[tuple[str, ...], ...] = ()
    over: str = ""
    parent: str = ""

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """Tuning, a command for each sweep, and the comparison."""
        common, runs = [f"experiment={self.experiment}", *self.more], out / self.name / "runs"
        tuned = out / (self.parent or self.name) / "tuned"
        settled = [f"tuned={tuned}"] if self.trials or self.parent else []
        typed = []
        if self.trials:
            tuning = [f"method={','.join(self.methods)}", f"trials={self.trials}", f"out={tuned}"]
            typed.append(["fedkd", "tune", *common, *tuning])
        places = [f"seed={self.seeds}", *settled, f"out={runs}"]
        typed += [["fedkd", "run", "-m", *common, *sweep, *places] for sweep in self.sweeps]
        beside = [str(out / self.parent / "runs")] if self.parent else []
        along = ["--over", self.over] if self.over else []
        table = str(out / self.name / page)
        return [*typed, ["fedkd", "compare", *beside, str(runs), "--out", table, *along]]

    def section(self, out: Path, page: str) -> str:
        """The tables; of a study with a parent only the curve, since the parent has the tables."""
        if not self.over:
            return super().section(out, page)
        found, figures = out / self.name / page, DOCS / "figures"
        figures.mkdir(exist_ok=True)
        image = f"{page}_{self.name}_over.png"
        shutil.copy(found / "figures" / "tradeoff_over.png", figures / image)
        curve = f"{(found / 'tradeoff.md').read_text()}\n![along {self.over}](figures/{image})\n"
        return f"{self.opening(page)}\n{curve}" if self.parent else f"{super().section(out, page)}\n{curve}"


@dataclass(frozen=True)
class Attacked(Sweeps):
    """Sweeps with bad clients; beside the tables, how much of the server's weight these got."""

    trials: int = 0

    def section(self, out: Path, page: str) -> str:
        """The tables, and that one."""
        groups = group([load_run(place) for place in run_folders([out / self.name / "runs"])])
        return f"{super().section(out, page)}\n{bad_weights(groups)}"


def bad_weights(groups: list[Group]) -> str:
    """The weight of bad clients where a weighting decides: mean over rounds, then seeds; as Markdown."""
    lines = ["| weight of the bad clients | by the weighting | by their data |", "| --- | ---: | ---: |"]
    for each in groups:
        found = [
            bad_weight(run.folder, set(run.bad))
            for run in each.runs
            if (run.folder / "multipliers.csv").exists()
        ]
        if found and any(run.bad for run in each.runs):
            weight, base = np.mean(found, axis=0)
            lines.append(f"| {each.label} | {weight:.3f} | {base:.3f} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def bad_weight(folder: Path, bad: set[int]) -> tuple[float, float]:
    """Of one run: by the weighting, and by the method's own weights."""
    told = pd.read_csv(folder / "multipliers.csv").dropna(subset=["weight"])
    held = told[told["client"].isin(bad)].groupby("round")[["weight", "base"]].sum()
    shares = held.reindex(told["round"].unique(), fill_value=0.0).mean()
    return float(shares["weight"]), float(shares["base"])


@dataclass(frozen=True)
class Pairs(Study):
    """Every teacher objective x every student objective; a teacher serves all its students."""

    trials: int = 0

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """The teachers (each with a student of one round that nobody looks at), then the students."""
        teachers, runs = out / self.name / "teachers", out / self.name / "runs"
        common = ["fedkd", "distill", "-m", f"experiment={self.experiment}", *self.more]
        common += [f"seed={self.seeds}", f"teacher.risk={','.join(RISKS)}"]
        return [
            [*common, "student.rounds=1", f"out={teachers}"],
            [*common, f"student.risk={','.join(RISKS)}", f"teacher.from={teachers}", f"out={runs}"],
            ["fedkd", "compare", str(runs), "--out", str(out / self.name / page)],
        ]

    def section(self, out: Path, page: str) -> str:
        """Teachers, and students as a table of teacher x student for each figure."""
        frame = pairs(out / self.name / "runs")
        parts = [
            self.opening(page),
            teachers(frame),
            students(frame, "mean", "Students: balanced accuracy"),
            students(frame, "worst_class", "Students: worst class"),
            students(away(frame), "mean", "Balanced accuracy, beyond standard -> standard"),
            students(away(frame), "worst_class", "Worst class, beyond standard -> standard"),
        ]
        return "\n\n".join([*parts, INTERVALS])


@dataclass(frozen=True)
class Students(Study):
    """Students of the standard teachers, each row taught in another way.

    parent: the study that trained the teachers
    rows: overrides by name
    """

    trials: int = 0
    parent: str = ""
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """A sweep over seeds for each row, and one comparison."""
        common = ["fedkd", "distill", "-m", f"experiment={self.experiment}", *self.more]
        common += [f"seed={self.seeds}", f"teacher.from={out / self.parent / 'teachers'}"]
        places = {name: out / self.name / name for name in self.rows}
        typed = [[*common, *words, f"out={places[name]}"] for name, words in self.rows.items()]
        return [
            *typed,
            ["fedkd", "compare", *map(str, places.values()), "--out", str(out / self.name / page)],
        ]

    def section(self, out: Path, page: str) -> str:
        """A row each: balanced accuracy and worst class."""
        told = {"mean": "balanced accuracy", "worst_class": "worst class"}
        lines = [f"| student | {' | '.join(told.values())} |", "| --- |" + " ---: |" * len(told)]
        for row in self.rows:
            frame = pairs(out / self.name / row)
            cells = [interval(frame[name].tolist()) for name in told]
            lines.append(f"| {row.replace('_', ' ')} | {' | '.join(cells)} |")
        return "\n\n".join([self.opening(page), "\n".join(lines), INTERVALS])


INTERVALS = "Mean over seeds, with 95 % intervals (Student's t).\n"


def pairs(folder: Path) -> pd.DataFrame:
    """A row a run: seed, teacher, student (their objectives), and the figures of summary.json."""
    rows = []
    for run in (load_run(place) for place in run_folders([folder])):
        risks = {side: run.config[side]["risk"] for side in ("teacher", "student")}
        rows.append(risks | {"seed": run.seeds[0]} | json.loads((run.folder / "summary.json").read_text()))
    return pd.DataFrame(rows)


def away(frame: pd.DataFrame) -> pd.DataFrame:
    """The students' figures minus those of standard -> standard with the same seed."""
    names = ["mean", "worst_class"]
    plain = frame.query("teacher == 'standard' and student == 'standard'").set_index("seed")[names]
    return frame.assign(**(frame[names] - plain.loc[frame["seed"]].to_numpy()))


def teachers(frame: pd.DataFrame) -> str:
    """The teachers' own figures, as Markdown."""
    told = {"mean": "balanced accuracy", "worst_class": "worst class", "calibration": "calibration error"}
    lines = [f"| teacher | {' | '.join(told.values())} |", "| --- |" + " ---: |" * len(told)]
    for risk in RISKS:
        rows = frame[(frame["teacher"] == risk) & (frame["student"] == risk)]
        cells = [interval(rows[f"teacher_{name}"].tolist()) for name in told]
        lines.append(f"| {risk} | {' | '.join(cells)} |")
    return "\n".join(lines)


def students(frame: pd.DataFrame, name: str, title: str) -> str:
    """A figure by teacher (rows) and student (columns), as Markdown."""
    lines = [f"| {title} | {' | '.join(RISKS)} |", "| --- |" + " ---: |" * len(RISKS)]
    for risk in RISKS:
        rows = frame[frame["teacher"] == risk]
        cells = [interval(rows[rows["student"] == student][name].tolist()) for student in RISKS]
        lines.append(f"| {risk} | {' | '.join(cells)} |")
    return "\n".join(lines)
