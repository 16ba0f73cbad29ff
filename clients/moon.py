"""MOON: contrastive learning between models.

Li, He and Song, CVPR 2021, arXiv 2103.16257. Beside cross entropy, the local features z are drawn to those of
the received model and away from those of the client's previous one, both frozen:

    mu * -log[ exp(s_glob) / (exp(s_glob) + exp(s_prev)) ],   s = cos(z, z_frozen) / T

Without a previous model both are the same and the term is constant. Departures: z enters the last block as it
is (the authors add a projection head to the network, which PFLlib also leaves out); frozen features are
computed once a round, on the samples as they are, in evaluation mode.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.protocol import ARRAYS
from fedkd.training.program import (
    Batch,
    ClientProgram,
    Params,
    Phase,
    Reply,
    State,
    Task,
    Work,
    joined,
    part,
    quiet,
)


class Moon(ClientProgram):
    """FedAvg whose features stay near the received model's.

    strength: mu; 0 is FedAvg, bit for bit
    temperature: T
    """

    class_margins = True
    search_space: ClassVar[dict[str, Any]] = {
        **ClientProgram.search_space,
        "method.client.strength": {"low": 0.01, "high": 10.0, "log": True},
        "method.client.temperature": [0.1, 0.5, 1.0],
    }

    def __init__(self, strength: float = 1.0, temperature: float = 0.5) -> None:
        if strength < 0:
            raise ConfigError(f"method.client.strength={strength}: 0 or more is needed")
        if temperature <= 0:
            raise ConfigError(f"method.client.temperature={temperature}: a positive number is needed")
        self.strength = strength
        self.temperature = temperature

    def check(self, network: StagedModel) -> None:
        network.check_cut(1)

    def start(self, task: Task, state: State) -> Params:
        return dict(task.received)

    def work(self, task: Task, state: State) -> Work:
        previous = part(state, "previous")
        if previous and self.strength:
            cut, x = task.network.num_blocks - 1, task.data.train.x
            frozen = {"global": task.received, "previous": previous}
            extras = {name: task.predict(params, x, cut).flatten(1) for name, params in frozen.items()}
            trained = yield Phase(task.received, self.contrast, extras=extras)
        else:
            trained = yield Phase(task.received, self.loss)
        return Reply({ARRAYS: trained}, state=joined(previous=trained), trained=trained)

    def contrast(self, model: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy and the contrastive term, (B,), with the value of the first."""
        cut = model.num_blocks - 1
        z = model.features(batch.x, cut)
        near, far = (
            F.cosine_similarity(z.flatten(1), batch.extras[name], dim=1) / self.temperature
            for name in ("global", "previous")
        )
        hard = F.cross_entropy(model.head(z, cut), batch.y, reduction="none")
        return hard + self.strength * quiet(F.softplus(far - near))
