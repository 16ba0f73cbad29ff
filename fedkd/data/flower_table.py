"""flwr-datasets' partitioners over a light table: one column in, row numbers out.

A partitioner ends in `dataset.select(rows)` for every client. On a real table this builds a view, of which
one would have to read the row numbers back; `IndexTable.select` returns them, 10 to 50 times as fast.
"""

import contextlib
import io
import warnings
from typing import Any

import datasets
import numpy as np
from flwr_datasets.partitioner import Partitioner

COLUMN = "key"


class IndexTable(datasets.Dataset):
    """A table of one column whose selections are arrays of row numbers."""

    rows: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, rows: np.ndarray | None = None) -> "IndexTable":
        """A table of `values`; `rows` are the numbers that selections return, 0 to n-1 if not given."""
        table = cls.from_dict({COLUMN: values})
        table.rows = np.arange(len(values)) if rows is None else rows
        return table

    def select(self, indices: Any, **_: Any) -> np.ndarray:
        """The row numbers at `indices`."""
        return self.rows[np.asarray(indices, np.int64)]

    def sort(self, column_names: Any, **_: Any) -> "IndexTable":
        """The same rows in the order of the values; equal ones keep their order."""
        values = np.asarray(self[COLUMN])
        order = np.argsort(values, kind="stable")
        return IndexTable.of(values[order], self.rows[order])


def draw(partitioner: Partitioner, values: np.ndarray) -> list[np.ndarray]:
    """Every partition's row numbers; ValueError where the partitioner gives up. Its remarks are swallowed."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        partitioner.dataset = IndexTable.of(values)
        return [partitioner.load_partition(k) for k in range(partitioner.num_partitions)]
