"""Ditto: beside FedAvg, a personal model that is tied to the global one.

T. Li, Hu, Beirami and Smith, ICML 2021, arXiv 2012.04221. Each client keeps

    v_k <- v_k - eta ( grad F_k(v_k) + lambda (v_k - w) ),   w = the global model as received

and sends only what it trained from w. lambda = 0 is local training, a large one gives the global model. As
in the authors' code, both models see the same mini-batches. Reconstructed: v_k begins at the first model that
the client receives.
"""

from collections.abc import Generator
from typing import Any, ClassVar

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
    part,
    proximal,
)


class Ditto(ClientProgram):
    """FedAvg, and a personal model trained beside it.

    strength: lambda, of the tie to the received model
    personal_epochs: passes of the personal model over the training split, where they differ from `local.*`
    """

    personal_model = True
    class_margins = True
    search_space: ClassVar[dict[str, Any]] = {
        **ClientProgram.search_space,
        "method.client.strength": {"low": 0.01, "high": 5.0, "log": True},
    }

    def __init__(self, strength: float = 1.0, personal_epochs: int | None = None) -> None:
        if strength < 0:
            raise ConfigError(f"method.client.strength={strength}: 0 or more is needed")
        if personal_epochs is not None and personal_epochs < 1:
            raise ConfigError(
                f"method.client.personal_epochs={personal_epochs}: a whole number from 1, or null, is needed"
            )
        self.strength = strength
        self.personal_epochs = personal_epochs

    def work(self, task: Task, state: State) -> Work:
        shared = yield Phase(task.received, self.loss)
        personal = yield Phase(
            part(state, "personal") or task.received,
            self.loss,
            epochs=self.personal_epochs,
            gradient=proximal(task.received, self.strength),
            replay=True,
        )
        return Reply({ARRAYS: shared}, state=joined(personal=personal), trained=personal)

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        return part(state, "personal") or task.received
        yield  # a generator even where it trains nothing
