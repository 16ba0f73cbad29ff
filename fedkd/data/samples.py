"""What a client holds: labelled samples in three splits.

`B` samples, `M` classes. Features are float32 (B, C, H, W) images, (B, C, T) windows or (B, d) table rows,
or int64 (B, T) text; they are normalised and ready for a network.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Samples:
    """x: (B, ...) features; y: (B,) int64 labels; ids: (B,) int64, unique within the data set."""

    x: Tensor
    y: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return self.y.shape[0]

    def take(self, index: Tensor) -> "Samples":
        """The samples at `index` (n,), copied, in that order."""
        return Samples(self.x[index], self.y[index], self.ids[index])

    def to(self, device: torch.device) -> "Samples":
        """The samples on a device; themselves where they are there."""
        return Samples(self.x.to(device), self.y.to(device), self.ids.to(device))


@dataclass(frozen=True)
class ClientData:
    """One client's share.

    client: its number; name: the person's, or the number; train, val, test: disjoint splits;
    num_classes: M; true_mix: (M,) label shares where the labels held are not the true ones (label noise).
    """

    client: int
    name: str
    train: Samples
    val: Samples
    test: Samples
    num_classes: int
    true_mix: Tensor | None = None

    def class_counts(self, split: SplitName) -> Tensor:
        """(M,) int64: how many samples of each class the split holds, by the labels it shows."""
        return torch.bincount(getattr(self, split).y, minlength=self.num_classes)

    @property
    def mix(self) -> Tensor:
        """(M,) float64 label shares over all the client's samples, by their true labels; they sum to 1."""
        if self.true_mix is not None:
            return self.true_mix
        counts = sum((self.class_counts(split) for split in ("val", "test")), self.class_counts("train"))
        return counts.double() / counts.sum().clamp(min=1)
