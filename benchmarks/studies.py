"""Results pages from scratch: tune every method with equal effort, run every seed, compare, write the page.

Killed and started again a study goes on where it stopped, and ends in the same tables (their seconds apart).
Studies of one name share tuning and runs, whichever page they are on: what one page has played no other plays
again. A page holds the studies that are finished; one that is not played here keeps the section it has.
"""

import argparse
import glob
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

DOCS = Path(__file__).parents[1] / "docs" / "results"
FASHION = (
    "Fashion-MNIST extract, 20 clients, Dirichlet 0.1",
    "The 10,000 images of `fashion_mini`, the 4-convolution CNN of width 8, 15 rounds, momentum 0.9.",
    "baselines_fashion",
)
HAR = (
    "Human activity recognition, 30 people",
    "Each person is a client, split by recording; a 1-D CNN, 15 rounds, momentum 0.9.",
    "baselines_har",
)
CIFAR10 = (
    "CIFAR-10 subset, 20 clients, Dirichlet 0.1",
    "A seeded subset of 6,000 images, the 4-convolution CNN of width 8, 15 rounds, momentum 0.9.",
    "fedd2s_cifar10",
)
"""Settings of several pages: title, says, and experiment of a `Study`."""


@dataclass(frozen=True)
class Study:
    """One table: methods under one experiment, as a user would type it.

    name: of the folder of its runs, and on the command line
    title, says: heading, and a paragraph about the setting
    experiment: file of simulations/conf/experiment
    methods: the rows
    trials: of `fedkd tune`, for each method; 0 leaves everybody at the defaults
    seeds: of the runs; tuning has seed 0
    more: further overrides, for tuning and runs alike
    own: further overrides of single methods
    beside: patterns of other studies' runs that stand in the table too
    """

    name: str
    title: str
    says: str
    experiment: str
    methods: tuple[str, ...]
    trials: int = 6
    seeds: str = "1,2,3,4,5"
    more: tuple[str, ...] = ()
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict, kw_only=True)
    beside: tuple[str, ...] = field(default=(), kw_only=True)

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """What is run, in order; with patterns, as for a shell. The table is this page's own."""
        alike: dict[tuple[str, ...], list[str]] = {}
        for method in self.methods:
            alike.setdefault(self.own.get(method, ()), []).append(method)
        played = [words for own, methods in alike.items() for words in self._played(out, methods, own)]
        own_rows = [f"{self.name}/runs/{method}-*" for method in self.methods]
        rows = [str(out / pattern) for pattern in (*self.beside, *own_rows)]
        return [*played, ["fedkd", "compare", *rows, "--out", str(out / self.name / page)]]

    def _played(self, out: Path, methods: Sequence[str], own: tuple[str, ...]) -> list[list[str]]:
        """Tuning and runs of methods with the same overrides."""
        common = [f"experiment={self.experiment}", f"method={','.join(methods)}", *self.more, *own]
        tuned, runs = out / self.name / "tuned", out / self.name / "runs"
        tune = ["fedkd", "tune", *common, f"trials={self.trials}", f"out={tuned}"]
        settled = [f"tuned={tuned}"] if self.trials else []
        run = ["fedkd", "run", "-m", *common, f"seed={self.seeds}", *settled, f"out={runs}"]
        return [tune, run] if self.trials else [run]

    def is_finished(self, out: Path, page: str) -> bool:
        return (out / self.name / page / "compare.md").exists()

    def play(self, out: Path, page: str) -> None:
        """Run what is missing."""
        for command in self.commands(out, page):
            print(" ".join(command), flush=True)
            words = [found for word in command[1:] for found in sorted(glob.glob(word)) or [word]]
            subprocess.run([sys.executable, "-m", "simulations.cli", *words], check=True)

    def section(self, out: Path, page: str) -> str:
        """This study's part of the page; its figures are put beside the page."""
        folder, figures = out / self.name, DOCS / "figures"
        compared = folder / page
        figures.mkdir(exist_ok=True)
        images = []
        for name in ("tradeoff", "gain"):
            if (source := compared / "figures" / f"{name}.png").exists():
                shutil.copy(source, figures / f"{page}_{self.name}_{name}.png")
                images.append(f"![{name}](figures/{page}_{self.name}_{name}.png)")
        table = (compared / "compare.md").read_text()
        chosen = tuning(folder / "tuned", self.methods) if self.trials else ""
        return f"{self.opening(page)}\n{table}\n{chosen}\n" + "\n".join(images) + "\n"

    def opening(self, page: str) -> str:
        """Heading, setting and commands."""
        typed = "\n".join("    " + " ".join(command) for command in self.commands(Path("runs/studies"), page))
        return f"## {self.title}\n\n{self.says}\n\n{typed}\n"


def tuning(folder: Path, methods: Sequence[str]) -> str:
    """What tuning chose, and what it cost."""
    lines = ["| tuned | chosen | validation | rounds spent | seconds |", "| --- | --- | ---: | ---: | ---: |"]
    for method in methods:
        record = yaml.safe_load((folder / f"{method}.yaml").read_text())
        chosen = ", ".join(f"{key}={value}" for key, value in record["chosen"].items())
        cost = record["cost"]
        lines.append(
            f"| {method} | {chosen} | {record['val_mean']:.3f} | {cost['rounds']} | {cost['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(page: str, head: str, studies: Sequence[Study]) -> None:
    """Run the studies named on the command line, or all, and write the page docs/results/`page`.md.

    head: what stands above the tables: a heading and a paragraph
    """
    names = [study.name for study in studies]
    parser = argparse.ArgumentParser(description=f"The tables of docs/results/{page}.md.")
    parser.add_argument("names", nargs="*", metavar="STUDY", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/studies"), help="where the runs go")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: one of {', '.join(names)} is needed")
    for study in studies:
        if study.name in (wanted.names or names):
            study.play(wanted.out, page)
    write(page, head, studies, wanted.out)


def write(page: str, head: str, studies: Sequence[Study], out: Path) -> None:
    """Write the page, in the order of the studies."""
    path = DOCS / f"{page}.md"
    before = sections(path.read_text()) if path.exists() else {}
    parts = [
        study.section(out, page) if study.is_finished(out, page) else before.get(study.title, "")
        for study in studies
    ]
    path.write_text("\n".join([head, *(part.rstrip("\n") + "\n" for part in parts if part)]))
    print(path)


def sections(text: str) -> dict[str, str]:
    """The sections of a page, by their headings."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: f"## {part}" for part in parts}
