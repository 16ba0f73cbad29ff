"""pFedMe: the global model follows Moreau envelopes of the clients' losses.

Dinh, Tran and Nguyen, NeurIPS 2020, arXiv 2006.08848. On each mini-batch K steps approximate

    theta_k = argmin F_k(theta) + lambda/2 ||theta - w_k||^2,   then   w_k <- w_k - eta lambda (w_k - theta_k)

The client uses theta_k and sends w_k; the server's w <- (1 - beta) w + beta avg(w_k) is Flower's FedAvgM
without momentum (`method.strategy.server_learning_rate` is beta). theta steps by `local.*` (lr is the paper's
eta_p) and goes on from the mini-batch before, at the start of a round from w. Reconstructed: a client passes
over its data for the epochs of `local` (the authors count single mini-batches); the buffers sent are theta's.
"""

from collections.abc import Generator
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.protocol import ARRAYS
from fedkd.training.program import (
    ClientProgram,
    Params,
    Phase,
    Reply,
    State,
    Task,
    Work,
    joined,
    parameter_names,
    part,
    proximal,
)


class PFedMe(ClientProgram):
    """A personal model near the local copy of the global one, which follows it.

    strength: lambda, of the tie between the two
    outer_lr: eta, step size of the local copy; eta lambda stays below 1
    inner_steps: K, of the personal model on each mini-batch
    """

    personal_model = True
    class_margins = True
    search_space: ClassVar[dict[str, Any]] = {
        # A step of theta is stable while its step size times the strength stays below 2.
        "local.lr": {"low": 0.005, "high": 0.1, "log": True},
        "method.client.strength": {"low": 1.0, "high": 20.0, "log": True},
    }

    def __init__(self, strength: float = 15.0, outer_lr: float = 0.005, inner_steps: int = 5) -> None:
        if strength <= 0 or not 0 < strength * outer_lr < 1:
            raise ConfigError(
                f"method.client.strength={strength}, method.client.outer_lr={outer_lr}: positive numbers "
                "with a product below 1 are needed"
            )
        if inner_steps < 1:
            raise ConfigError(f"method.client.inner_steps={inner_steps}: a whole number from 1 is needed")
        self.strength = strength
        self.outer_lr = outer_lr
        self.inner_steps = inner_steps

    def work(self, task: Task, state: State) -> Work:
        local = {name: task.received[name].clone() for name in parameter_names(task.network)}

        def follow(names: list[str], personal: list[Tensor]) -> None:
            torch._foreach_lerp_([local[name] for name in names], personal, self.strength * self.outer_lr)

        personal = yield Phase(
            task.received,
            self.loss,
            repeat=self.inner_steps,
            gradient=proximal(local, self.strength),
            after_batch=follow,
        )
        shared = {name: local.get(name, value) for name, value in personal.items()}
        return Reply({ARRAYS: shared}, state=joined(personal=personal), trained=personal)

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        return part(state, "personal") or task.received
        yield  # a generator even where it trains nothing
