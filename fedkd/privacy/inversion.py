"""Inversion of features: how well a network rebuilds a client's inputs from what it sends at a cut.

A decoder D is trained on an attacker's own samples x and their features z, min E ||D(z) - x||^2, and is then
asked about the features of a client it never saw (Dosovitskiy and Brox, CVPR 2016, arXiv 1506.02753; as an
attack on split networks He et al., ACSAC 2019). Architecture and step sizes are our own choice.

Beside it stand what needs no features at all: the attacker's mean sample, and its mean sample of the label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.data.samples import Samples
from fedkd.generators.base import seeded, volume
from fedkd.training.descent import descend
from fedkd.training.optimizers import Adam

Shape = Sequence[int]


@dataclass(frozen=True)
class Training:
    """Of a decoder: Adam steps, batch size, step size, channels (or hidden width / 8) of its layers."""

    steps: int = 400
    batch_size: int = 64
    lr: float = 1e-3
    width: int = 32


class Decoder(nn.Sequential):
    """From features `(B, *source)` to samples `(B, *target)`: by convolutions for images and windows.

    Feature vectors first become a map of a quarter of the target's length; maps are enlarged from where they
    are. Table rows are decoded by a perceptron.
    """

    def __init__(self, source: Shape, target: Shape, width: int) -> None:
        rank = len(target) - 1
        if rank == 0:
            into, out = nn.Linear(volume(source), 8 * width), nn.Linear(8 * width, target[0])
            super().__init__(nn.Flatten(), into, nn.ReLU(), out)
            return
        conv = nn.Conv2d if rank == 2 else nn.Conv1d
        layers: list[nn.Module] = []
        channels, size = source[0], tuple(source[1:])
        if len(size) != rank:
            channels, size = width, tuple(-(-n // 4) for n in target[1:])
            small = (channels, *size)
            into = nn.Linear(volume(source), volume(small))
            layers = [nn.Flatten(), into, nn.ReLU(), nn.Unflatten(1, small)]
        middle = tuple(-(-n // 2) for n in target[1:])
        if any(a < b for a, b in zip(size, middle, strict=True)):
            layers += [conv(channels, width, 3, padding=1), nn.ReLU(), nn.Upsample(middle)]
            channels = width
        layers += [conv(channels, width, 3, padding=1), nn.ReLU(), nn.Upsample(tuple(target[1:]))]
        layers += [conv(width, width, 3, padding=1), nn.ReLU(), conv(width, target[0], 3, padding=1)]
        super().__init__(*layers)


def train_decoder(z: Tensor, x: Tensor, training: Training, rng: torch.Generator) -> Decoder:
    """A decoder fitted to features `(n, ...)` of samples `(n, ...)`; features are scaled to mean square 1."""
    scale = z.square().mean().sqrt().clamp_min(1e-6)
    with seeded(rng):
        decoder = Decoder(z.shape[1:], x.shape[1:], training.width)
    optimizer = Adam(decoder.parameters(), training.lr)
    for _ in range(training.steps):
        rows = torch.randint(len(x), (training.batch_size,), generator=rng)
        descend(optimizer, F.mse_loss(decoder(z[rows] / scale), x[rows]))
    decoder.insert(0, Scale(1 / float(scale)))
    return decoder.eval().requires_grad_(False)


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def mean_guess(known: Samples, wanted: Samples) -> Tensor:
    """The attacker's mean sample, as often as there are wanted ones: what is guessed without any features."""
    return known.x.mean(0, keepdim=True).expand_as(wanted.x)


def label_guess(known: Samples, wanted: Samples) -> Tensor:
    """The attacker's mean sample of each wanted label, the mean of all where it holds none of it."""
    overall = known.x.mean(0)
    classes = wanted.y.unique().tolist()
    table = {c: known.x[known.y == c].mean(0) if (known.y == c).any() else overall for c in classes}
    return torch.stack([table[c] for c in wanted.y.tolist()])


def fidelity(guess: Tensor, truth: Tensor, span: float) -> dict[str, float]:
    """MSE, PSNR in dB, and for images SSIM, of guesses `(n, ...)`; the values of samples span `span`."""
    error = F.mse_loss(guess, truth)
    figures = {"mse": float(error), "psnr": float(10 * torch.log10(span**2 / error.clamp_min(1e-12)))}
    if truth.dim() == 4:
        from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

        figures["ssim"] = float(structural_similarity_index_measure(guess, truth, data_range=span))  # type: ignore[arg-type]
    return figures
