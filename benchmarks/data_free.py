"""The tables of docs/results/data_free.md, from scratch: `make results-data-free`."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.one_shot import OneShot
from benchmarks.studies import CIFAR10, FASHION, HAR, Study, main

HEAD = """# Data-free methods

Made by `make results-data-free`; README.md says what figures mean, docs/data_free.md what methods do.
Every table is of a subset and a narrow model, for about an hour of 2 cores; sizes stand above it. Full size:
`experiment=fedd2s_robust_full`, `dense_cifar10_full`, `fedgen_mnist_full`, `distilled_cifar10_full`.
"""
FLAGSHIP = "fedd2s_robust"
METHODS = ("local", "fedavg_ft", "ditto", "fedrep", "fedd2s", "fedd2s_adaptive", FLAGSHIP)
WITHOUT = {
    "no_weights": ("weighting.alpha=0",),
    "no_generator": ("method.strategy.protocol=representations",),
    "no_averaging": ("method.strategy.average_body=false",),
    "no_dropping": ("method.strategy.schedule.cuts=[-1]",),
    "no_distillation": ("method.client.kl_weight=0",),
    "noise": ("generator=noise",),
}
"""Each ingredient of the flagship off, and the placebo in the generator's place."""


@dataclass(frozen=True)
class Ablation(Study):
    """The flagship with each ingredient off, at what was chosen for it whole, beside itself and `local`.

    parent: the study that tuned it, and whose runs of these two stand beside
    """

    parent: str = ""

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """A sweep over seeds for each variant, and one comparison."""
        common = [f"experiment={self.experiment}", f"method={FLAGSHIP}", *self.more]
        parent = out / self.parent
        found = []
        for name, overrides in WITHOUT.items():
            places = [f"seed={self.seeds}", f"tuned={parent / 'tuned'}", f"out={out / self.name / name}"]
            found.append(["fedkd", "run", "-m", *common, *overrides, *places])
        runs = [str(out / self.name / name) for name in WITHOUT]
        beside = [str(parent / "runs" / f"{method}-*") for method in ("local", FLAGSHIP)]
        return [*found, ["fedkd", "compare", *beside, *runs, "--out", str(out / self.name / page)]]


def flagship(name: str, title: str, says: str, experiment: str) -> tuple[Study, Study]:
    """The flagship beside the others, and its ablation, on one federation."""
    beside = Study(name, f"The flagship: {title}", says, experiment, METHODS)
    off = "At the settings chosen above: each ingredient off, and Gaussian noise in the generator's place."
    name = f"{name}_ablation"
    return beside, Ablation(name, f"Its ingredients: {title}", off, experiment, (), 0, parent=beside.name)


STUDIES = (
    *flagship("fashion", *FASHION),
    *flagship("cifar10", *CIFAR10),
    *flagship("har", *HAR),
    *(
        OneShot(
            f"dense_{data}",
            f"DENSE, one shot: {title}, 5 clients, Dirichlet 0.5",
            "A seeded subset of 6,000 images, the 4-convolution CNN with BatchNorm, 30 local epochs, 30 "
            "batches of 128 generated images; the share of the way from the average to the ensemble.",
            f"dense_{data}",
            (),
            trials=4,
            seeds="1,2,3",
            more=("local.lr=0.02",),  # set here, so that tuning leaves every row the same clients
        )
        for data, title in (("fashion", "Fashion-MNIST"), ("cifar10", "CIFAR-10"))
    ),
    *(
        Study(
            f"fedgen_mnist_{alpha}",
            f"FedGen: a tenth of MNIST, 20 clients, Dirichlet {alpha}",
            "6,000 images, an MLP, 50 rounds of 10 clients and 20 steps; batches come from a shuffled split.",
            "fedgen_mnist",
            ("local", "fedavg", "fedgen"),
            more=(f"partition.alpha={alpha}",),
        )
        for alpha in (0.05, 0.1)
    ),
    Study(
        "fedgen_digits",
        "FedGen: digits by writer",
        "100 writers with about 110 digits each, an MLP, 50 rounds of 20 clients and 20 steps.",
        "fedgen_digits",
        ("local", "fedavg", "fedgen"),
    ),
    Study(
        "distilled",
        "FedFTG and DFRD: CIFAR-10 subset, 10 clients, Dirichlet 0.3",
        "A seeded subset of 6,000 images, the 4-convolution CNN of width 8, 20 rounds of 2 epochs.",
        "distilled_cifar10",
        ("fedavg", "fedftg", "dfrd"),
        trials=6,
        seeds="1,2,3",
    ),
)

if __name__ == "__main__":
    main("data_free", HEAD, STUDIES)
