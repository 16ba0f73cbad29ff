"""FedAvg, and then the clients' ensemble distilled into the global model, at the server.

One class for FedFTG, DFRD, DENSE, DaFKD and FedDF (their configuration files hold what differs): a teacher
(weighting, space), inputs (a generator trained here, one averaged from the clients, public samples, noise), a
scheme (`fedkd.generators.schemes`), and where the student starts. What is sent next is the distilled model.

    FedFTG  Zhang et al., CVPR 2022, arXiv 2203.09249     in turns, generator hard for each client
    DFRD    Luo et al., NeurIPS 2023, arXiv 2309.13546    in turns, EMA copy of the generator
    DENSE   Zhang et al., NeurIPS 2022, arXiv 2112.12371  pooled, a student from scratch, one round
    DaFKD   Wang et al., CVPR 2023                        the clients' generators and discriminators
    FedDF   Lin et al., NeurIPS 2020, arXiv 2006.07242    public samples, or noise

A scheme without loops or epochs leaves FedAvg, bit for bit.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.generators.base import Generator, ema_, shadow_of
from fedkd.generators.discriminator import discriminator_of
from fedkd.generators.ensemble import Ensemble, Space, Weighting
from fedkd.generators.noise import Held, Noise
from fedkd.generators.recipe import Recipe
from fedkd.generators.schemes import InTurns, Pooled
from fedkd.generators.train import History
from fedkd.models.shifted import Shifted
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.seats import check_server
from fedkd.personalization.heads import mean_by_name
from fedkd.protocol import DISCRIMINATOR, GENERATOR
from fedkd.training.loop import DivergedError
from fedkd.training.program import Params, joined, part
from strategies.fedd2s_records import record_of, tensors_of
from strategies.generative import Generative, Upload, ensemble, figures

Scheme = InTurns | Pooled


def teach(
    scheme: Scheme,
    teachers: Ensemble,
    student: StagedModel,
    generator: Generator,
    rng: torch.Generator,
    server_round: int,
    shadow: Generator | None,
) -> tuple[Params, Params, History, dict[str, float]]:
    """States of student and generator, the history, and figures; a function of its arguments alone."""
    extra: dict[str, Any] = {} if shadow is None else {"shadow": shadow}
    history = scheme(teachers, student, generator, rng, server_round, **extra)
    judged = history and not isinstance(generator, Held)  # public samples have no wanted label
    told = figures(history, generator, teachers, rng) if judged else {}
    return student.state_dict(), generator.state_dict(), history, told


class Distilled(Generative):
    """FedAvg with a distillation after each average.

    scheme: of the distillation
    generator: how it is built, where `inputs` are generated
    weighting, space: how the clients are fused into one teacher
    inputs: generated, or public: the samples of `public=...`, Gaussian noise without them
    student: starts from the average, or from the initial weights in each round
    ema: share of the past in a second, slower generator, whose samples the student sees too; by default none
    share_generator: send it to the clients, and take the mean of those that they send
    objective: in place of the scheme's own
    flower: of Flower's FedAvg

    Under class margins the student's logits are shifted in every loss, the teachers' are not: it learns
    `L_mar(teacher, student; gains)`.
    """

    class_margins = True

    def __init__(
        self,
        scheme: Scheme,
        generator: Recipe,
        weighting: Weighting | None = None,
        space: Space = "logits",
        inputs: Literal["generated", "public"] = "generated",
        student: Literal["average", "initial"] = "average",
        ema: float | None = None,
        share_generator: bool = False,
        objective: Objective | None = None,
        **flower: Any,
    ) -> None:
        super().__init__(generator, **flower)
        _one_of("inputs", inputs, ("generated", "public"))
        _one_of("student", student, ("average", "initial"))
        _one_of("space", space, ("logits", "probabilities"))
        if ema is not None and not (isinstance(scheme, InTurns) and 0 <= ema < 1):
            raise ConfigError(
                f"method.strategy.ema={ema}: a number in [0, 1) with a scheme in turns, or null, is needed"
            )
        self.scheme: Scheme = scheme if objective is None else replace(scheme, objective=objective)
        check_server(self.scheme.objective, labels=inputs == "generated")
        self.weighting, self.space = weighting, space
        self.inputs, self.student, self.ema = inputs, student, ema
        self.share_generator = share_generator
        self.shadow: Generator | None = None
        self.kinds: Sequence[StagedModel] = ()  # the clients' architectures, where these differ

    def check_networks(self, networks: Sequence[StagedModel]) -> None:
        """Different architectures teach, and are not averaged: a student from scratch has the first."""
        if self.student != "initial":
            raise ConfigError(
                "model.per_client: models that differ have no average to start from: "
                "method.strategy.student=initial is needed"
            )
        self.kinds = networks

    def make_generator(self, network: StagedModel) -> Generator:
        if self.inputs == "generated":
            return super().make_generator(network)
        public, classes = self.server.public, self.server.num_classes
        return Noise({0: network.input_shape}, classes) if public is None else Held(public.x, classes)

    def sent(self) -> tuple[dict[str, Params], dict[str, Any]]:
        return ({GENERATOR: self.generator.state_dict()} if self.share_generator else {}), {}

    @property
    def architectures(self) -> Sequence[StagedModel]:
        return self.kinds or super().architectures

    def learn(
        self, server_round: int, uploads: Sequence[Upload], average: ArrayRecord
    ) -> tuple[ArrayRecord, dict[str, float]]:
        self._take_over(uploads)
        network = self.server.trainer.network
        judges = [
            discriminator_of(network, u.model, u.more[DISCRIMINATOR])
            for u in uploads
            if DISCRIMINATOR in u.more
        ]
        teachers = ensemble(self.architectures, uploads, 0, self.weighting, self.space, judges)
        student = copy.deepcopy(network).requires_grad_(True)
        student.load_state_dict(tensors_of(average) if self.student == "average" else self.server.initial)
        if self.server.shift is not None:
            student = Shifted(student, self.server.shift)
        rng = self.server.rng("distillation", server_round)
        taught, made, history, told = self.server.execute(
            teach, self.scheme, teachers, student, self.generator, rng, server_round, self.shadow
        )
        if not history:
            return average, {}
        if not all(value.isfinite().all() for value in taught.values()):
            raise DivergedError(
                "the server's student diverged; lower the step size in method.strategy.scheme"
            )
        self.generator.load_state_dict(made)
        self._follow()
        return record_of(taught), told

    def _take_over(self, uploads: Sequence[Upload]) -> None:
        """The weighted mean of the clients' generators, where they send any."""
        sent = [(upload.more[GENERATOR], upload.weight) for upload in uploads if GENERATOR in upload.more]
        if sent:
            self.generator.load_state_dict(mean_by_name(sent))

    def _follow(self) -> None:
        """Move the slower generator; it begins as a copy after the first distillation."""
        if self.ema is None:
            return
        if self.shadow is None:
            self.shadow = shadow_of(self.generator)
        else:
            ema_(self.shadow, self.generator, self.ema)

    def state_dict(self) -> dict[str, Tensor]:
        shadow = joined(shadow=self.shadow.state_dict()) if self.shadow else {}
        return super().state_dict() | shadow

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        if shadow := part(dict(state), "shadow"):
            self.shadow = shadow_of(self.generator)
            self.shadow.load_state_dict(shadow)


def _one_of(key: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ConfigError(f"method.strategy.{key}={value}: one of {', '.join(accepted)} is needed")
