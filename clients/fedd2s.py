"""FedD2S's client, and FedGKT's as its special case.

FedD2S as specified here, after Atapour et al. 2024, arXiv 2402.10846, of which only the outline is published:
mutual distillation through representations, a global head and soft labels; deep layers leave the federation
one after another; cross entropy and KL in both directions. Everything else is reconstructed: what is sent,
when, the weights, the temperature, and where the KL term flows.

    L_local = (1 - a_l) CE(f(x), y) + a_l tau^2 KL(q || s)

`s` is the point where readings differ, `distill_path`: `output_frozen_head` softmax(f(x) / tau) with the
blocks above the cut held fixed in this term; `output_full` the same with every block receiving it;
`body_via_global_head` softmax(G(B(x)) / tau), the global head G fixed. Without q for the present cut a sample
has cross entropy alone, so a client trains one local pass whatever it knows.

FedGKT (He et al., NeurIPS 2020, arXiv 2007.14513): a fixed cut, `output_full`, CE + alpha KL.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.signals import Signals
from fedkd.personalization.heads import above, block_of, frozen_head, head_with, judge
from fedkd.personalization.no_harm import accuracy
from fedkd.personalization.soft_labels import as_logits, distillation, match, soft, weights_of
from fedkd.protocol import (
    ARRAYS,
    AVERAGE_BODY,
    CUT,
    DISTILL_PATH,
    HEAD,
    LABEL_COUNTS,
    NUM_EXAMPLES,
    PROTOCOL,
    REPORT_ACCURACY,
    REPRESENTATIONS,
    SEND_BLOCKS,
    SOFT_LABELS,
    TEMPERATURE,
    VAL_ACCURACY,
)
from fedkd.training.program import Batch, ClientProgram, Loss, Params, Phase, Reply, State, Task, Work

_PLACE = "a FedD2S client"


class FedD2S(ClientProgram):
    """Keep a whole personal model; send what the server's protocol asks for; learn from its soft labels.

    kl_weight: a_l; at 0 this is local training, bit for bit
    ce_weight: of the cross entropy beside it; by default 1 - kl_weight
    objective: the term towards the soft labels; by default tau^2 KL at the server's temperature
    max_upload: samples sent a round, drawn anew each round; by default all
    upload_dtype: of features and soft labels on their way to the server and back
    trust: which soft labels count; `correct`: those whose largest entry is the label, for the others cross
        entropy stands alone
    """

    personal_model = True
    mixed_models = True
    global_model = False
    class_margins = True

    search_space: ClassVar[dict[str, Any]] = {
        **ClientProgram.search_space,
        "method.client.kl_weight": {"low": 0.1, "high": 0.9},
        "method.strategy.distill_path": ["output_frozen_head", "output_full"],
        "method.strategy.temperature": [1.0, 2.0, 3.0, 5.0],
        "method.strategy.server_lr": {"low": 0.005, "high": 0.2, "log": True},
        "method.strategy.schedule.rate": [1, 2, 4, 8],
    }

    def __init__(
        self,
        kl_weight: float = 0.5,
        ce_weight: float | None = None,
        objective: Objective | None = None,
        max_upload: int | None = None,
        upload_dtype: Literal["float16", "float32"] = "float16",
        trust: Literal["all", "correct"] = "all",
    ) -> None:
        self.ce_weight, self.kl_weight = weights_of(ce_weight, kl_weight, "method.client")
        if max_upload is not None and max_upload < 1:
            raise ConfigError(
                f"method.client.max_upload={max_upload}: a whole number from 1, or null, is needed"
            )
        if upload_dtype not in ("float16", "float32"):
            raise ConfigError(f"method.client.upload_dtype={upload_dtype}: one of float16, float32 is needed")
        if trust not in ("all", "correct"):
            raise ConfigError(f"method.client.trust={trust}: one of all, correct is needed")
        distillation(objective, 1.0, _PLACE)
        self.trust = trust
        self.objective = objective
        self._loss_of = functools.cache(self._distil)  # one function for all clients at a cut: they stack
        self.max_upload = max_upload
        self.dtype: torch.dtype = getattr(torch, upload_dtype)

    def check(self, network: StagedModel) -> None:
        network.check_cut(1)

    def private(self, network: StagedModel) -> set[str]:
        return set(network.state_dict())

    def start(self, task: Task, state: State) -> Params:
        """The client's own model; under `average_body` with the received body in it."""
        return {**super().start(task, state), **task.received}

    def work(self, task: Task, state: State) -> Work:
        trained = yield self.phase(task, self.start(task, state))
        return self.answer(task, trained)

    def phase(self, task: Task, start: Params) -> Phase:
        """The round's training: towards the soft labels where there are any for this cut."""
        told = self.soft_labels(task, start) if self.kl_weight else None
        if told is None:
            return Phase(start, self.loss)
        teacher, known = told
        if self.trust == "correct":
            known = known & (teacher.argmax(1) == task.data.train.y)
        fixed = task.knowledge.get(HEAD, {})
        return Phase(
            start,
            self.distil(task.config),
            fixed=fixed,
            extras={"teacher": teacher, "known": known},
        )

    def soft_labels(self, task: Task, start: Params) -> tuple[Tensor, Tensor] | None:
        """The teacher's row of each training sample, (n, M), and which samples have one; None without any.

        They come by sample id, by class, or as the global head, which is then asked about the features of the
        model that training starts from: those it was taught with.
        """
        samples, cut = task.data.train, int(task.config[CUT])
        if (told := task.knowledge.get(SOFT_LABELS)) is not None:
            if "q" in told:
                return match(samples.ids, told["ids"], told["q"].float())
            return told["table"].float()[samples.y], told["seen"][samples.y]
        if (head := task.knowledge.get(HEAD)) is not None:
            logits = judge(task.network, head, task.predict(start, samples.x, cut), cut)
            return soft(logits, task.config[TEMPERATURE]), torch.ones(len(samples), dtype=torch.bool)
        return None

    def distil(self, config: Mapping[str, Any]) -> Loss:
        """L_local under what the server said of this round."""
        return self._loss_of(int(config[CUT]), config[DISTILL_PATH], config[TEMPERATURE])

    def _distil(self, cut: int, path: str, temperature: float) -> Loss:
        objective = distillation(self.objective, temperature, _PLACE)

        def loss(model: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
            z = model.features(batch.x, cut)
            logits = model.head(z, cut)
            student = logits
            if path == "output_frozen_head":
                student = head_with(model, frozen_head(model, cut), z, cut)
            elif path == "body_via_global_head":
                student = judge(model, fixed, z, cut)
            told = as_logits(batch.extras["teacher"], temperature)
            towards = objective(Signals(student_logits=student, teacher_logits=told, labels=batch.y))
            hard = F.cross_entropy(logits, batch.y, reduction="none")
            both = self.ce_weight * hard + self.kl_weight * towards
            return torch.where(batch.extras["known"], both, hard)

        return loss

    def answer(self, task: Task, trained: Params) -> Reply:
        """The upload of the server's protocol; `num-examples` counts the samples that are sent."""
        config, cut = task.config, int(task.config[CUT])
        sent: dict[str, Params] = {}
        metrics: dict[str, float] = {}
        if config[PROTOCOL] == "generator":
            sent[LABEL_COUNTS] = {"counts": task.data.class_counts("train")}
        else:
            sent |= self._features(task, trained, cut)
            metrics[NUM_EXAMPLES] = len(sent[REPRESENTATIONS]["y"])
        if config[PROTOCOL] != "representations":
            sent[HEAD] = above(trained, cut)
        elif old := config.get(SEND_BLOCKS):
            sent[HEAD] = {name: t for name, t in trained.items() if cut <= block_of(name) < old}
        if config.get(AVERAGE_BODY):
            sent[ARRAYS] = {name: t for name, t in trained.items() if block_of(name) < cut}
        if config.get(REPORT_ACCURACY) and len(task.data.val):
            metrics[VAL_ACCURACY] = accuracy(task.predict, trained, task.data.val)
        return Reply(sent, metrics, state=trained, trained=trained)

    def _features(self, task: Task, trained: Params, cut: int) -> dict[str, Params]:
        """Features, labels and ids in the order of the split; with P1 the model's own soft labels."""
        samples = task.data.train
        if self.max_upload is not None and self.max_upload < len(samples):
            drawn = torch.randperm(len(samples), generator=task.rng("upload"))
            samples = samples.take(drawn[: self.max_upload].sort().values)
        z = task.predict(trained, samples.x, cut)
        sent: dict[str, Params] = {
            REPRESENTATIONS: {"ids": samples.ids, "z": z.to(self.dtype), "y": samples.y}
        }
        if task.config[PROTOCOL] == "representations":
            p = soft(judge(task.network, trained, z, cut), task.config[TEMPERATURE])
            sent[SOFT_LABELS] = {"p": p.to(self.dtype)}
        return sent
