"""Methods that share one part of the network and keep the other at the client.

FedPer (Arivazhagan et al. 2019, arXiv 1912.00818) keeps the head, LG-FedAvg (Liang et al. 2020, arXiv
2001.01523) the body, FedBN (Li et al., ICLR 2021, arXiv 2102.07623) the normalisation layers; FedRep (Collins
et al., ICML 2021, arXiv 2102.07078) trains head and body in turn; FedBABU (Oh, Kim and Yun, ICLR 2022, arXiv
2106.06042) never trains the head during federation and fine-tunes the whole model where it is used.

Reconstructed: a client that has not taken part yet trains its private part before it uses a model; averages
are weighted by sample counts (LG-FedAvg and FedBABU give all sampled clients the same weight), and LG-FedAvg
starts from the common initial weights, not from a FedAvg checkpoint.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, ClassVar, Literal

from torch import nn

from clients.fedavg import FINE_TUNING, check_fine_tuning
from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.training.program import ClientProgram, Params, Phase, State, Task, Work

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


class Split(ClientProgram):
    """Train the whole model, share one part of it.

    private: what stays at the client: the head, the body, or the normalisation layers (norm)
    cut: number of blocks in the body; by default all but the last
    """

    personal_model = True
    class_margins = True
    global_model = False

    def __init__(self, private: Literal["head", "body", "norm"] = "head", cut: int | None = None) -> None:
        if private not in ("head", "body", "norm"):
            raise ConfigError(f"method.client.private={private}: one of head, body, norm is needed")
        self.kind = private
        self.cut = cut

    def private(self, network: StagedModel) -> set[str]:
        if self.kind == "norm":
            return norm_names(network)
        cut = network.num_blocks - 1 if self.cut is None else self.cut
        network.check_cut(cut)
        return set(network.keys(cut) if self.kind == "head" else network.keys(0, cut))

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        start = self.start(task, state)
        if state:
            return start
        return (yield Phase(start, self.loss, moves=self.private(task.network).__contains__))


class FedRep(Split):
    """The head alone first, then the body alone for the epochs of `local`.

    head_epochs: passes over the training split for the head
    cut: number of blocks in the body; by default all but the last
    """

    search_space: ClassVar[dict[str, Any]] = {
        **Split.search_space,
        "method.client.head_epochs": [1, 2, 5],
    }

    def __init__(self, head_epochs: int = 1, cut: int | None = None) -> None:
        if head_epochs < 1:
            raise ConfigError(f"method.client.head_epochs={head_epochs}: a whole number from 1 is needed")
        super().__init__("head", cut)
        self.head_epochs = head_epochs

    def work(self, task: Task, state: State) -> Work:
        head = self.private(task.network)
        start = self.start(task, state)
        fitted = yield Phase(start, self.loss, moves=head.__contains__, epochs=self.head_epochs)
        trained = yield Phase(fitted, self.loss, moves=lambda name: name not in head)
        return self.reply(trained, head)


class FedBABU(Split):
    """The body alone, under a head that stays as it was drawn, the same at all clients.

    finetune_epochs: passes over the training split, whole model, that give the model a client uses
    cut: number of blocks in the body; by default all but the last
    finetune_lr: step size of these passes, as a factor on the local one
    """

    search_space: ClassVar[dict[str, Any]] = {**Split.search_space, **FINE_TUNING}

    def __init__(self, finetune_epochs: int = 5, cut: int | None = None, finetune_lr: float = 1.0) -> None:
        check_fine_tuning(finetune_epochs, finetune_lr)
        super().__init__("head", cut)
        self.finetune_epochs, self.finetune_lr = finetune_epochs, finetune_lr

    def work(self, task: Task, state: State) -> Work:
        head = self.private(task.network)
        trained = yield Phase(self.start(task, state), self.loss, moves=lambda name: name not in head)
        return replace(self.reply(trained, head), state=None)  # every client has the head from the seed

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        epochs, factor = self.finetune_epochs, self.finetune_lr
        return (yield Phase(self.start(task, state), self.loss, epochs=epochs, lr_scale=factor))


def norm_names(network: StagedModel) -> set[str]:
    """State names, parameters and statistics, of the normalisation layers."""
    layers = [name for name, layer in network.named_modules() if isinstance(layer, _NORMS)]
    if not layers:
        raise ConfigError(
            "method.client.private=norm: this model has no normalisation layers; model.norm=batch or group, "
            "or a model that has some, is needed"
        )
    return {name for name in network.state_dict() if name.rpartition(".")[0] in layers}
