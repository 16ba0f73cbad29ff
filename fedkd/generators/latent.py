"""Conditional generator of vectors and feature maps: latents at the cuts of a network, or rows of a table.

FedGen (Zhu et al., ICML 2021, arXiv 2105.10056): concat(noise, one-hot) - Linear - BatchNorm - ReLU - Linear
to the input of the last layer; sizes (hidden, nz) are (256, 32) for MNIST and EMNIST. Of our own: several
candidate cuts share that trunk and have one output layer each, so that the generator follows FedD2S when the
cut moves; feature maps are made at half their resolution, enlarged and convolved.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

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
    norm_layer,
    seeded,
    volume,
    whole,
)

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


class Latent(Generator):
    """Features `(B, *shapes[cut])` by label; a table's rows are the features at cut 0.

    rng: seeds the initial weights
    nz, hidden, depth: noise size; width and number of the trunk's hidden layers
    label, merge: how noise and label are joined, see `Condition`
    norm: normalisation in the trunk
    """

    def __init__(
        self,
        shapes: Mapping[int, Sequence[int]],
        num_classes: int,
        rng: torch.Generator,
        nz: int = 32,
        hidden: int = 256,
        depth: int = 1,
        label: Label = "onehot",
        merge: Merge = "concat",
        norm: Norm = "batch",
        noise: NoiseKind = "gaussian",
    ) -> None:
        super().__init__(shapes, num_classes, nz, noise)
        whole("generator.hidden", hidden, 1)
        whole("generator.depth", depth, 0)
        with seeded(rng):
            self.condition = Condition(nz, num_classes, label, merge)
            widths = [self.condition.width] + [hidden] * depth
            layers: list[nn.Module] = []
            for before, after in pairwise(widths):
                layers += [nn.Linear(before, after), norm_layer(norm, after, 0), nn.ReLU()]
            self.trunk = nn.Sequential(*layers)
            self.outputs = nn.ModuleDict(
                {str(cut): _output(widths[-1], shape) for cut, shape in self.shapes.items()}
            )

    def merge(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.condition(noise, labels)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.outputs[str(self.cut)](self.trunk(self.merge(noise, labels)))


def _output(width: int, shape: Shape) -> nn.Module:
    """A layer from `(B, width)` to `(B, *shape)`."""
    channels, *size = shape
    if not size:
        return nn.Linear(width, channels)
    if len(size) not in CONVOLUTIONS:
        raise ConfigError(f"a latent generator makes vectors, (C, T) and (C, H, W) maps, not shape {shape}")
    coarse = (channels, *(-(-s // 2) for s in size))
    return nn.Sequential(
        nn.Linear(width, volume(coarse)),
        nn.Unflatten(1, coarse),
        nn.Upsample(size=tuple(size)),
        CONVOLUTIONS[len(size)](channels, channels, 3, padding=1),
    )
