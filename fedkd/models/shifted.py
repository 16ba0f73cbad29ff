"""A staged network whose logits are moved by a constant a class: margins, for every loss that asks it.

The margin form of a class-weighted loss (`fedkd.robust.worst_class`) is the plain loss of `f - log c`. A
loss, a head at another cut, or an ensemble that is handed this view of a network has margins unawares.
"""

from torch import Tensor, nn

from fedkd.models.staged import StagedModel


class Shifted(StagedModel):
    """`network` with `shift` (M,) added to its logits; its blocks, weights and names are the network's own.

    The shift is no part of the state. Features are as they were.
    """

    def __init__(self, network: StagedModel, shift: Tensor) -> None:
        nn.Module.__init__(self)
        self.blocks = network.blocks
        self.input_shape, self.dtype, self.shapes = network.input_shape, network.dtype, network.shapes
        self.shift = shift

    def all_features(self, x: Tensor) -> list[Tensor]:
        *inner, logits = super().all_features(x)
        return [*inner, logits + self.shift]

    def _run(self, x: Tensor, start: int, stop: int | None) -> Tensor:
        out = super()._run(x, start, stop)
        return out + self.shift if stop is None else out


class Offset(nn.Module):
    """The shift alone, as a layer after the last."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, logits: Tensor) -> Tensor:
        """The shifted logits (..., M)."""
        return logits + self.shift
