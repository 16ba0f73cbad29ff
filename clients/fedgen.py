"""FedGen's client (Zhu et al., ICML 2021, arXiv 2105.10056), and the client of all methods that distil at the
server: FedAvg's, which also tells how many training samples of each class it holds.

    L = CE(f(x), y) + beta_c KL(sigma(h(G(eps, y))) || sigma(f(x))) + (Bg / B) alpha_c CE(h(G(eps, y~)), y~)

h is the head of the model in training, the KL term's target is constant, y~ is uniform over the classes that
the generator was taught (the release draws from all). The last two terms are there in the first local steps
only, and once the server has a generator. Weights may be schedules: the release's are
max(1e-4, 10 * 0.98^t). The loss reported is the cross entropy alone.
"""

from collections.abc import Generator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from clients.fedavg import FedAvg
from fedkd.errors import ConfigError
from fedkd.generators.base import Generator as Sampler
from fedkd.generators.base import shapes_at
from fedkd.generators.ensemble import sample_labels
from fedkd.generators.recipe import Recipe
from fedkd.objectives.ops import soft_cross_entropy
from fedkd.protocol import CUT, GENERATOR, LABEL_COUNTS, MODEL
from fedkd.schedule import Value, at
from fedkd.training.program import Batch, Params, Phase, Reply, State, Task, Work, quiet


class LabelCounts(FedAvg):
    """FedAvg's client, which also sends how many training samples of each class it holds.

    own_model: train a model of one's own in place of the received one and send that; it may be of another
        architecture (`model.per_client`), since nobody averages it
    """

    def __init__(self, own_model: bool = False) -> None:
        super().__init__()
        self.personal_model = self.mixed_models = own_model

    def start(self, task: Task, state: State) -> Params:
        return {**task.initial, **state} if self.personal_model else super().start(task, state)

    def work(self, task: Task, state: State) -> Work:
        if self.personal_model:
            trained = yield Phase(self.start(task, state), self.loss)
            reply = Reply({MODEL: trained}, state=trained, trained=trained)
        else:
            reply = yield from super().work(task, state)
        reply.upload[LABEL_COUNTS] = {"counts": task.data.class_counts("train")}
        return reply

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        return self.start(task, state) if self.personal_model else None
        yield  # a generator that trains nothing


class InTurns(LabelCounts):
    """The same; what is tuned is the server's, which teaches a student in turns with a generator, if any."""

    search_space: ClassVar[dict[str, Any]] = {
        **LabelCounts.search_space,
        "method.strategy.scheme.student_steps": [1, 5, 20],
        "method.strategy.scheme.student_optim.lr": {"low": 1e-4, "high": 0.1, "log": True},
    }


class OneShot(LabelCounts):
    """The same; what is tuned is the server's, which teaches a student from scratch (DENSE)."""

    search_space: ClassVar[dict[str, Any]] = {
        **LabelCounts.search_space,
        "method.strategy.scheme.student_lr": {"low": 1e-3, "high": 0.1, "log": True},
        "method.strategy.scheme.adversarial": [0.0, 0.5, 1.0],
    }


class FedGen(LabelCounts):
    """Train the received model beside the samples of the received generator.

    generator: how it is built
    label_weight: alpha_c; latent_weight: beta_c; with both 0 this is FedAvg, bit for bit
    steps: local steps with these terms
    batch_size: generated samples with labels of their own in each
    """

    search_space: ClassVar[dict[str, Any]] = {
        **FedAvg.search_space,
        "method.client.label_weight": {"low": 0.01, "high": 10.0, "log": True},
        "method.client.latent_weight": {"low": 0.01, "high": 10.0, "log": True},
        "method.client.steps": [5, 20, 100],
    }

    def __init__(
        self,
        generator: Recipe,
        label_weight: Value = 0.1,
        latent_weight: Value = 0.1,
        steps: int = 20,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        for key, value in (("label_weight", label_weight), ("latent_weight", latent_weight)):
            if at(value, 1) < 0:
                raise ConfigError(f"method.client.{key}={value}: 0 or more is needed")
        if steps < 1 or batch_size < 1:
            raise ConfigError(
                f"method.client.steps={steps}, method.client.batch_size={batch_size}: "
                "whole numbers from 1 are needed"
            )
        self.recipe = generator
        self.label_weight, self.latent_weight = label_weight, latent_weight
        self.steps, self.batch_size = steps, batch_size
        self._built: dict[int, Sampler] = {}  # by cut

    def work(self, task: Task, state: State) -> Work:
        alpha, beta = at(self.label_weight, task.server_round), at(self.latent_weight, task.server_round)
        if GENERATOR not in task.knowledge or alpha == beta == 0:
            return (yield from super().work(task, state))
        reply = self.reply((yield self.guided(task, alpha, beta)))
        reply.upload[LABEL_COUNTS] = {"counts": task.data.class_counts("train")}
        return reply

    def received(self, task: Task, cut: int) -> Sampler:
        """The server's generator; the module is built once a process, as its first weights cost more than
        a client's samples.
        """
        if cut not in self._built:
            shapes, nobody = shapes_at(task.network, [cut]), torch.Generator()
            self._built[cut] = self.recipe(shapes, task.data.num_classes, nobody)
        self._built[cut].load_state_dict(task.knowledge[GENERATOR])
        return self._built[cut].eval()

    def guided(self, task: Task, alpha: float, beta: float) -> Phase:
        """The round's training; all samples of the generator are drawn before it begins, as many as there are
        training samples, and used again in later passes.
        """
        cut, rng = int(task.config[CUT]), task.rng("generator")
        generator = self.received(task, cut)
        held = task.knowledge[LABEL_COUNTS]["held"]
        batches = max(1, min(self.steps, len(task.data.train) // self.batch_size))
        wanted = sample_labels(held, batches * self.batch_size, rng)
        with torch.no_grad():
            like_own = generator.sample(task.data.train.y, rng)
            fresh = generator.sample(wanted, rng)
        drawn = {"z": fresh.unflatten(0, (batches, -1)), "y": wanted.view(batches, -1)}
        step = torch.zeros((), dtype=torch.int64)

        def loss(model: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
            logits = model(batch.x)
            log_p = logits.log_softmax(-1)
            hard = F.nll_loss(log_p, batch.y, reduction="none")
            if fixed["step"] >= self.steps:
                return hard
            here = {name: fixed[name][fixed["step"] % batches] for name in drawn}
            return hard + quiet(generator_terms(model, log_p, batch, here, cut, alpha, beta))

        def count(names: list[str], parameters: list[Tensor]) -> None:
            step.add_(1)

        return Phase(
            task.received, loss, fixed={"step": step, **drawn}, extras={"z": like_own}, after_batch=count
        )


def generator_terms(
    model: Any, log_p: Tensor, batch: Batch, drawn: Params, cut: int, alpha: float, beta: float
) -> Tensor:
    """The two terms for each sample, (B,): KL towards the batch's own latents, CE on `drawn` z and y.

    log_p: the model's log-probabilities of the batch. The head is asked once about both sets of latents. The
    value is never reported, so the KL stands without its constant.
    """
    size = len(batch.y)
    told = model.head(torch.cat([batch.extras["z"], drawn["z"]]), cut).log_softmax(-1)
    others = F.nll_loss(told[size:], drawn["y"], reduction="sum") / size
    return beta * soft_cross_entropy(told[:size].detach().exp(), log_p) + alpha * others
