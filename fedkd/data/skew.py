"""Feature skew and label noise: what a client's instrument or annotator does to its data.

Both act on a client's share after it was gathered and normalised, so their unit is the standard deviation of
the training pool, and the global test set stays clean. Every draw is seeded by the client.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.data.checks import real
from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.seeds import rng, torch_rng


@dataclass(frozen=True)
class Skew:
    """How far clients' features may differ; 0 switches a term off.

    rotation: client k's images are turned by one angle from [-rotation, rotation] degrees;
    colour: each channel of client k is scaled by one gain from [1 - colour, 1 + colour] and shifted by one
    bias from [-colour, colour]; noise: client k's features get noise of one deviation from [0, noise].
    """

    rotation: float = 0.0
    colour: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        real("skew.rotation", self.rotation, 0, 180)
        real("skew.colour", self.colour, 0, 1)
        real("skew.noise", self.noise, 0, math.inf, open_high=True)

    def check(self, name: str, input_shape: tuple[int, ...], is_text: bool) -> None:
        """Refuse what these features do not have."""
        if is_text and (self.rotation or self.colour or self.noise):
            raise ConfigError(f"skew has no meaning for the text of data={name}; set skew.* to 0")
        if self.rotation and len(input_shape) != 3:
            raise ConfigError(f"skew.rotation turns images, data={name} has none; set skew.rotation to 0")

    def apply(self, data: ClientData, seed: int) -> ClientData:
        """The client's three splits as its instrument sees them."""
        if not (self.rotation or self.colour or self.noise):
            return data
        draw = rng(seed, "skew", data.client)
        angle = math.radians(draw.uniform(-self.rotation, self.rotation))
        shape = (-1,) + (1,) * (data.train.x.ndim - 2)
        channels = data.train.x.shape[1]
        gain = torch.from_numpy(draw.uniform(1 - self.colour, 1 + self.colour, channels)).float().view(shape)
        bias = torch.from_numpy(draw.uniform(-self.colour, self.colour, channels)).float().view(shape)
        deviation = draw.uniform(0, self.noise)

        def seen(samples: Samples, part: int) -> Samples:
            x = rotate(samples.x, angle) if self.rotation else samples.x
            grain = torch.randn(x.shape, generator=torch_rng(seed, "skew-noise", data.client, part))
            return replace(samples, x=x * gain + bias + deviation * grain)

        train, val, test = (seen(s, part) for part, s in enumerate((data.train, data.val, data.test)))
        return replace(data, train=train, val=val, test=test)


def rotate(x: Tensor, angle: float) -> Tensor:
    """(B, C, H, W) images turned anticlockwise by `angle` radians about the centre, edges repeated."""
    if not len(x):
        return x
    cos, sin = math.cos(angle), math.sin(angle)
    h, w = x.shape[-2:]
    turn = torch.tensor([[cos, -sin * h / w, 0.0], [sin * w / h, cos, 0.0]])
    grid = F.affine_grid(turn.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class LabelNoise:
    """Wrong labels at some clients: in what they train on, and in what they validate on, which is theirs too.

    Their test splits keep the truth. A client whose labels are wrong tells a high risk, as it would.
    clients: fraction of clients that have any; labels: fraction of these clients' labels
    """

    clients: float = 0.0
    labels: float = 0.0

    def __post_init__(self) -> None:
        real("label_noise.clients", self.clients, 0, 1)
        real("label_noise.labels", self.labels, 0, 1)

    def chosen(self, num_clients: int, seed: int) -> frozenset[int]:
        """The clients with wrong labels."""
        count = round(self.clients * num_clients) if self.labels else 0
        return (
            frozenset(rng(seed, "label-noise-clients").permutation(num_clients)[:count].tolist())
            if count
            else frozenset()
        )

    def apply(self, data: ClientData, seed: int) -> ClientData:
        """The client with `round(n * labels)` labels a split moved to another class; its mix stays true."""
        draw = rng(seed, "label-noise", data.client)

        def noisy(samples: Samples) -> Samples:
            y = samples.y.clone()
            wrong = torch.from_numpy(draw.permutation(len(y))[: round(len(y) * self.labels)])
            shift = torch.from_numpy(draw.integers(1, data.num_classes, len(wrong), dtype=np.int64))
            y[wrong] = (y[wrong] + shift) % data.num_classes
            return replace(samples, y=y)

        return replace(data, train=noisy(data.train), val=noisy(data.val), true_mix=data.mix)


@dataclass(frozen=True)
class Distortion:
    """Skew and label noise of a whole federation."""

    skew: Skew
    label_noise: LabelNoise
    num_clients: int
    seed: int

    @cached_property
    def _noisy(self) -> frozenset[int]:
        return self.label_noise.chosen(self.num_clients, self.seed)

    def apply(self, data: ClientData) -> ClientData:
        """The client's data as it holds them."""
        data = self.skew.apply(data, self.seed)
        return self.label_noise.apply(data, self.seed) if data.client in self._noisy else data
