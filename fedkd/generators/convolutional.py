"""Conditional generator of images and of windows of signals.

The network shared by DAFL, DENSE and their kin (specification: Linear to 2 ngf x H/4 x W/4 - BatchNorm -
(upsample, conv 3x3, BatchNorm, LeakyReLU 0.2) twice - conv - output). Here the number of enlargements follows
from the size (28 -> 7, 32 -> 8, 64 -> 8 after three), and the same code makes `(C, T)` windows with
one-dimensional layers. FedFTG's two separate maps of noise and label are `concat` followed by one Linear.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.generators.base import (
    Condition,
    Generator,
    Label,
    Merge,
    NoiseKind,
    Norm,
    Shape,
    choice,
    norm_layer,
    seeded,
    volume,
    whole,
)
from fedkd.generators.latent import CONVOLUTIONS

Output = Literal["standard", "sigmoid", "linear"]
COARSEST = 8
"""Enlargement starts from at most this many pixels a side."""


class Convolutional(Generator):
    """Images `(B, C, H, W)` or windows `(B, C, T)` by label.

    rng: seeds the initial weights
    nz, channels: noise size; ngf of the papers
    label, merge: how noise and label are joined, see `Condition`
    norm: normalisation of the hidden layers
    output: standard (tanh, then BatchNorm without affine part: for standardised data, FedFTG and ZSKT),
        sigmoid (pixels in [0, 1], then standardised by `mean` and `std` as the data were; DENSE), or linear
    """

    def __init__(
        self,
        shapes: Mapping[int, Sequence[int]],
        num_classes: int,
        rng: torch.Generator,
        nz: int = 100,
        channels: int = 64,
        label: Label = "onehot",
        merge: Merge = "concat",
        norm: Norm = "batch",
        noise: NoiseKind = "gaussian",
        output: Output = "standard",
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__(shapes, num_classes, nz, noise)
        whole("generator.channels", channels, 1)
        if len(self.shapes) != 1 or len(self.shape) - 1 not in CONVOLUTIONS:
            raise ConfigError(
                f"a convolutional generator makes one (C, T) or (C, H, W), not {self.shapes}; "
                "generator=table makes rows of a table"
            )
        with seeded(rng):
            self.condition = Condition(nz, num_classes, label, merge)
            self.body = nn.Sequential(*_stem(self.condition.width, self.shape, 2 * channels, norm))
            self.body.extend(_stages(self.shape, channels, norm))
            self.body.append(_finish(output, self.shape, mean, std))
        if len(self.shape) == 3:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def merge(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.condition(noise, labels)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.body(self.merge(noise, labels))


class Scale(nn.Module):
    """Sigmoid pixels in the units of standardised data: (sigmoid(x) - mean) / std by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], rank: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, -1, *[1] * rank))
        self.register_buffer("std", torch.tensor(list(std)).view(1, -1, *[1] * rank))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.sigmoid(x) - self.mean) / self.std


def sizes(shape: Shape) -> list[tuple[int, ...]]:
    """Sizes from the coarsest to the full one, each about twice the last: (7, 7), (14, 14), (28, 28)."""
    found = [shape[1:]]
    while max(found[0]) > COARSEST:
        found.insert(0, tuple(-(-s // 2) for s in found[0]))
    return found


def _stem(width: int, shape: Shape, channels: int, norm: Norm) -> list[nn.Module]:
    first, rank = (channels, *sizes(shape)[0]), len(shape) - 1
    return [nn.Linear(width, volume(first)), nn.Unflatten(1, first), norm_layer(norm, channels, rank)]


def _stages(shape: Shape, channels: int, norm: Norm) -> list[nn.Module]:
    """Enlargements to the full size, the last of which halves the channels; then the sample's channels."""
    rank, steps = len(shape) - 1, sizes(shape)[1:]
    conv = CONVOLUTIONS[rank]
    layers: list[nn.Module] = []
    for place, size in enumerate(steps):
        after = channels if place == len(steps) - 1 else 2 * channels
        layers += [nn.Upsample(size=size), conv(2 * channels, after, 3, padding=1)]
        layers += [norm_layer(norm, after, rank), nn.LeakyReLU(0.2)]
    return [*layers, conv(channels if steps else 2 * channels, shape[0], 3, padding=1)]


def _finish(output: Output, shape: Shape, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    choice("output", output, ("standard", "sigmoid", "linear"))
    rank = len(shape) - 1
    if output == "standard":
        return nn.Sequential(nn.Tanh(), norm_layer("batch", shape[0], rank, affine=False))
    return Scale(mean, std, rank) if output == "sigmoid" else nn.Identity()
