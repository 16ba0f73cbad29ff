"""What leaves a client, method by method: `python -m benchmarks.sent` writes docs/results/sent.md.

Each method runs two rounds at its defaults; told are the kinds of records that a client sends in the second
one, their bytes as counted by the recorder, and all of them as a share of the model's own size.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.studies import DOCS
from fedkd.protocol import ARRAYS
from simulations.config import choices_of, resolve
from simulations.run import run
from simulations.shown import POPULATION

SETTING = ("data=fashion_mini", "model=cnn4", "model.width=8", "clients=4", "data.max_samples=1000")
SETTING += ("partition=iid", "rounds=2", "evaluate_every=2", "evaluation.mix_samples=0", "engine=inline")
GRAPHS = ("ffg2m",)
WORDS = {
    ARRAYS: "weights, all or those that are shared",
    "class_logits": "mean logits by class",
    "control": "control variate, as large as the model",
    "discriminator": "weights of a discriminator",
    "feature_mean": "mean feature",
    "follow_up": "what a second exchange asks for: class statistics of features",
    "generator": "weights of a generator",
    "head": "weights of the head",
    "label_counts": "exact label histogram",
    "metrics": "",
    "model": "weights of the client's own model",
    "prototypes": "mean features by class, with counts",
    "public_logits": "logits on public data",
    "representations": "features, labels and ids of training samples",
    "soft_labels": "soft labels of training samples",
    "statistics": "counts, means and covariances of features by class",
    "teacher": "weights of a second model",
    "update": "the model's change, in factors",
}
HEAD = """# What leaves a client

Written by `python -m benchmarks.sent`: a client's upload in the second and last round at default
settings, in bytes of arrays, and its share of the model's size ({size:,} bytes). Features, soft labels
and their ids grow with a client's samples ({samples} on average here), public logits with the public
set. Metrics (numbers of samples, losses, and accuracies where a server asks) are sent besides. What can
be done with such records is measured by `fedkd privacy` (docs/privacy.md). The setting:

    fedkd run {setting} method=...

| method | a client sends | bytes | of the model |
| --- | --- | ---: | ---: |
"""


def sent(method: str, out: Path) -> dict[str, float]:
    """Bytes of a client's upload by kind of record, of the last round."""
    run(resolve([*SETTING, f"method={method}", f"out={out}"]), out)
    last = pd.read_csv(out / "rounds.csv").iloc[-1]
    kinds = {str(key).removeprefix("bytes_up_"): last[key] for key in last.index if "bytes_up_" in str(key)}
    kinds["follow_up"] = last["bytes_up"] - np.nansum(list(kinds.values()))
    return {kind: each / last["participants"] for kind, each in kinds.items() if each > 0}


def row(method: str, kinds: Mapping[str, float], size: float) -> str:
    """A line of the table."""
    told = ", ".join(word for kind in kinds if (word := WORDS.get(kind, kind)))
    total = sum(kinds.values())
    return f"| {method} | {told or 'nothing'} | {total:,.0f} | {total / size:.2f} |"


def main() -> None:
    """Run every method and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        found = {
            method: sent(method, Path(folder) / method)
            for method in choices_of("method")
            if method not in GRAPHS
        }
        samples = pd.read_csv(Path(folder) / "fedavg" / POPULATION)["train"].mean()
    size, setting = found["fedavg"][ARRAYS], " ".join(SETTING)
    lines = [row(method, kinds, size) for method, kinds in found.items()]
    head = HEAD.format(size=round(size), samples=round(samples), setting=setting)
    (DOCS / "sent.md").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
