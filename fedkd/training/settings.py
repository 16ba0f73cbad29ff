"""How a client trains: the `local.*` keys, one line a field."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.schedule import at
from fedkd.training.optimizers import SGD


@dataclass(frozen=True)
class LocalSettings:
    """Local training of one client in one round; any number may be a schedule of the round.

    epochs: passes over the client's training split
    steps: optimizer steps instead of epochs, where set
    batch_size: samples a step; the last batch of a pass may be smaller
    lr: step size
    momentum: of SGD
    weight_decay: L2 penalty inside the optimizer
    optimizer: sgd, adam or adamw
    clip_norm: largest L2 norm of the gradient of the whole model, where set
    augment: none, flip, or crop_flip (images only)
    """

    epochs: int = 1
    steps: int | None = None
    batch_size: int = 32
    lr: Any = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    clip_norm: float | None = None
    augment: Literal["none", "flip", "crop_flip"] = "none"

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"local.{key}={getattr(self, key)}: a whole number from 1 is needed")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"local.steps={self.steps}: a whole number from 1, or null, is needed")
        if at(self.lr, 1) <= 0:
            raise ConfigError(f"local.lr={self.lr}: a positive number is needed")
        for key, choices in (("optimizer", ("sgd", *_ADAMS)), ("augment", ("none", "flip", "crop_flip"))):
            if getattr(self, key) not in choices:
                raise ConfigError(f"local.{key}={getattr(self, key)}: one of {', '.join(choices)} is needed")

    def make_optimizer(self, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer | SGD:
        """A fresh optimizer over `parameters` with this step size, by multi-tensor kernels."""
        if self.optimizer == "sgd":
            return SGD(list(parameters), lr, self.momentum, self.weight_decay)
        make: Callable[..., torch.optim.Optimizer] = _ADAMS[self.optimizer]
        return make(list(parameters), lr=lr, weight_decay=self.weight_decay, foreach=True)

    def step_count(self, samples: int) -> int:
        """Optimizer steps that a client with `samples` training samples takes."""
        return self.steps or self.epochs * -(-samples // self.batch_size)


_ADAMS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
