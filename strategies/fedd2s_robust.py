"""The flagship: FedD2S as specified here, with protocol P3 and worst-client weights. A design of our own.

    clients   train as FedD2S's do; send the weights above the cut and their label counts, and no activation
    generator latent, at the present cut; one trunk, an output layer for each cut of the schedule:
              min  sum_k w_k mean_b [ a_k^y CE(P_k(z), y) ] + diversity by label,   z = Gen(eps, y)
    phase 1   G learns (1 - a_g) CE(G(z), y) + a_g tau^2 KL(p || softmax(G(z) / tau)) on generated z,
              p = sum_k w_k a_k^y softmax(P_k(z) / tau) / sum_k w_k a_k^y,   y drawn as sum_k w_k n_k^y
    phase 2   clients receive G and ask it about their own features

a_k^y = n_k^y / sum_j n_j^y. w_k is client k's `num-examples` over the samples it holds: one, unless
`weighting=...` changed it, so worst-client weights (here by default) shape the generator, the ensemble and
the loss. The generator never leaves the server. With another protocol this is FedD2S, bit for bit.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from flwr.app import ArrayRecord, Message, MetricRecord
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.generators.base import Generator, shapes_at
from fedkd.generators.ensemble import Ensemble, LabelShare, sample_labels
from fedkd.generators.recipe import Recipe
from fedkd.personalization.cuts import CutSchedule
from fedkd.personalization.global_head import Lesson, teach
from fedkd.personalization.global_head import Upload as Sent
from fedkd.protocol import HEAD, LABEL_COUNTS
from fedkd.training.program import Params, joined, part
from strategies.fedd2s import FedD2S
from strategies.fedd2s_records import tensors_of, weight_of
from strategies.fedgen import Fitting, fit
from strategies.generative import Upload, ensemble
from strategies.server import Server


def imagine(
    fitting: Fitting,
    generator: Generator,
    teachers: Ensemble,
    samples: int,
    temperature: float,
    rng: torch.Generator,
    server_round: int,
) -> tuple[Params, dict[str, float], Lesson]:
    """The fitted generator's state, figures about it, and a lesson it gives; a function of its arguments."""
    fitted, figures = fit(fitting, generator, teachers, rng, server_round)
    counts = teachers.weights[:, None] * teachers.counts
    labels = sample_labels(counts, samples, rng)
    with torch.no_grad():
        z = generator.eval().sample(labels, rng)
        p = teachers.fuse(teachers.logits(z) / temperature, z, labels).softmax(-1)
    return fitted, figures, Lesson(z, labels, p, torch.ones(samples))


class FedD2SRobust(FedD2S):
    """FedD2S whose global head learns from a generator in place of uploaded features.

    generator: how it is built
    fitting: its training each round
    samples: generated features in the head's lesson, each round
    protocol: generator; with another one, and samples as weighting, this is FedD2S bit for bit
    rest: of FedD2S
    """

    protocols: tuple[str, ...] = ("generator", "representations", "heads")

    def __init__(
        self,
        schedule: CutSchedule,
        generator: Recipe,
        fitting: Fitting,
        samples: int = 2000,
        protocol: Literal["generator", "representations", "heads"] = "generator",
        **rest: Any,
    ) -> None:
        super().__init__(schedule, protocol=protocol, **rest)
        if samples < 2:
            raise ConfigError(f"method.strategy.samples={samples}: a whole number from 2 is needed")
        self.recipe, self.fitting, self.samples = generator, fitting, samples
        self.generates = protocol == "generator"
        self._figures: dict[str, float] = {}

    def attach(self, server: Server) -> None:
        super().attach(server)
        if self.generates:
            shapes = shapes_at(server.trainer.network, self.schedule.path)
            rng = server.rng("generator weights", 0)
            self.generator = self.recipe(shapes, server.num_classes, rng)

    def learn(self, cut: int, replies: Mapping[int, Message], server_round: int) -> None:
        if not self.generates:
            super().learn(cut, replies, server_round)
            return
        server = self.server
        uploads = [self._heads_of(reply) for reply in replies.values()]
        teachers = ensemble([server.network], uploads, cut, LabelShare(), "probabilities")
        rng = server.rng(f"generator at cut {cut}", server_round)
        fitted, self._figures, lesson = server.execute(
            imagine,
            self.fitting,
            self.generator.move(cut),
            teachers,
            self.samples,
            self.learner.temperature,
            rng,
            server_round,
        )
        self.generator.load_state_dict(fitted)
        self._teach(cut, uploads, lesson, server_round)

    def _teach(self, cut: int, uploads: Sequence[Upload], lesson: Lesson, server_round: int) -> None:
        """Phase 1 on generated features."""
        server, none = self.server, torch.empty(0)
        heads = [
            Sent(k, upload.weight, none, none, none, head=upload.model) for k, upload in enumerate(uploads)
        ]
        head = self.memory.head(cut, self.choices.head_growth, server.initial, heads)
        precision = "bf16" if server.trainer.bf16 else "float32"
        network = server.network
        self.memory.heads[cut], taught = server.execute(
            teach, self.learner, network, cut, head, lesson, server.seed, server_round, precision
        )
        if self.choices.teacher_view == "class_mean":
            self.memory.tell_classes(cut, taught, lesson.y, server.num_classes)

    def _heads_of(self, reply: Message) -> Upload:
        records = reply.content.array_records
        counts = tensors_of(records[LABEL_COUNTS])["counts"]
        return Upload(tensors_of(records[HEAD]), weight_of(reply, self.weighted_by_key), counts, {})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        self._figures = {}
        arrays, metrics = super().aggregate_train(server_round, replies)
        if metrics is not None:
            metrics.update(self._figures)
        return arrays, metrics

    def state_dict(self) -> dict[str, Tensor]:
        generator = joined(generator=self.generator.state_dict()) if self.generates else {}
        return super().state_dict() | generator

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        own = part(dict(state), "generator")
        super().load_state_dict({k: v for k, v in state.items() if not k.startswith("generator.")})
        if own:
            self.generator.load_state_dict(own)
