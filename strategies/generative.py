"""FedAvg whose server also holds a generator: what FedGen, FedFTG, DENSE, DFRD, DaFKD and FedDF share.

Clients send their models and label counts; a subclass says what the server makes of them beside the average,
or on top of it (`learn`). Client weights are those of the replies: in a sum over clients, client k has its
`num-examples` relative to the samples it holds, which is exactly one unless `weighting=...` changed it.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.generators.base import Generator, shapes_at
from fedkd.generators.coverage import coverage
from fedkd.generators.discriminator import judge_of
from fedkd.generators.ensemble import Ensemble, Space, Weighting, relative
from fedkd.generators.heads import LinearHeads, linear_of
from fedkd.generators.recipe import Recipe
from fedkd.generators.train import History
from fedkd.models.shifted import Offset, Shifted
from fedkd.models.staged import StagedModel
from fedkd.personalization.heads import block_of
from fedkd.protocol import DISCRIMINATOR, LABEL_COUNTS, MODEL, STAGE
from fedkd.training.program import Params, joined, part
from strategies.fedd2s_records import metrics_of, record_of, tensors_of
from strategies.fitting import Layout, layout_of, misfit
from strategies.server import Server, ServerSide


@dataclass(frozen=True)
class Upload:
    """What one client sent.

    weight: its `num-examples`; counts: its training samples by class, (M,)
    more: further records by name
    """

    model: Params
    weight: float
    counts: Tensor
    more: Mapping[str, Params]


class Generative(ServerSide, FedAvg):
    """FedAvg, and a generator at the server that outlives the rounds.

    generator: how it is built
    flower: of Flower's FedAvg
    """

    def __init__(self, generator: Recipe, **flower: Any) -> None:
        super().__init__(**flower)
        self.recipe = generator
        self.rounds = 0  # in which the server learned

    def attach(self, server: Server) -> None:
        super().attach(server)
        network = server.trainer.network
        if network.dtype != torch.float32:
            raise ConfigError("text has no generator: this method needs images, windows or tables")
        self.generator = self.make_generator(network)

    def cut(self, network: StagedModel) -> int:
        """Where the generator's samples enter the network; 0 is its input."""
        return 0

    def make_generator(self, network: StagedModel) -> Generator:
        """The generator before the first round."""
        shapes = shapes_at(network, [self.cut(network)])
        return self.recipe(shapes, self.server.num_classes, self.server.rng("generator weights", 0))

    def sent(self) -> tuple[dict[str, Params], dict[str, Any]]:
        """What goes to the clients beside the model: records by name, and words of configuration."""
        return {}, {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self._accompanied(super().configure_train(server_round, arrays, config, grid))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = super().configure_evaluate(server_round, arrays, config, grid)
        return self._accompanied(messages) if config.get(STAGE) == "after" else messages

    def _accompanied(self, messages: Iterable[Message]) -> Iterable[Message]:
        """The same messages with what is sent in their one shared content."""
        messages, (records, words) = list(messages), self.sent()
        if messages and records:
            content = messages[0].content
            for name, tensors in records.items():
                content[name] = record_of(tensors)
            content.config_records[self.configrecord_key].update(words)
        return messages

    def refuse(self, asked: RecordDict, content: RecordDict) -> str | None:
        wanted: dict[str, Layout] = {LABEL_COUNTS: {"counts": (self.server.num_classes,)}}
        if DISCRIMINATOR in content:
            wanted[DISCRIMINATOR] = layout_of(judge_of(self.server.trainer.network).state_dict())
        problem = misfit(content, wanted)
        own = MODEL if MODEL in content else self.arrayrecord_key
        found = [misfit(content, {own: layout_of(n.state_dict())}) for n in self.architectures]
        return problem or (None if None in found else found[0])

    @property
    def architectures(self) -> Sequence[StagedModel]:
        """Of which each client has one."""
        return [self.server.trainer.network]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        uploads = [self._opened(reply) for reply in replies if reply.has_content()]
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is not None and metrics is not None:
            arrays, told = self.learn(server_round, uploads, arrays)
            metrics.update(told)
            self.rounds += 1
        return arrays, metrics

    def learn(
        self, server_round: int, uploads: Sequence[Upload], average: ArrayRecord
    ) -> tuple[ArrayRecord, dict[str, float]]:
        """The new global arrays, and figures to be recorded."""
        raise NotImplementedError

    def _opened(self, reply: Message) -> Upload:
        """What the client sent; the reply keeps its model alone, as averaging wants it."""
        content = reply.content
        if MODEL in content:  # of the client's own: averaging sees the initial weights, which stay
            content[self.arrayrecord_key] = record_of(self.server.initial)
        own = MODEL if MODEL in content else self.arrayrecord_key
        model = tensors_of(content.array_records[own])
        names = [name for name in content.array_records if name != self.arrayrecord_key]
        more = {name: tensors_of(content.array_records[name]) for name in names}
        for name in names:
            del content[name]
        weight = float(metrics_of(reply)[self.weighted_by_key])  # type: ignore[arg-type]
        return Upload(model, weight, more.pop(LABEL_COUNTS)["counts"], more)

    def state_dict(self) -> dict[str, Tensor]:
        parts = joined(generator=self.generator.state_dict())
        return {"rounds": torch.tensor(self.rounds), **parts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.rounds = int(state["rounds"])
        self.generator.load_state_dict(part(dict(state), "generator"))


def ensemble(
    networks: Sequence[StagedModel],
    uploads: Sequence[Upload],
    cut: int = 0,
    weighting: Weighting | None = None,
    space: Space = "logits",
    discriminators: Sequence[nn.Module] = (),
) -> Ensemble:
    """The clients' networks above the cut as teachers, each under its weight.

    networks: the architectures there are; a client has the first that its weights fit
    """
    counts = torch.stack([upload.counts for upload in uploads])
    weights = relative(torch.tensor([upload.weight for upload in uploads]), counts.sum(1).clamp_min(1))
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in networks]
    models = [
        network_above(networks[_fitting(shapes, upload.model, cut)], upload.model, cut) for upload in uploads
    ]
    linears = [layer for model in models if (layer := linear_of(model)) is not None]
    if len(linears) == len(models):
        return LinearHeads(linears, counts, weighting, space, weights, discriminators)
    return Ensemble(models, counts, weighting, space, weights, discriminators)


def _fitting(shapes: Sequence[Mapping[str, torch.Size]], params: Params, cut: int) -> int:
    """Place of the first network that has all of these weights, and above the cut no others."""

    def fits(own: Mapping[str, torch.Size]) -> bool:
        known = all(own.get(name) == value.shape for name, value in params.items())
        return known and all(name in params for name in own if block_of(name) >= cut)

    return next(place for place, own in enumerate(shapes) if fits(own))


def network_above(network: StagedModel, params: Params, cut: int) -> nn.Module:
    """The blocks above the cut as a network of their own, under these weights, and the shift if any."""
    blocks = copy.deepcopy(network.blocks[cut:])
    own = {name: value for name, value in params.items() if block_of(name) >= cut}
    blocks.load_state_dict(
        {f"{block_of(name) - cut}.{name.split('.', 2)[2]}": value for name, value in own.items()}
    )
    shift = [Offset(network.shift)] if isinstance(network, Shifted) else []
    return nn.Sequential(*blocks, *shift).requires_grad_(False)


def figures(
    history: History, generator: Generator, teachers: Ensemble, rng: torch.Generator
) -> dict[str, float]:
    """The last losses, how often the teachers see the wanted label, in how many classes, and the spread."""
    seen = coverage(generator, teachers, rng)
    last = history[-1] if history else {}
    told = {"accuracy": seen.accuracy, "covered": seen.covered, "spread": seen.spread, **last}
    return {f"generator_{name}": value for name, value in told.items()}
