"""FedAvg's client, with a proximal term where the server asks for one, and FedAvg fine-tuned.

FedAvg: McMahan et al., AISTATS 2017, arXiv 1602.05629. FedProx: Li et al., MLSys 2020, arXiv 1812.06127,
local objective F_k(w) + mu/2 ||w - w_received||^2. `mu` comes from the server (`proximal-mu`), as Flower's
FedProx strategy sends it; 0 is FedAvg bit for bit.
"""

from collections.abc import Generator
from typing import Any, ClassVar, Literal

from fedkd.errors import ConfigError
from fedkd.training.program import ClientProgram, Params, Phase, State, Task, Work, proximal

FINE_TUNING: dict[str, Any] = {"method.client.finetune_lr": {"low": 0.03, "high": 3.0, "log": True}}
"""What is searched where a client fine-tunes: from a well averaged model a small step is better."""


class FedAvg(ClientProgram):
    """Train the received model, send it back.

    train_loss: whether the reported loss of the received model is of the first batch or of all samples
    """

    class_margins = True

    def __init__(self, train_loss: Literal["batch", "all"] = "batch") -> None:
        if train_loss not in ("batch", "all"):
            raise ConfigError(f"method.client.train_loss={train_loss}: one of batch, all is needed")
        self.exact_train_loss = train_loss == "all"

    def start(self, task: Task, state: State) -> Params:
        return dict(task.received)

    def work(self, task: Task, state: State) -> Work:
        mu = float(task.config.get("proximal-mu", 0.0))
        trained = yield Phase(task.received, self.loss, gradient=proximal(task.received, mu))
        return self.reply(trained)


class FineTuned(FedAvg):
    """FedAvg whose clients use a fine-tuned copy of the global model.

    finetune_epochs: passes over the training split
    finetune_lr: step size of these passes, as a factor on the local one
    """

    personal_model = True
    search_space: ClassVar[dict[str, Any]] = {**FedAvg.search_space, **FINE_TUNING}

    def __init__(
        self,
        finetune_epochs: int = 1,
        finetune_lr: float = 1.0,
        train_loss: Literal["batch", "all"] = "batch",
    ) -> None:
        super().__init__(train_loss)
        check_fine_tuning(finetune_epochs, finetune_lr)
        self.finetune_epochs, self.finetune_lr = finetune_epochs, finetune_lr

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        epochs, factor = self.finetune_epochs, self.finetune_lr
        return (yield Phase(self.start(task, state), self.loss, epochs=epochs, lr_scale=factor))


def check_fine_tuning(epochs: int, lr: float) -> None:
    """Raise ConfigError where these are no passes, or no factor on a step size."""
    if epochs < 1:
        raise ConfigError(f"method.client.finetune_epochs={epochs}: a whole number from 1 is needed")
    if lr <= 0:
        raise ConfigError(f"method.client.finetune_lr={lr}: a positive factor is needed")
