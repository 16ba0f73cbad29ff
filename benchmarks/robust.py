"""The tables of docs/results/robust.md, from scratch: `make results-robust`, or `python -m benchmarks.robust
[FOLDER] [STUDY ...]` for some of them. Killed and started again it goes on where it stopped.

Settings are shared by all rows of a table: the step size is tuned once for local training and for FedAvg, on
validation, and every weighting runs with FedAvg's; the weightings' own settings are their defaults, or the
axis of a curve. The attacks and the teacher x student table are not tuned: every row has the defaults. Sizes
are those of the experiment files; `..._full` beside them are for larger machines.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRIALS, SEEDS = 6, "seed=1,2,3,4,5"
WEIGHTINGS = "weighting=samples,eg,afl,cvar,tilted,qffl,drfa"
ALPHAS = "weighting.alpha=0.25,0.5,0.75,1.0"
RISKS = "standard,balanced,robust,tradeoff"
PAGE = Path(__file__).parents[1] / "docs" / "results" / "robust.md"


@dataclass(frozen=True)
class Study:
    """One table.

    title: of its section; experiment: its data and sizes; sweeps: of `fedkd run -m` (or `distill -m`)
    tuned: whether the step size is tuned first; over: the key that a curve follows
    program: run or distill
    """

    title: str
    experiment: str
    sweeps: Sequence[Sequence[str]]
    tuned: bool = True
    over: str | None = None
    program: str = "run"


def _weightings(title: str, experiment: str) -> Study:
    return Study(title, experiment, (("method=local",), ("method=fedavg", WEIGHTINGS)))


def _attack(name: str, *words: str) -> Study:
    return Study(
        f"Attack: {name}",
        "robust_attacks",
        (
            ("method=fedavg", "weighting=samples,cvar,eg,afl,tilted", *words),
            ("method=krum,fedmedian,fedtrimmedavg", *words),
        ),
        tuned=False,
    )


STUDIES = {
    "har": _weightings("Client weightings: human activity, by person", "robust_har"),
    "fashion": _weightings("Client weightings: Fashion-MNIST extract, Dirichlet 0.1", "robust_fashion"),
    "classes": _weightings("Client weightings: a class a client", "robust_classes"),
    "adult": _weightings("Client weightings: Adult, by group", "robust_adult"),
    "alpha": Study(
        "Average against worst, along alpha",
        "robust_har",
        (("method=fedavg",), ("method=fedavg", "weighting=eg,afl,cvar", ALPHAS)),
        over="weighting.alpha",
    ),
    "cvar": Study(
        "Average against worst, along the level of CVaR",
        "robust_har",
        (("method=fedavg",), ("method=fedavg", "weighting=cvar", "weighting.level=0.1,0.3,0.5,0.8")),
        over="weighting.level",
    ),
    "tilt": Study(
        "Average against worst, along the tilt",
        "robust_har",
        (("method=fedavg",), ("method=fedavg", "weighting=tilted", "weighting.t=0.1,0.5,1.0,2.0,5.0")),
        over="weighting.t",
    ),
    "table": Study(
        "Teacher objective x student objective: long-tailed CIFAR-10",
        "distill/robust_cifar10",
        ((f"teacher.risk={RISKS}", f"student.risk={RISKS}"),),
        tuned=False,
        program="distill",
    ),
    "qffl": Study(
        "The shape of q-FFL: synthetic (1, 1)",
        "robust_synthetic",
        (("method=fedavg",), ("method=fedavg", "weighting=qffl", "weighting.q=0.1,1.0,5.0")),
        over="weighting.q",
    ),
    "class_margins": Study(
        "Class multipliers in a federation",
        "robust_fashion",
        (
            ("method=fedavg",),
            ("method=fedavg", "class_weighting=margin", "class_weighting.alpha=0.0,0.25,0.5,0.75,1.0"),
        ),
        over="class_weighting.alpha",
    ),
    "honest": _attack("none"),
    "noise": _attack("label noise", "label_noise.clients=0.2", "label_noise.labels=0.8"),
    "sign_flip": _attack("flipped sign", "attack=sign_flip", "attack.clients=0.2"),
    "scale": _attack("scaled update", "attack=scale", "attack.clients=0.2"),
}


def commands(name: str, out: Path) -> list[list[str]]:
    """What is run for one study, as a user would type it."""
    study, runs, tuned = STUDIES[name], out / name / "runs", out / name / "tuned"
    experiment = f"experiment={study.experiment}"
    methods = dict.fromkeys(word for sweep in study.sweeps for word in sweep if word.startswith("method="))
    typed = [
        ["fedkd", "tune", experiment, method, f"trials={TRIALS}", f"out={tuned}"]
        for method in methods
        if study.tuned
    ]
    chosen = [f"tuned={tuned}"] if study.tuned else []
    typed += [
        ["fedkd", study.program, "-m", experiment, *sweep, SEEDS, *chosen, f"out={runs}"]
        for sweep in study.sweeps
    ]
    over = ["--over", study.over] if study.over else []
    return [*typed, ["fedkd", "compare", str(runs), "--out", str(out / name / "compared"), *over]]


def section(name: str, out: Path) -> str:
    """The study's part of the page; its figures are put beside the page."""
    found, study = out / name / "compared", STUDIES[name]
    figures = PAGE.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    picture = "tradeoff_over" if study.over else "tradeoff"
    shutil.copy(found / "figures" / f"{picture}.png", figures / f"robust_{name}.png")
    typed = "\n".join("    " + " ".join(command) for command in commands(name, Path("runs/robust")))
    curve = (found / "tradeoff.md").read_text() + "\n" if study.over else ""
    table = (found / "compare.md").read_text()
    return f"## {study.title}\n\n{typed}\n\n{curve}{table}\n![{name}](figures/robust_{name}.png)\n"


def main(out: Path, names: Sequence[str]) -> None:
    """Run these studies, and write the page about all that are finished."""
    for name in names:
        for command in commands(name, out):
            print(" ".join(command), flush=True)
            subprocess.run([sys.executable, "-m", "simulations.cli", *command[1:]], check=True)
    done = [name for name in STUDIES if (out / name / "compared" / "compare.md").exists()]
    head = "# Robust\n\nMade by `make results-robust`; README.md says what the figures are.\n"
    PAGE.write_text("\n".join([head, *(section(name, out) for name in done)]))
    print(PAGE)


if __name__ == "__main__":
    folder, *wanted = sys.argv[1:] or ["runs/robust"]
    main(Path(folder), wanted or list(STUDIES))
