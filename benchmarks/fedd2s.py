"""The tables of docs/results/fedd2s.md, from scratch: `make results-fedd2s`."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.studies import CIFAR10, DOCS, FASHION, HAR, Study, main
from simulations.comparing.groups import group
from simulations.comparing.runs import Run, load_run, run_folders, used
from simulations.recorder import read_rows

METHODS = (
    "local",
    "fedavg",
    "fedavg_ft",
    "fedper",
    "fedrep",
    "ditto",
    "fd",
    "fedproto",
    "fedd2s",
    "fedd2s_adaptive",
)
FURTHER = (
    "fedprox",
    "scaffold",
    "fednova",
    "feddyn",
    "moon",
    "fedntd",
    "lg_fedavg",
    "fedbn",
    "fedbabu",
    "fedrod",
    "apfl",
    "pfedme",
    "perfedavg",
    "fedala",
    "fml",
    "fedkd",
    "fedtgp",
    "feddbe",
    "fedmd",
    "feddf",
)
"""The other baselines, in the tables of real people."""
PUBLIC = ("public=fashion_mini",)
HEAD = """# FedD2S as specified here, beside the personalization baselines

Made by `make results-fedd2s`; README.md says what the figures are. No figure here is one of the paper: FedD2S
is reconstructed from its outline (docs/fedd2s.md). Local epochs are the same for all; beside them
`fedd2s_adaptive` trains a local twin and `ditto` a personal model, each as long again, `fedrep` its head
first, and `fedavg_ft` fine-tunes where it is used. Full size: `experiment=fedd2s_full`.
"""
Words = tuple[str, ...]
BASE = "experiment=fedd2s_sensitivity"
CUTS, STRATEGY = "method.strategy.schedule", "method.strategy"
CHOICES: Mapping[str, Words] = {
    "as_specified": (),
    "never": (f"{CUTS}.cuts=[-1]",),
    "first_block": (f"{CUTS}.cuts=[1]",),
    "reversed": (f"{CUTS}.reverse=true",),
    "output_full": (f"{STRATEGY}.distill_path=output_full",),
    "class_mean": (f"{STRATEGY}.teacher_view=class_mean",),
    "body": (f"{STRATEGY}.distill_path=body_via_global_head", f"{STRATEGY}.teacher_view=class_mean"),
    "heads": (f"{STRATEGY}.protocol=heads", f"{STRATEGY}.teacher_view=head_ensemble"),
    "average_body": (f"{STRATEGY}.average_body=true",),
    "mean": (f"{STRATEGY}.head_growth=mean",),
    "bank": (f"{STRATEGY}.head_growth=bank",),
}
"""What point each row changes, as words: an experiment's own value would give way to what tuning chose."""
ADAPTIVE: Mapping[str, Words] = {
    "global": (
        "method=fedd2s_adaptive",
        f"{CUTS}._target_=fedkd.personalization.cuts.GlobalDrop",
        "method.client._target_=clients.fedd2s.FedD2S",
    ),
    "client": ("method=fedd2s_adaptive",),
}


@dataclass(frozen=True)
class Sensitivity(Study):
    """Variants of a method at the settings that the parent chose for it; along a key, or by name.

    parent: the study that tuned it, on the same federation
    words: what varies, as for a sweep
    over: the key along which average against worst is drawn
    """

    trials: int = 0
    seeds: str = "1,2,3"
    parent: str = "fashion"
    words: tuple[str, ...] = ()
    over: str = ""

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """The sweep and its comparison: of variants beside local-only training, or along the key."""
        runs, parent = out / self.name / "runs", out / self.parent
        sweep = [*self.words, f"seed={self.seeds}", f"tuned={parent / 'tuned'}", f"out={runs}"]
        alone = [str(parent / "runs" / "local-*-s[123]")]
        rest = ["--allow-different", "--over", self.over] if self.over else []
        compare = ["fedkd", "compare", *([] if self.over else alone), str(runs)]
        return [["fedkd", "run", "-m", *sweep], [*compare, "--out", str(out / self.name / page), *rest]]

    def section(self, out: Path, page: str) -> str:
        """The tables of the variants; along a key the curve alone."""
        if not self.over:
            return super().section(out, page)
        compared, image = out / self.name / page, f"{page}_{self.name}_over.png"
        shutil.copy(compared / "figures" / "tradeoff_over.png", DOCS / "figures" / image)
        curve = (compared / "tradeoff.md").read_text()
        return f"{self.opening(page)}\n{curve}\n![along {self.over}](figures/{image})\n"


@dataclass(frozen=True)
class Choices(Sensitivity):
    """The method with each of its choices changed, one at a time, beside local-only training.

    rows: overrides by name
    """

    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """A sweep over seeds for each row, and the comparison."""
        runs, parent = out / self.name / "runs", out / self.parent
        ends = [f"seed={self.seeds}", f"tuned={parent / 'tuned'}", f"out={runs}"]
        typed = [["fedkd", "run", "-m", *self.words, *row, *ends] for row in self.rows.values()]
        compare = ["fedkd", "compare", str(parent / "runs" / "local-*-s[123]"), str(runs)]
        return [*typed, [*compare, "--out", str(out / self.name / page)]]

    def section(self, out: Path, page: str) -> str:
        """The tables, and what the validation splits say of each row: the choice is made by these."""
        groups = group([load_run(place) for place in run_folders([out / self.name / "runs"])])
        found = {each.label: [validation(run) for run in each.runs] for each in groups}
        lines = [f"| {label} | {sum(means) / len(means):.3f} |" for label, means in found.items()]
        head = "| mean over clients and repeats | validation |\n| --- | ---: |"
        return "\n".join([super().section(out, page), head, *lines]) + "\n"


