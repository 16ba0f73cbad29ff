"""The server's side of FedD2S as specified here: teach the global head, ask the clients' heads.

Phase 1 of the specification (reconstructed around Atapour et al. 2024, arXiv 2402.10846):

    L_global = ce_weight * CE(G(z), y) + kl_weight * tau^2 KL(p || softmax(G(z) / tau))

with weights 1 - a_g and a_g by default, over the shuffled union of what the clients sent, a sample of client
k weighted omega_k / (n_k / n): client weights come from each reply's `num-examples`, and where these are the
sizes of the uploads every sample counts 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.signals import Signals
from fedkd.personalization.heads import head_network, judge
from fedkd.personalization.soft_labels import as_logits, soft
from fedkd.seeds import torch_rng
from fedkd.training.loop import DivergedError, Trainer
from fedkd.training.program import Batch, Params, Phase
from fedkd.training.settings import LocalSettings

CLIP_NORM = 5.0
"""Largest gradient norm of the global head: features of drifting bodies grow, and tau^2 KL with them."""

_BATCH = 512


@dataclass(frozen=True)
class Upload:
    """What one client sent at one cut, in float32.

    client: its place among the training clients; weight: its `num-examples`
    z: (n, ...) features, with their ids (n,) and labels y (n,); p: (n, M) the client's own soft labels
    head: the weights above the cut, or as many of them as were asked for
    dtype: in which z and p travelled, and q travels back
    """

    client: int
    weight: float
    ids: Tensor
    z: Tensor
    y: Tensor
    p: Tensor | None = None
    head: Params = field(default_factory=dict)
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Lesson:
    """What a global head is taught: features z (n, ...), labels y (n,), soft labels (n, M), weights (n,)."""

    z: Tensor
    y: Tensor
    teacher: Tensor
    weight: Tensor


def union(uploads: Sequence[Upload], teacher: Tensor) -> Lesson:
    """The lesson of all uploads in their order; `teacher` (n, M) speaks about every sample."""
    sizes = [len(upload.y) for upload in uploads]
    scale = sum(sizes) / (sum(upload.weight for upload in uploads) or 1.0)
    weights = [upload.weight / size * scale for upload, size in zip(uploads, sizes, strict=True)]
    return Lesson(
        torch.cat([upload.z for upload in uploads]),
        torch.cat([upload.y for upload in uploads]),
        teacher,
        torch.tensor(weights).repeat_interleave(torch.tensor(sizes)),
    )


@dataclass(frozen=True)
class HeadLearner:
    """How the global head is taught: `L_global`, and the settings of its optimizer."""

    settings: LocalSettings
    objective: Objective
    temperature: float
    ce_weight: float
    kl_weight: float

    def loss(self, model: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
        """L_global of each sample, (B,), times the sample's weight."""
        logits = model(batch.x)
        told = as_logits(batch.extras["teacher"], self.temperature)
        towards = self.objective(Signals(student_logits=logits, teacher_logits=told, labels=batch.y))
        hard = F.cross_entropy(logits, batch.y, reduction="none")
        return batch.extras["weight"] * (self.ce_weight * hard + self.kl_weight * towards)


def teach(
    learner: HeadLearner,
    network: StagedModel,
    cut: int,
    head: Params,
    lesson: Lesson,
    seed: int,
    server_round: int,
    precision: str = "float32",
) -> tuple[Params, Tensor]:
    """The taught head and then its soft labels (n, M) on the lesson; a function of its arguments alone.

    Raises DivergedError where the head is not finite.
    """
    trainer = Trainer(head_network(network, cut), learner.settings, precision)
    samples = Samples(lesson.z, lesson.y, torch.arange(len(lesson.y)))
    nothing = samples.take(torch.arange(0))
    data = ClientData(0, "server", samples, nothing, nothing, lesson.teacher.shape[1])
    task = trainer.task(data, head, {}, seed=seed, server_round=server_round)
    extras = {"teacher": lesson.teacher, "weight": lesson.weight}
    order = torch_rng(seed, "server head", server_round, cut)
    try:
        taught = trainer.train(Phase(head, learner.loss, extras=extras), task, order)
    except DivergedError as error:
        raise DivergedError(
            f"the global head of cut {cut} diverged; lower method.strategy.server_lr"
        ) from error
    return taught, soft(trainer.predict(taught, lesson.z), learner.temperature)


@torch.no_grad()
def ask_heads(
    network: StagedModel, cut: int, uploads: Sequence[Upload], temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The clients' heads on everybody's features: all of them (n, M), the others (n, M), whether any, (n,).

    all: sum_j omega_j softmax(P_j(z) / tau); others: the same without the head of the sample's own client.
    With equal weights the latter is the plain mean over j != k of the specification.
    """
    sizes = [len(upload.y) for upload in uploads]
    weights = torch.tensor([upload.weight for upload in uploads])
    rest = weights.sum() - weights.repeat_interleave(torch.tensor(sizes))[:, None]
    rows = torch.arange(len(rest)).split(sizes)
    parts = torch.cat([upload.z for upload in uploads]).split(_BATCH)
    total = torch.zeros(len(rest), *network.shapes[-1])
    own = torch.zeros_like(total)
    for upload, mine in zip(uploads, rows, strict=True):
        said = torch.cat([soft(judge(network, upload.head, z, cut), temperature) for z in parts])
        total += upload.weight * said
        own[mine] = upload.weight * said[mine]
    return total / weights.sum(), (total - own) / rest.clamp_min(1e-12), (rest > 0)[:, 0]


def server_settings(epochs: int, batch_size: int, lr: float, momentum: float) -> LocalSettings:
    """SGD on the global head with clipped gradients, under the names of the strategy's arguments."""
    for key, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"method.strategy.server_{key}={value}: a whole number from 1 is needed")
    if lr <= 0:
        raise ConfigError(f"method.strategy.server_lr={lr}: a positive number is needed")
    return LocalSettings(epochs=epochs, batch_size=batch_size, lr=lr, momentum=momentum, clip_norm=CLIP_NORM)
