"""A small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929), staged like every other network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.models.layers import need_image
from fedkd.models.staged import StagedModel


def vit(
    input_shape: Sequence[int],
    num_classes: int,
    patch: int = 4,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
) -> StagedModel:
    """Patches to tokens, `depth` pre-norm blocks, the tokens' mean, linear: `depth + 2` blocks.

    Departures from the paper: tokens are averaged, there is no class token, and no dropout. 49 tokens of
    28 x 28, 64 of 32 x 32 at the default patch.

    patch: side of a patch, which divides the image's sides
    width: of a token; heads: of the attention, which divide it
    """
    need_image("vit", input_shape, patch)
    channels, height, side = input_shape
    if height % patch or side % patch:
        raise ConfigError(f"model.patch={patch} does not divide images of {height} x {side}")
    if width % heads:
        raise ConfigError(f"model.heads={heads} does not divide model.width={width}")
    tokens = (height // patch) * (side // patch)
    blocks: list[nn.Module] = [Patches(channels, patch, width, tokens)]
    blocks += [Block(width, heads) for _ in range(depth)]
    blocks.append(nn.Sequential(nn.LayerNorm(width), Mean(), nn.Linear(width, num_classes)))
    return StagedModel(blocks, input_shape)


class Patches(nn.Module):
    """Images `(B, C, H, W)` to tokens `(B, L, D)` with a learnt position each."""

    def __init__(self, channels: int, patch: int, width: int, tokens: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x).flatten(2).mT + self.position


class Block(nn.Module):
    """Attention and a perceptron of four times the width, each after a normalisation, beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, z: Tensor) -> Tensor:
        z = z + self.attend(self.before(z))
        return z + self.perceptron(self.between(z))

    def attend(self, z: Tensor) -> Tensor:
        """`(B, L, D) -> (B, L, D)`."""
        q, k, v = self.read(z).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.write(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mean(nn.Module):
    """Mean over the tokens: `(B, L, D) -> (B, D)`."""

    def forward(self, z: Tensor) -> Tensor:
        return z.mean(1)
