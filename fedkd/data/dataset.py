"""A data set in memory: one pool of samples, and what is known about who made them.

Features stay as they were read (uint8 images take a quarter of the memory of float32 ones) and are turned
into normalised float32 when a client's share is gathered, by the statistics of the training pool.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedkd.data.checks import real, whole
from fedkd.data.split import evenly
from fedkd.errors import ConfigError
from fedkd.seeds import rng

if TYPE_CHECKING:
    from fedkd.data.federation import Federation
    from fedkd.data.plan import Plan

CHUNK = 4096


@dataclass(frozen=True)
class DataSet:
    """A training pool of N samples and, where there is one, the official test set.

    name; x: (N, ...) features as read; y: (N,) int64; class_names: M of them;
    test_x, test_y: the official test set; persons: (N,) index into person_names;
    blocks: (N,) recording of each sample, samples of one block may share raw data;
    is_test: (N,) true where the data's own files put a sample into its person's test split;
    gap: how many following samples of the same person share raw data with a sample (text windows).
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None
    persons: np.ndarray | None = None
    person_names: tuple[str, ...] = ()
    blocks: np.ndarray | None = None
    is_test: np.ndarray | None = None
    gap: int = 0

    def __post_init__(self) -> None:
        for what, x, y in (("pool", self.x, self.y), ("test set", self.test_x, self.test_y)):
            if x is None or y is None:
                continue
            if not len(x) or len(x) != len(y):
                raise ConfigError(f"the {what} of data={self.name} has {len(x)} samples and {len(y)} labels")
            if y.min() < 0 or y.max() >= len(self.class_names):
                wrong = y.min() if y.min() < 0 else y.max()
                raise ConfigError(
                    f"the {what} of data={self.name} has the label {wrong}, "
                    f"expected 0 to {len(self.class_names) - 1}"
                )

    @property
    def is_text(self) -> bool:
        """Token ids, which are neither normalised nor turned into floats."""
        return self.gap > 0

    def keep(self, rows: np.ndarray) -> "DataSet":
        """The same data set with only these rows (ascending) in the pool."""

        def at(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[rows]

        persons, blocks, is_test = at(self.persons), at(self.blocks), at(self.is_test)
        return replace(self, x=self.x[rows], y=self.y[rows], persons=persons, blocks=blocks, is_test=is_test)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation over the pool, one value a channel or column, shaped to broadcast on a sample.

        Columns of a table that hold only 0 and 1 (one-hot) are left as they are: mean 0, deviation 1.
        """
        axes = tuple(a for a in range(self.x.ndim) if a != 1)
        total, squares = np.zeros(self.x.shape[1]), np.zeros(self.x.shape[1])
        for start in range(0, len(self.x), CHUNK):
            part = self.x[start : start + CHUNK].astype(np.float32)
            total += part.sum(axes, dtype=np.float64)
            squares += np.square(part).sum(axes, dtype=np.float64)
        count = self.x.size / self.x.shape[1]
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        plain = deviation < 1e-8
        if self.x.ndim == 2:
            plain |= np.isin(self.x, (0, 1)).all(axis=0)
        shape = (-1,) + (1,) * (self.x.ndim - 2)
        mean, deviation = np.where(plain, 0, mean), np.where(plain, 1, deviation)
        return mean.reshape(shape).astype(np.float32), deviation.reshape(shape).astype(np.float32)


@dataclass(frozen=True)
class Source(ABC):
    """A data set by name; `load` reads it.

    longtail: ratio between the largest and the smallest class of the pool, 1 keeps all (data.longtail);
    max_samples: size of a subset of the pool with its label mix, the same for every seed; null keeps all;
    classes: numbers of the classes that are kept, and renumbered in this order; null keeps all.
    """

    longtail: float = 1.0
    max_samples: int | None = None
    classes: Sequence[int] | None = None

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if self.classes is not None:
            _check_classes(self.classes)
        real("data.longtail", self.longtail, 1, np.inf, open_high=True)
        if self.max_samples is not None:
            whole("data.max_samples", self.max_samples, at_least=1)

    @abstractmethod
    def read(self) -> DataSet:
        """The complete data set from its files."""

    def load(self) -> DataSet:
        """The data set with its choice of classes, long tail and subset applied, in this order."""
        data = self.read()
        if self.classes is not None:
            data = restricted(data, self.classes)
        if self.longtail > 1:
            data = data.keep(long_tail(data.y, len(data.class_names), self.longtail))
        if self.max_samples is not None and self.max_samples < len(data.y):
            data = data.keep(subset(data, self.max_samples))
        return data

    def federation(self, plan: "Plan") -> "Federation":
        """The data set divided among clients."""
        from fedkd.data.resident import ResidentFederation  # the federation knows data sets, not the reverse

        return ResidentFederation.divide(self.load(), plan)


def restricted(data: DataSet, classes: Sequence[int]) -> DataSet:
    """Pool and test set without the other classes; `classes[i]` becomes class i."""
    if data.is_text:
        raise ConfigError(
            f"data.classes would leave holes in the text of data={data.name}; data.classes=null is needed"
        )
    number = np.full(len(data.class_names), -1)
    if max(classes) >= len(number):
        raise ConfigError(
            f"data.classes={list(classes)}: the classes of data={data.name} are 0 to {len(number) - 1}"
        )
    number[list(classes)] = np.arange(len(classes))
    held = data.keep(np.flatnonzero(number[data.y] >= 0))
    test_x, test_y = data.test_x, data.test_y
    if test_x is not None and test_y is not None:
        tested = number[test_y] >= 0
        test_x, test_y = test_x[tested], number[test_y[tested]]
    names = tuple(data.class_names[k] for k in classes)
    return replace(held, y=number[held.y], class_names=names, test_x=test_x, test_y=test_y)


def _check_classes(classes: Sequence[int]) -> None:
    numbers = isinstance(classes, list | tuple) and all(type(k) is int and k >= 0 for k in classes)
    if not numbers or len(classes) < 2 or len(set(classes)) < len(classes):
        raise ConfigError(
            f"data.classes={classes}: two or more different class numbers, such as [0,2,6], are needed"
        )


def long_tail(y: np.ndarray, num_classes: int, ratio: float) -> np.ndarray:
    """Rows that keep n_y = floor(n_max ratio^(-y / (M - 1))) samples of class y, drawn at random.

    The exponential long tail of Cui et al., CVPR 2019 (arXiv 1901.05555), with `ratio` = n_max / n_min;
    a class that has fewer keeps what it has.
    """
    draw = rng(0, "longtail")
    largest = np.bincount(y, minlength=num_classes).max()
    kept = []
    for label in range(num_classes):
        rows = draw.permutation(np.flatnonzero(y == label))
        # the tiny term keeps a product that is exactly a whole number from falling one short
        size = int(np.floor(largest * ratio ** (-label / max(num_classes - 1, 1)) + 1e-9))
        kept.append(rows[:size])
    return np.sort(np.concatenate(kept))


def subset(data: DataSet, size: int) -> np.ndarray:
    """About `size` rows with the pool's label mix; of text, the first share of each person's text."""
    if not data.is_text:
        draw = rng(0, "subset")
        order = np.lexsort((draw.random(len(data.y)), data.y))
        return np.sort(order[evenly(len(order), size, draw)])
    assert data.persons is not None
    given = np.zeros(len(data.y), bool) if data.is_test is None else data.is_test
    _, group, total = np.unique(data.persons * 2 + given, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(total) - total, total)
    return np.flatnonzero(rank < np.maximum(total[group] * size // len(data.y), 1))
