"""One step of an optimizer down a loss, for everything that is trained outside a client's phases."""

import torch
from torch import Tensor


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Everything the optimizer moves."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """The loss before the step. Gradients are asked for the optimizer's parameters only."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=parameters_of(optimizer))
    optimizer.step()
    return float(loss.detach())
