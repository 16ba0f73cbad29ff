"""What a student is taught with, where that is not all samples and all labels of the training data.

Few labels: the teacher speaks about every sample, labels count for some. Proxy data: unlabelled samples of
another kind take the training data's place. A graph: the samples are nodes, and a batch has the edges between
its nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedkd.data.samples import Samples
from fedkd.errors import ConfigError
from fedkd.graphs.graph import edges_between
from fedkd.objectives.base import Objective
from fedkd.objectives.kd3 import combined_prediction, select_confident
from fedkd.seeds import rng


@dataclass(frozen=True)
class Lessons:
    """Of n training samples.

    labelled: (n,) bool, whose labels count; None: all
    proxy: samples in place of the training data; their labels are never read
    keep: share of the proxy samples that a round is about: the most confident ones, balanced over classes
        (KD^3's selection)
    edges: (2, E) between training samples
    """

    labelled: Tensor | None = None
    proxy: Samples | None = None
    keep: float = 1.0
    edges: Tensor | None = None

    @property
    def labels(self) -> str:
        """How much of them there is: all, few or no."""
        return "no" if self.proxy is not None else "all" if self.labelled is None else "few"

    def known(self, train: Samples) -> Tensor:
        """(n,) bool: the training samples whose labels may be used."""
        if self.labelled is not None:
            return self.labelled
        return torch.full((len(train),), self.proxy is None)

    def extras(self, count: int) -> dict[str, Tensor]:
        """What comes with each of the `count` samples, by name, (n, ...)."""
        found: dict[str, Tensor] = {}
        if self.labelled is not None:
            found["labelled"] = self.labelled * (len(self.labelled) / self.labelled.sum())
        if self.edges is not None:
            found["row"] = torch.arange(count)
        return found

    def first(self, count: int) -> "Lessons":
        """The same about the first `count` samples alone, with all that can be wrong."""
        labelled = None if self.labelled is None else torch.ones(count, dtype=torch.bool)
        proxy = None if self.proxy is None else self.proxy.take(torch.arange(min(count, len(self.proxy))))
        return replace(self, labelled=labelled, proxy=proxy)

    def signals(self, extras: Mapping[str, Tensor], count: int) -> dict[str, Any]:
        """The signals of a batch, from its rows of `extras`."""
        found: dict[str, Any] = {}
        if "labelled" in extras:
            found["labelled"] = extras["labelled"]
        if self.edges is not None:
            found["edges"] = edges_between(self.edges, extras["row"], count)
        return found

    def chosen(self, told: Tensor, own: Tensor, student_share: float) -> Tensor:
        """The samples (k,) that a round is about.

        told, own: (n, M) scores of teacher and student; student_share: what the latter counts
        """
        both = combined_prediction(told, own, student_share)
        return select_confident(both, max(1, round(self.keep * len(told))))


EVERYTHING = Lessons()


def some_labels(y: Tensor, share: float, seed: int) -> Tensor:
    """(n,) bool: a seeded choice of this share of each class, at least one of each that there is."""
    chosen = torch.zeros(len(y), dtype=torch.bool)
    for label in y.unique().tolist():
        rows = torch.nonzero(y == label).flatten()
        order = torch.from_numpy(rng(seed, "labelled", label).permutation(len(rows)))
        chosen[rows[order[: max(1, round(share * len(rows)))]]] = True
    return chosen


def check_labels(objectives: list[Objective], labels: str) -> None:
    """ConfigError where an objective reads all labels, and there are few or none."""
    greedy = [o.about.name for o in objectives if "labels" in o.needs and not o.few_labels]
    if labels == "few" and greedy:
        raise ConfigError(
            f"objective={greedy[0]} reads the label of every sample, and only some are labelled here: ce, "
            "dho, ffg2m, or an objective without labels is needed"
        )
