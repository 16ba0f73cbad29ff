"""FedD2S's server: one global head for each cut in use, taught by the clients and teaching them.

FedD2S as specified here, after Atapour et al. 2024, arXiv 2402.10846, of which only the outline is published
(two-phase mutual distillation without public data, a global head, deep layers that leave one after another,
cross entropy and KL both ways). Reconstructed: what travels, the teacher's view, weights, temperature, the
schedule, how the head grows, and its optimizer. One round:

    clients   train towards their soft labels; send ids, z, y and p = softmax(P(z) / tau)
    phase 1   G learns (1 - a_g) CE(G(z), y) + a_g tau^2 KL(p || softmax(G(z) / tau)) on the union
    phase 2   q = softmax(G(z) / tau), kept until the client is asked again, dropped where its cut has moved

Client weights are each reply's `num-examples`, so that `weighting=` composes.

FedGKT (He et al., NeurIPS 2020, arXiv 2007.14513) is the fixed cut with KL + alpha CE here and CE + alpha KL,
`output_full`, at the clients. Unlike its release the union is shuffled, q is made after training, in
evaluation mode, and matched by sample id, no test features travel, and the clients hold the whole network.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.personalization.choices import Choices, check_meeting
from fedkd.personalization.cuts import CutSchedule
from fedkd.personalization.global_head import (
    HeadLearner,
    Lesson,
    Upload,
    ask_heads,
    server_settings,
    teach,
    union,
)
from fedkd.personalization.memory import Memory
from fedkd.personalization.soft_labels import distillation, weights_of
from fedkd.protocol import (
    AVERAGE_BODY,
    CUT,
    DISTILL_PATH,
    HEAD,
    PROTOCOL,
    REPORT_ACCURACY,
    SEND_BLOCKS,
    SOFT_LABELS,
    STAGE,
    TEMPERATURE,
)
from strategies import fedd2s_records as records
from strategies.fitting import misfit
from strategies.server import Server, ServerSide, places_of


class FedD2S(ServerSide, FedAvg):
    """Mutual distillation through a cut that moves.

    schedule: which cut each client works at
    protocol, teacher_view, distill_path, head_growth, average_body: see `fedkd.personalization.choices`
    temperature: tau, on both sides
    kl_weight: a_g; ce_weight: of the cross entropy beside it, by default 1 - kl_weight
    objective: G's term towards the clients; by default tau^2 KL
    server_epochs, server_batch_size, server_lr, server_momentum: SGD on G, each round
    flower: of Flower's FedAvg
    """

    protocols: tuple[str, ...] = ("representations", "heads")
    class_margins = True
    sends_updates = False  # private blocks never travel, and a body that does is a part that shrinks

    def __init__(
        self,
        schedule: CutSchedule,
        protocol: Literal["representations", "heads", "generator"] = "representations",
        teacher_view: Literal["snapshot", "head_ensemble", "class_mean"] = "snapshot",
        distill_path: Literal[
            "output_frozen_head", "output_full", "body_via_global_head"
        ] = "output_frozen_head",
        head_growth: Literal["warm", "mean", "bank"] = "warm",
        average_body: bool = False,
        temperature: float = 3.0,
        kl_weight: float = 0.5,
        ce_weight: float | None = None,
        objective: Objective | None = None,
        server_epochs: int = 1,
        server_batch_size: int = 128,
        server_lr: float = 0.05,
        server_momentum: float = 0.9,
        **flower: Any,
    ) -> None:
        super().__init__(**flower)
        if protocol not in self.protocols:
            hint = "; method=fedd2s_robust has the generator" if protocol == "generator" else ""
            offered = ", ".join(self.protocols)
            raise ConfigError(f"method.strategy.protocol={protocol}: one of {offered} is needed here{hint}")
        self.choices = Choices(
            protocol=protocol,
            teacher_view=teacher_view,
            distill_path=distill_path,
            head_growth=head_growth,
            average_body=average_body,
        )
        self.schedule = schedule
        self.averages_models = average_body
        self.learner = HeadLearner(
            server_settings(server_epochs, server_batch_size, server_lr, server_momentum),
            distillation(objective, temperature, "FedD2S's server"),
            temperature,
            *weights_of(ce_weight, kl_weight, "method.strategy"),
        )
        self.memory = Memory()
        self._places: dict[int, int] = {}
        self._arrays = ArrayRecord()

    def attach(self, server: Server) -> None:
        super().attach(server)
        network = server.trainer.network
        network.check_cut(1)
        self.schedule = self.schedule.for_model(network.num_blocks)
        self.memory.drop = self.schedule.init(server.federation_size)

    def check_networks(self, networks: Sequence[StagedModel]) -> None:
        """Raise ConfigError where the clients' networks, the first of which is the server's, do not meet."""
        self.choices.check_networks(networks, self.schedule.for_model(networks[0].num_blocks).path)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._places = places_of(grid)
        self._arrays = arrays
        return self._address(messages, arrays, config, server_round)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_evaluate(server_round, arrays, config, grid))
        return self._address(messages, arrays, config, server_round)

    def _address(
        self, messages: list[Message], arrays: ArrayRecord, config: ConfigRecord, server_round: int
    ) -> list[Message]:
        """Each message with its client's cut and, where it is to train, with what the server knows for it."""
        trains = config.get(STAGE) in (None, "after")
        common: dict[int, RecordDict] = {}
        for message in messages:
            place = self._places.get(message.metadata.dst_node_id)
            cut = self.schedule.cut(server_round, place, self.memory.drop)
            if cut not in common:
                common[cut] = self._common(cut, arrays, config, trains)
            content = RecordDict(dict(common[cut]))
            told = None if place is None else self.memory.told.get(place)
            if trains and told is not None and told.cut == cut:
                content[SOFT_LABELS] = records.record_of({"ids": told.ids, "q": told.q})
            message.content = content
        return messages

    def _common(self, cut: int, arrays: ArrayRecord, config: ConfigRecord, trains: bool) -> RecordDict:
        memory, choices = self.memory, self.choices
        words: dict[str, Any] = {
            CUT: cut,
            PROTOCOL: choices.protocol,
            DISTILL_PATH: choices.distill_path,
            TEMPERATURE: self.learner.temperature,
            AVERAGE_BODY: choices.average_body,
            REPORT_ACCURACY: self.schedule.adaptive,
        }
        source = memory.source(cut)
        if choices.head_growth == "mean" and cut not in memory.heads and source is not None and source > cut:
            words[SEND_BLOCKS] = source
        content = RecordDict({self.configrecord_key: ConfigRecord({**config, **words})})
        if shared := records.below(arrays, cut):
            content[self.arrayrecord_key] = shared
        if trains and choices.sends_head and cut in memory.heads:
            content[HEAD] = records.record_of(memory.heads[cut])
        if trains and cut in memory.tables:
            content[SOFT_LABELS] = records.record_of(memory.tables[cut])
        return content

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        told = asked.config_records[self.configrecord_key]
        return misfit(content, records.layouts(told, self.server.trainer.network, self.server.num_classes))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        found = {self._places[reply.metadata.src_node_id]: reply for reply in replies if reply.has_content()}
        if not found:
            return None, None
        answers = {place: found[place] for place in sorted(found)}
        cuts = {place: self.schedule.cut(server_round, place, self.memory.drop) for place in answers}
        for cut in sorted(set(cuts.values())):
            self.learn(cut, {k: reply for k, reply in answers.items() if cuts[k] == cut}, server_round)
        told = records.accuracies(answers)
        self.memory.drop = self.schedule.observe(server_round, told, self.memory.drop)
        ordered = list(answers.values())
        arrays = None
        if self.averages_models:  # blocks that nobody shares any more stay as they were
            mean = records.mean_arrays(ordered, self.arrayrecord_key, self.weighted_by_key)
            arrays = ArrayRecord({**self._arrays, **mean})
        figures = records.overall(ordered)
        figures[CUT] = sum(cuts.values()) / len(cuts)
        figures.update(self.train_metrics_aggr_fn([r.content for r in ordered], self.weighted_by_key))
        return arrays, figures

    def learn(self, cut: int, replies: Mapping[int, Message], server_round: int) -> None:
        """Phases 1 and 2 at one cut, from the replies by place: its head and its clients' soft labels, anew.

        The seam for lessons from another source than uploaded representations: a generator (P3).
        """
        server, network = self.server, self.server.network
        uploads = [
            records.upload_of(reply, place, records.weight_of(reply, self.weighted_by_key))
            for place, reply in replies.items()
        ]
        for upload in uploads:
            check_meeting(cut, upload.z.shape[1:], network)
        head = self.memory.head(cut, self.choices.head_growth, server.initial, uploads)
        lesson, others = self._lesson(cut, uploads)
        precision = "bf16" if server.trainer.bf16 else "float32"
        self.memory.heads[cut], taught = server.execute(
            teach, self.learner, network, cut, head, lesson, server.seed, server_round, precision
        )
        if self.choices.teacher_view == "class_mean":
            self.memory.tell_classes(cut, taught, lesson.y, server.num_classes)
        elif self.choices.teacher_view == "head_ensemble":
            self.memory.tell(cut, uploads, *others)
        elif not self.choices.sends_head:
            self.memory.tell(cut, uploads, taught, torch.ones(len(taught), dtype=torch.bool))

    def _lesson(self, cut: int, uploads: Sequence[Upload]) -> tuple[Lesson, tuple[Tensor, ...]]:
        """What G is taught; and, where the clients' heads are here, what the others say of each's samples."""
        if self.choices.protocol == "representations":
            return union(uploads, torch.cat([upload.p for upload in uploads if upload.p is not None])), ()
        everybody, *others = self.server.execute(
            ask_heads, self.server.network, cut, uploads, self.learner.temperature
        )
        return union(uploads, everybody), tuple(others)

    def state_dict(self) -> dict[str, Tensor]:
        return self.memory.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.memory = Memory.from_state_dict(state)
