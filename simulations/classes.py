"""What `fedkd distill` records: one model in a round, with the classes as groups.

A class takes the place of a client. So `clients.parquet` has a row per (round, class, split, model), `mean`
in `rounds.csv` is the balanced accuracy and `weighted_mean` the plain one, and reports and comparisons work
as for clients. `classes.parquet` holds what only classes have, a row per (model, round, class):
`val_accuracy`, `test_accuracy` (NaN for a class that is absent there), `multiplier`, `gain` (c = w / prior)
and `calibration` (of the scores on validation data, weighted to the class mix of the training data).
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fedkd.data.samples import Samples
from fedkd.fairness import summarise
from fedkd.robust.calibration import class_calibration
from fedkd.training.evaluate import evaluate
from simulations.measure import columns
from simulations.rundir import replacing

Rows = list[dict[str, Any]]


def class_rows(logits: Tensor, samples: Samples, split: str, model: str) -> Rows:
    """A row for each class that `samples` holds, as `fedkd.training.evaluate` makes them for clients.

    The teacher's have `stage=after`: it is finished, and the model that is judged is the student.
    """
    told, classes = Samples(logits, samples.y, samples.ids), logits.shape[1]
    stage = "after" if model == "teacher" else "before"
    rows: Rows = []
    for label in range(classes):
        part = told.take(torch.nonzero(samples.y == label).flatten())
        row = evaluate(lambda z: z, part, classes, split=split, model=model, stage=stage)
        rows += [{"client": label, **asdict(row)}] if row else []
    return rows


def figures(rows: Rows, seed: int) -> dict[str, Any]:
    """The columns of `rounds.csv`: over the classes of the test split, and `val_mean`."""
    tests, held_out = ([row for row in rows if row["split"] == split] for split in ("test", "val"))
    return summarise(**columns(tests), seed=seed) | {
        "val_mean": float(np.mean([row["accuracy"] for row in held_out]))
    }


class ClassLog:
    """`classes.parquet`, written anew after each round: it is small.

    out: the run folder, which exists
    weights: (n,) of the validation samples, `mix_weights`
    """

    def __init__(self, out: Path, weights: Tensor) -> None:
        self.path, self.weights = out / "classes.parquet", weights
        self.rows: Rows = []

    def add(
        self, model: str, number: int, rows: Rows, val: Samples, log_probs: Tensor, state: Mapping[str, Any]
    ) -> float:
        """One model after one round; returns the largest calibration error of a class.

        rows: of `class_rows`, both splits; log_probs: (n, M) on `val`; state: of the class method
        """
        accuracy = {(row["split"], row["client"]): row["accuracy"] for row in rows}
        calibration = class_calibration(log_probs.exp(), val.y, self.weights)
        self.rows += [
            {
                "model": model,
                "round": number,
                "class": label,
                "val_accuracy": accuracy.get(("val", label), np.nan),
                "test_accuracy": accuracy.get(("test", label), np.nan),
                "multiplier": state["multipliers"][label],
                "gain": state["gains"][label],
                "calibration": calibration[label],
            }
            for label in range(log_probs.shape[1])
        ]
        with replacing(self.path) as path:
            pd.DataFrame(self.rows).to_parquet(path, index=False)
        return float(calibration.max())
