"""SGD and Adam by PyTorch's multi-tensor kernels, without what its optimizers put around them.

That frame is a tenth of a small network's step, and the first optimizer of a process loads PyTorch's
compiler: a second before the first step of every worker, and of the server.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn


class Optimizer:
    """What all have in common; parameters without a gradient stay where they are.

    lr: step size
    clip: largest L2 norm of the gradient of all parameters, where set
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, clip: float | None = None) -> None:
        self.parameters, self.lr, self.clip = list(parameters), lr, clip

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients."""
        moving = [k for k, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if not moving:
            return
        held = [self.parameters[k] for k in moving]
        if self.clip is not None:
            nn.utils.clip_grad_norm_(held, self.clip, foreach=True)
        self._move(moving, held, [cast(Tensor, parameter.grad) for parameter in held])

    def _move(self, places: list[int], held: list[Tensor], along: list[Tensor]) -> None:
        """Move the parameters `held`, known by their `places`, along their gradients."""
        raise NotImplementedError


class SGD(Optimizer):
    """The steps of `torch.optim.SGD(foreach=True)`, with its bits:

    g <- gradient + weight_decay w;  v <- momentum v + g, at first g;  w <- w - lr v
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip: float | None = None,
    ) -> None:
        super().__init__(parameters, lr, clip)
        self.momentum, self.weight_decay = momentum, weight_decay
        self._velocity: dict[int, Tensor] = {}

    def _move(self, places: list[int], held: list[Tensor], along: list[Tensor]) -> None:
        if self.weight_decay:
            along = list(torch._foreach_add(along, held, alpha=self.weight_decay))
        if self.momentum:
            along = self._accumulated(places, along)
        torch._foreach_add_(held, along, alpha=-self.lr)

    def _accumulated(self, places: list[int], along: list[Tensor]) -> list[Tensor]:
        """The velocities of these parameters, one step on."""
        known = [k in self._velocity for k in places]
        if any(known):
            old = [self._velocity[k] for k in places if k in self._velocity]
            torch._foreach_mul_(old, self.momentum)
            torch._foreach_add_(old, [g for g, was in zip(along, known, strict=True) if was])
        for k, gradient, was in zip(places, along, known, strict=True):
            if not was:
                self._velocity[k] = gradient.clone()
        return [self._velocity[k] for k in places]


class Adam(Optimizer):
    """The steps of `torch.optim.Adam(fused=True)`, with its bits; weight_decay is L2, inside the gradient."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip: float | None = None,
    ) -> None:
        super().__init__(parameters, lr, clip)
        self.betas, self.weight_decay = betas, weight_decay
        self._moments: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # first, second, steps so far

    def _move(self, places: list[int], held: list[Tensor], along: list[Tensor]) -> None:
        for k, parameter in zip(places, held, strict=True):
            if k not in self._moments:
                empty, done = torch.zeros_like(parameter), torch.zeros((), device=parameter.device)
                self._moments[k] = (empty, empty.clone(), done)
        first, second, steps = ([self._moments[k][part] for k in places] for part in range(3))
        torch._foreach_add_(steps, 1)
        beta1, beta2 = self.betas
        rest = {"eps": 1e-8, "weight_decay": self.weight_decay, "amsgrad": False, "maximize": False}
        torch._fused_adam_(  # type: ignore[call-overload]
            held, along, first, second, [], steps, lr=self.lr, beta1=beta1, beta2=beta2, **rest
        )


class Together(Optimizer):
    """Several optimizers as one, each with its own step size."""

    def __init__(self, *optimizers: Optimizer) -> None:
        super().__init__([p for optimizer in optimizers for p in optimizer.parameters], lr=0.0)
        self.optimizers = optimizers

    def step(self) -> None:
        """One step of each."""
        for optimizer in self.optimizers:
            optimizer.step()
