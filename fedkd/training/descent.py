"""One step of an optimizer down a loss, for everything that is trained outside a client's phases."""

from torch import Tensor

from fedkd.training.optimizers import Optimizer


def descend(optimizer: Optimizer, loss: Tensor) -> float:
    """The loss before the step. Gradients are asked for the optimizer's parameters only."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.parameters)
    optimizer.step()
    return float(loss.detach())
