"""The interface of every generator: `sample(labels, rng) -> Tensor`, with explicit noise and seeds.

`sample` is `forward(draw(n, rng), labels)`. Training needs the noise apart from the sample (diversity terms
compare both), so the two halves are public. A generator makes samples at one cut of a network at a time:
cut 0 is the network's input, cut c the output of its first c blocks.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel

Shape = tuple[int, ...]
Norm = Literal["batch", "group", "none"]
Label = Literal["onehot", "embedding", "none"]
Merge = Literal["concat", "product", "sum"]
NoiseKind = Literal["gaussian", "uniform"]


class Generator(nn.Module):
    """Synthetic samples by label.

    shapes: shape of a sample, without batch, by cut; generation starts at the deepest cut
    num_classes: M
    nz: numbers of noise a sample
    noise: gaussian N(0, 1), or uniform on [0, 1] as FedGen's release draws it
    """

    def __init__(
        self, shapes: Mapping[int, Sequence[int]], num_classes: int, nz: int, noise: NoiseKind = "gaussian"
    ) -> None:
        super().__init__()
        whole("generator.nz", nz, 1)
        self.shapes: dict[int, Shape] = {int(cut): tuple(shape) for cut, shape in shapes.items()}
        self.num_classes = num_classes
        self.nz = nz
        self.noise = choice("noise", noise, ("gaussian", "uniform"))
        self.cut = max(self.shapes)

    @property
    def shape(self) -> Shape:
        """Shape of a sample at the present cut, without batch."""
        return self.shapes[self.cut]

    def move(self, cut: int) -> Self:
        """Generate at another of the candidate cuts from now on."""
        if cut not in self.shapes:
            raise ConfigError(f"the generator has no output at cut {cut}, only at {sorted(self.shapes)}")
        self.cut = cut
        return self

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Noise `(n, nz)`."""
        return (torch.randn if self.noise == "gaussian" else torch.rand)(n, self.nz, generator=rng)

    def merge(self, noise: Tensor, labels: Tensor) -> Tensor:
        """What the generator makes of noise `(B, nz)` and labels `(B,)` before its first layer: `(B, nv)`."""
        return noise

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Samples `(B, *shape)` from noise `(B, nz)` and labels `(B,)`."""
        raise NotImplementedError

    def sample(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Samples `(B, *shape)` with the wanted labels `(B,)`."""
        return self(self.draw(len(labels), rng).to(labels.device), labels)


class Condition(nn.Module):
    """Joins noise and label: v = concat(eps, e(y)), eps * e(y) (DFRD's product) or eps + e(y).

    label: e(y) is the one-hot code, a learnt embedding of nz numbers, or left out (unconditional)
    """

    def __init__(self, nz: int, num_classes: int, label: Label, merge: Merge) -> None:
        super().__init__()
        self.label = choice("label", label, ("onehot", "embedding", "none"))
        self.merge = choice("merge", merge, ("concat", "product", "sum"))
        if merge != "concat" and label == "onehot":
            raise ConfigError(
                f"generator.merge={merge} needs generator.label=embedding; onehot goes with concat"
            )
        self.num_classes = num_classes
        self.embedding = nn.Embedding(num_classes, nz) if label == "embedding" else None
        extra = {"onehot": num_classes, "embedding": nz, "none": 0}[label]
        self.width = nz + (extra if merge == "concat" else 0)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        if self.label == "none":
            return noise
        if self.embedding is None:
            code = F.one_hot(labels, self.num_classes).to(noise.dtype)
        else:
            code = self.embedding(labels)
        if self.merge == "concat":
            return torch.cat([noise, code], dim=1)
        return noise * code if self.merge == "product" else noise + code


def norm_layer(kind: Norm, channels: int, rank: int, affine: bool = True) -> nn.Module:
    """Normalisation of `channels` channels over `rank` further axes (0: vectors).

    Groups hold at least four channels: a group of one value in a vector would be normalised to zero.
    """
    choice("norm", kind, ("batch", "group", "none"))
    if kind == "none":
        return nn.Identity()
    if kind == "group":
        groups = next((g for g in (8, 4, 2) if channels % g == 0 and channels >= 4 * g), 1)
        return nn.GroupNorm(groups, channels, affine=affine)
    return (nn.BatchNorm2d if rank == 2 else nn.BatchNorm1d)(channels, affine=affine)


def choice(key: str, value: str, accepted: tuple[str, ...]) -> str:
    """`value` where it is one of `accepted`; otherwise one sentence."""
    if value not in accepted:
        raise ConfigError(f"generator.{key}={value}: one of {', '.join(accepted)} is needed")
    return value


def whole(key: str, value: int, least: int) -> None:
    """Refuse, in one sentence, what is no whole number from `least`; key: as the user writes it."""
    if not isinstance(value, int) or value < least:
        raise ConfigError(f"{key}={value}: a whole number from {least} is needed")


@contextmanager
def seeded(rng: torch.Generator) -> Iterator[None]:
    """Let torch's layers initialise themselves from `rng`; the global CPU generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        yield


@torch.no_grad()
def reset(module: nn.Module, rng: torch.Generator, std: float = 0.02) -> None:
    """Initialise again in place: weights N(0, std^2), biases 0, normalisation layers as new.

    DENSE and CMI start every synthesised batch from such a generator.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.GroupNorm):
            layer.reset_parameters()
            continue
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "bias":
                parameter.zero_()
            else:
                parameter.normal_(0.0, std, generator=rng)


@torch.no_grad()
def ema_(shadow: nn.Module, model: nn.Module, decay: float) -> None:
    """shadow <- decay * shadow + (1 - decay) * model in place, buffers too; counters are copied (DFRD)."""
    source = model.state_dict()
    for name, tensor in shadow.state_dict().items():
        if tensor.is_floating_point():
            tensor.mul_(decay).add_(source[name], alpha=1.0 - decay)
        else:
            tensor.copy_(source[name])


def shadow_of(model: Generator) -> Generator:
    """A copy to be moved by `ema_`, in evaluation mode."""
    return copy.deepcopy(model).eval()


def shapes_at(model: StagedModel, cuts: Iterable[int]) -> dict[int, Shape]:
    """What a generator for these cuts of a network has to make: cut 0 is the network's input."""
    return {cut: model.shapes[cut - 1] if cut else model.input_shape for cut in cuts}


def volume(shape: Sequence[int]) -> int:
    """How many numbers a sample of this shape has."""
    return math.prod(shape)