def validation(run: Run) -> float:
    """Mean accuracy over clients on their validation splits, in the judged round."""
    rows = used(read_rows(run.folder), "val")
    return float(rows[rows["round"] == run.round]["accuracy"].mean())


def choices(name: str, title: str, parent: str, experiment: str, rows: Mapping[str, Words]) -> Choices:
    """The choices of point 2 on one federation."""
    says = "At the settings chosen above, 3 seeds; every row changes what it names."
    words = (f"experiment={experiment}", "method=fedd2s")
    title = f"The choices of FedD2S, one at a time: {title}"
    return Choices(name, title, says, "", (), parent=parent, words=words, rows=rows)


def chosen(name: str, row: str, parent: str, title: str, experiment: str) -> Study:
    """A row of the table of choices with tuning of its own, on every seed."""
    says = "Six trials of its own; the rows beside it are those of the table above."
    return Study(
        name,
        title,
        says,
        experiment,
        ("fedd2s",),
        more=CHOICES[row],
        beside=tuple(f"{parent}/runs/{method}-*" for method in ("local", "fedavg", "fedavg_ft", "fedrep")),
    )


def along(name: str, key: str, values: str, methods: str = "fedd2s", numbers: bool = True) -> Sensitivity:
    """One of the sensitivity studies: a curve where the key's values are numbers, else a table."""
    says = f"The Fashion-MNIST extract at the settings chosen above; {key} varies, 3 seeds."
    title = f"Sensitivity of FedD2S: {name.replace('_', ' ')}"
    return Sensitivity(
        name,
        title,
        says,
        "",
        (),
        words=(BASE, f"method={methods}", f"{key}={values}"),
        over=key if numbers else "",
    )


AVERAGED = "FedD2S with averaged bodies"
THROUGH = "FedD2S with bodies taught through the global head"
STUDIES = (
    Study("har", HAR[0], f"{HAR[1]} `fedmd` and `feddf` distil on noise.", HAR[2], METHODS + FURTHER),
    Study(
        "digits",
        "Handwritten digits by writer",
        "100 writers of MNIST with about 110 digits each; a narrow classic CNN, 15 rounds, momentum 0.9.\n"
        "It has no normalisation for FedBN to keep. `fedmd` and `feddf` distil on images of clothing.\n"
        "`scaffold` runs without momentum, which its corrections do not know of; it diverges all the same.",
        "fedd2s_digits",
        tuple(method for method in METHODS + FURTHER if method != "fedbn"),
        own={"fedmd": PUBLIC, "feddf": PUBLIC, "scaffold": ("local.momentum=0",)},
    ),
    chosen("har_averaged", "average_body", "har", f"{AVERAGED}: human activity", HAR[2]),
    chosen("har_body", "body", "har", f"{THROUGH}: human activity", HAR[2]),
    chosen("digits_averaged", "average_body", "digits", f"{AVERAGED}: digits by writer", "fedd2s_digits"),
    Study("fashion", *FASHION, METHODS),
    Study("cifar10", *CIFAR10, METHODS),
    choices("choices", "Fashion-MNIST extract", "fashion", FASHION[2], CHOICES | ADAPTIVE),
    choices("har_choices", "human activity", "har", HAR[2], CHOICES),
    choices("digits_choices", "digits by writer", "digits", "fedd2s_digits", CHOICES),
    along("participation", "participation", "0.1,0.2,0.5,1.0"),
    along("dropping_rate", "method.strategy.schedule.rate", "1,2,4,15"),
    along("skew", "partition.alpha", "0.1,0.3,0.5,1.0", "local,fedavg,fedavg_ft,fedd2s"),
    along(
        "dropping_set", "method.strategy.schedule.cuts", "[4],[4,3],[4,3,2],[4,3,2,1],[2],[1]", numbers=False
    ),
    *(
        Study(
            f"cifar100_{name}",
            f"Sanity: CIFAR-100 subset, 20 clients, {title}",
            "A class-balanced subset of 10,000 images, the 4-convolution CNN of width 8, 30 rounds; 3 seeds.",
            "fedd2s_cifar100",
            ("local", "fedavg", "fedavg_ft", "fedper", "ditto", "fedd2s"),
            trials=trials,
            seeds="1,2,3",
            more=(f"partition.alpha={alpha}",),
        )
        for name, title, alpha, trials in (
            ("skewed", "Dirichlet 0.1", 0.1, 4),
            ("even", "nearly IID", 100, 2),
        )
    ),
)

if __name__ == "__main__":
    main("fedd2s", HEAD, STUDIES)
