"""SGD without momentum and weight decay: a tenth of a small step is what PyTorch's own does around it."""

from collections.abc import Sequence

import torch
from torch import Tensor


class PlainSGD:
    """w <- w - lr * gradient, by the kernel of `torch.optim.SGD(foreach=True)` and so with its bits.

    parameters: those without a gradient stay where they are
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        self.parameters, self.lr = list(parameters), lr

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients."""
        held = [(p, p.grad) for p in self.parameters if p.grad is not None]
        if held:
            torch._foreach_add_([p for p, _ in held], [g for _, g in held], alpha=-self.lr)
