"""FedAvg's client, with fine-tuning and a proximal term as options.

FedAvg: McMahan et al., AISTATS 2017, arXiv 1602.05629. FedProx: Li et al., MLSys 2020, arXiv 1812.06127,
local objective F_k(w) + mu/2 ||w - w_received||^2. `mu` comes from the server (`proximal-mu`), as Flower's
FedProx strategy sends it; 0 is FedAvg bit for bit.
"""

from collections.abc import Generator
from typing import Literal

from fedkd.errors import ConfigError
from fedkd.training.program import ClientProgram, Params, Phase, State, Task, Work, proximal


class FedAvg(ClientProgram):
    """Train the received model, send it back; optionally use a fine-tuned copy.

    finetune_epochs: passes over the training split that turn the global model into the client's own; 0: none
    finetune_lr: step size of these passes, as a factor on the local one
    train_loss: whether the reported loss of the received model is of the first batch or of all samples
    """

    class_margins = True

    def __init__(
        self,
        finetune_epochs: int = 0,
        train_loss: Literal["batch", "all"] = "batch",
        finetune_lr: float = 1.0,
    ) -> None:
        if finetune_epochs < 0:
            raise ConfigError(f"method.client.finetune_epochs={finetune_epochs}: 0 or more is needed")
        if finetune_lr <= 0:
            raise ConfigError(f"method.client.finetune_lr={finetune_lr}: a positive factor is needed")
        if train_loss not in ("batch", "all"):
            raise ConfigError(f"method.client.train_loss={train_loss}: one of batch, all is needed")
        self.finetune_epochs, self.finetune_lr = finetune_epochs, finetune_lr
        self.personal_model = finetune_epochs > 0
        self.exact_train_loss = train_loss == "all"

    def start(self, task: Task, state: State) -> Params:
        return dict(task.received)

    def work(self, task: Task, state: State) -> Work:
        mu = float(task.config.get("proximal-mu", 0.0))
        trained = yield Phase(task.received, self.loss, gradient=proximal(task.received, mu))
        return self.reply(trained)

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        if not self.finetune_epochs:
            return None
        epochs, factor = self.finetune_epochs, self.finetune_lr
        return (yield Phase(task.received, self.loss, epochs=epochs, lr_scale=factor))
