"""One-shot distillation between its floor and its ceiling: what share of the way does a student go?

The floor is the one-shot average of the clients' models, the ceiling their ensemble. DENSE stands beside two
placebos, Gaussian noise and a generator that was never trained, and beside distillation on real held-out
images. All are judged on one half of the official test set; the other half, unlabelled, are those images.
"""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.studies import Study
from fedkd.build import build
from fedkd.data.samples import Samples
from fedkd.generators.ensemble import Ensemble
from fedkd.generators.schemes import Pooled
from fedkd.generators.sources import from_samples
from fedkd.generators.train import distill
from fedkd.models.staged import in_layout
from fedkd.personalization.heads import mean_by_name
from fedkd.seeds import torch_rng
from simulations.exposed import Exposed, exposed

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "dense": (),
    "untrained": ("method.strategy.scheme.steps=1",),  # the batch is judged, and kept, before the first step
    "noise": ("generator=noise", "method.strategy.scheme.steps=1"),
}
ROWS = {
    "fedavg": "one-shot average (floor)",
    "ensemble": "ensemble of the clients (ceiling)",
    "dense": "DENSE",
    "untrained": "placebo: untrained generator",
    "noise": "placebo: noise",
    "held": "real held-out images",
}
FILE = "one_shot.json"


@dataclass(frozen=True)
class OneShot(Study):
    """The variants of DENSE under one experiment, and a table of accuracies and shares of the way.

    Clients keep the models they send, so that average and ensemble are those of the very same models. While
    tuning they do not: the student is what trials are ranked by.
    """

    def commands(self, out: Path, page: str) -> list[list[str]]:
        """For each variant: tune, then run every seed."""
        found = []
        for name, overrides in VARIANTS.items():
            common = [f"experiment={self.experiment}", "method=dense", *self.more, *overrides]
            tuned, runs = out / self.name / "tuned" / name, out / self.name / name
            if self.trials:
                found.append(["fedkd", "tune", *common, f"trials={self.trials}", f"out={tuned}"])
            settled = [f"tuned={tuned}"] if self.trials else []
            own = ["method.client.own_model=true", *settled, f"seed={self.seeds}", f"out={runs}"]
            found.append(["fedkd", "run", "-m", *common, *own])
        return found

    def is_finished(self, out: Path, page: str) -> bool:
        return (out / self.name / FILE).exists()

    def play(self, out: Path, page: str) -> None:
        """Run what is missing, then judge all models."""
        super().play(out, page)
        file = out / self.name / FILE
        if not file.exists():
            file.write_text(json.dumps(measure(out / self.name), indent=1) + "\n")

    def section(self, out: Path, page: str) -> str:
        """The table, written from the accuracies by seed."""
        frame = pd.DataFrame(json.loads((out / self.name / FILE).read_text()))
        return f"{self.opening(page)}\n{table(frame)}\n"


def table(frame: pd.DataFrame) -> str:
    """Means over seeds with standard deviations, of accuracy and of the share of the way, as Markdown.

    frame: columns seed, row, accuracy
    """
    by_seed = frame.pivot(index="seed", columns="row", values="accuracy")
    way = (by_seed["ensemble"] - by_seed["fedavg"]).to_numpy()
    lines = ["| student | accuracy | share of the way | lowest seed |", "| --- | ---: | ---: | ---: |"]
    for row, name in ROWS.items():
        reached = by_seed[row].to_numpy()
        share = (reached - by_seed["fedavg"].to_numpy()) / way
        lines.append(f"| {name} | {_spread(reached)} | {_spread(share, 2)} | {share.min():.2f} |")
    return "\n".join(lines) + f"\n\nMean and standard deviation over {len(by_seed)} seeds.\n"


def _spread(values: np.ndarray, digits: int = 3) -> str:
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():.{digits}f} ± {deviation:.{digits}f}"


def measure(folder: Path) -> list[dict[str, Any]]:
    """Accuracy by seed and row, of the runs in the folders of the variants."""
    rows = []
    for out in sorted((folder / "dense").glob("dense-*-s*")):
        run, seed = exposed(out), out.name.rpartition("-s")[2]
        held, judged = halves(run)
        found = {"fedavg": accuracy(average(run), judged), "ensemble": accuracy(ensemble(run), judged)}
        found["held"] = accuracy(on_real(run, held.x), judged)
        for name in VARIANTS:
            (twin,) = (folder / name).glob(f"dense-*-s{seed}")
            found[name] = accuracy(student(exposed(twin)), judged)
        rows += [{"seed": int(seed), "row": row, "accuracy": value} for row, value in found.items()]
    return rows


def halves(run: Exposed) -> tuple[Samples, Samples]:
    """The official test set: images to distil on, and samples to judge on."""
    test = run.prepared.federation.global_test
    assert test is not None
    return test.take(torch.arange(0, len(test), 2)), test.take(torch.arange(1, len(test), 2))


@torch.no_grad()
def accuracy(predict: Callable[[Tensor], Tensor], samples: Samples, batch: int = 500) -> float:
    """Of logits (n, M)."""
    parts = [predict(in_layout(x)).argmax(1) for x in samples.x.split(batch)]
    return float((torch.cat(parts) == samples.y).float().mean())


def average(run: Exposed) -> nn.Module:
    """The clients' models, averaged by training samples, buffers too."""
    sizes = [len(run.data(k).train) for k in run.personal]
    return _network(run, mean_by_name(list(zip(run.personal.values(), sizes, strict=True))))


def ensemble(run: Exposed) -> Ensemble:
    """The clients' models as one teacher, mean of logits."""
    counts = torch.stack([run.data(k).class_counts("train") for k in run.personal])
    return Ensemble([_network(run, params) for params in run.personal.values()], counts)


def student(run: Exposed) -> nn.Module:
    """What the server sends after its distillation."""
    assert run.received is not None
    return _network(run, run.received)


def on_real(run: Exposed, x: Tensor) -> nn.Module:
    """A student from scratch, taught on these images with DENSE's objective, optimizer and steps."""
    scheme: Pooled = build(run.prepared.config["method"]["strategy"]["scheme"])
    learner = _network(run, run.prepared.runtime.trainer(0)[1]).requires_grad_(True)
    filled = range(scheme.warmup + 1, scheme.epochs + 1)
    size = scheme.batch_size
    passes = [-(-min(n * scheme.batches * size, scheme.capacity) // size) for n in filled]
    optimizer, source = scheme.student_optim(learner.parameters()), from_samples(x, None, size)
    rng = torch_rng(run.prepared.config["seed"], "real held-out images")
    distill(learner, ensemble(run).signals, source, scheme.objective, optimizer, sum(passes), rng)
    return learner


def _network(run: Exposed, params: Mapping[str, Tensor]) -> nn.Module:
    network = copy.deepcopy(run.network(0))
    network.load_state_dict(dict(params))
    return network.eval()
