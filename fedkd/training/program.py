"""What a client does in a round, as a value: the seam between a method and the one training loop.

A method is a `ClientProgram`: a stateless object whose `work` is a generator. It yields a `Phase` for each
stretch of training it wants, receives the trained parameters back, and returns a `Reply`:

    class Ditto(ClientProgram):
        def work(self, task, state):
            shared = yield Phase(task.received, self.loss)
            own = part(state, "personal") or task.received
            personal = yield Phase(own, self.loss, gradient=proximal(task.received, 1.0))
            return Reply({ARRAYS: shared}, state=joined(personal=personal), trained=personal)

The method never sees the loop, the optimizer or the batches; whoever drives the generator (one client after
another, or a vectorised cohort) chooses how the phases are executed.
"""

from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.data.samples import ClientData, Samples
from fedkd.models.staged import StagedModel
from fedkd.protocol import ARRAYS
from fedkd.seeds import torch_rng

Params = dict[str, Tensor]
"""A network's complete state: parameters and buffers by name."""

State = dict[str, Tensor]
"""What a client keeps between rounds; empty before its first participation."""


@dataclass
class Batch:
    """One mini-batch: `x (B, ...)`, `y (B,)`, and the rows (B, ...) of each of the phase's `extras`."""

    x: Tensor
    y: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


Loss = Callable[[Any, Batch, Mapping[str, Tensor]], Tensor]
"""`loss(model, batch, fixed) -> (B,)`; pure, so that it can be vectorised over clients."""

GradientRule = Callable[[list[str], list[Tensor], list[Tensor]], None]
"""`rule(names, parameters, gradients)` edits the gradients in place before the optimizer's step."""

Follow = Callable[[list[str], list[Tensor]], None]
"""`follow(names, parameters)` comes after the steps on each batch; it may edit the parameters in place."""


@dataclass
class Phase:
    """A stretch of training: where it starts, what moves, under which loss.

    params: start, the complete state of the network (or of several, see `networks`)
    loss: per-sample loss `(B,)`
    moves: which names are trained (all by default); the others, buffers too, keep their values exactly
    epochs, steps: passes or steps, where they differ from `local.*`
    repeat: steps on each batch
    lr_scale: factor on the local step size
    sgd: step size of plain SGD, which then takes the place of the local optimizer and its step size
    replay: begin with the batches that the round's first phase began with
    gradient: correction of the gradients before each step
    after_batch: what follows the steps on each batch
    fixed: tensors that the loss reads and that stay constant during the phase
    extras: per-sample tensors `(n, ...)`, in the order of the training split, handed out with the batches
    networks: names of several networks trained together; then `params` are prefixed `<name>.` and the loss
        receives a mapping from name to network
    beside: modules among `networks` that are no copies of the client's network, by name
    data: samples to train on in place of the training split
    """

    params: Params
    loss: Loss
    moves: Callable[[str], bool] | None = None
    epochs: int | None = None
    steps: int | None = None
    repeat: int = 1
    lr_scale: float = 1.0
    sgd: float | None = None
    replay: bool = False
    gradient: GradientRule | None = None
    after_batch: Follow | None = None
    fixed: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    beside: dict[str, nn.Module] = field(default_factory=dict)
    data: Samples | None = None


@dataclass
class Reply:
    """What a client sends and keeps after its work.

    upload: named records to send; averaging strategies read the one called `arrays`
    metrics: further numbers to send
    state: what the client keeps; None keeps the old state
    trained: the model as local training left it, evaluated as `stage=after`
    """

    upload: dict[str, Params] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    state: State | None = None
    trained: Params | None = None


@dataclass
class Task:
    """What one client is asked in one round, with all it may use.

    received: the global arrays (empty where a method sends none)
    initial: the common initial weights, from the run's seed, without any transfer
    knowledge: other records from the server, by name
    config: scalars from the server
    predict: `predict(params, x, cut=None)`: outputs (or features at `cut`) in evaluation mode, no gradient
    public: samples that everybody has, for unlabelled use only; None where the run has none
    """

    data: ClientData
    network: StagedModel
    initial: Params
    received: Params
    predict: Callable[..., Tensor]
    seed: int
    server_round: int
    config: Mapping[str, Any] = field(default_factory=dict)
    knowledge: Mapping[str, Params] = field(default_factory=dict)
    public: Samples | None = None

    def rng(self, purpose: str) -> torch.Generator:
        """The generator of this client, round and purpose."""
        return torch_rng(self.seed, purpose, self.server_round, self.data.client)


Work = Generator[Phase, Params, Reply]


class ClientProgram:
    """Base of all methods, and FedAvg's client itself: train what was received, send it back.

    McMahan et al., AISTATS 2017, arXiv 1602.05629. Subclasses override what differs.
    """

    personal_model = False
    """Whether clients end with a model of their own (evaluated as `model=personal`)."""

    global_model = True
    """Whether the received arrays are a complete model (evaluated as `model=global`)."""

    mixed_models = False
    """Whether clients may have different architectures; of those that share a model, it is the first's."""

    class_margins = False
    """Whether all that its losses read is the labels and the networks they are handed, so that margins can be
    put into these."""

    exact_train_loss = False
    """Whether `train_loss` is measured on the whole training split instead of its first batch."""

    search_space: ClassVar[dict[str, Any]] = {"local.lr": {"low": 0.005, "high": 0.3, "log": True}}
    """What `fedkd tune` varies: override names with a range (`low`, `high`, `log`) or a list of choices."""

    def check(self, network: StagedModel) -> None:
        """Raise ConfigError, in one sentence, where this method cannot serve the network."""

    def init(self, task: Task) -> State:
        """What a client holds before its first participation."""
        return {}

    def private(self, network: StagedModel) -> set[str]:
        """The names of the network's state that stay at the client: neither sent nor received."""
        return set()

    def start(self, task: Task, state: State) -> Params:
        """The complete model a client starts from: own private part over received over initial weights.

        State under other names than the network's own is not part of it.
        """
        own = {name: value for name, value in state.items() if name in task.initial}
        return {**task.initial, **task.received, **own}

    def loss(self, model: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy of each sample, (B,)."""
        return F.cross_entropy(model(batch.x), batch.y, reduction="none")

    def work(self, task: Task, state: State) -> Work:
        """One round at one client."""
        trained = yield Phase(self.start(task, state), self.loss)
        return self.reply(trained, self.private(task.network))

    def reply(self, trained: Params, private: Collection[str] = ()) -> Reply:
        """Send the shared part, keep the private part."""
        shared = {name: value for name, value in trained.items() if name not in private}
        kept = {name: value for name, value in trained.items() if name in private}
        return Reply({ARRAYS: shared}, state=kept, trained=trained)

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        """The model this client would use now, None where it has none of its own. May train, on a copy."""
        return self.start(task, state) if self.personal_model else None
        yield  # a generator even where it trains nothing


def proximal(anchor: Params, strength: float) -> GradientRule | None:
    """The gradient of `strength/2 * ||w - anchor||^2`, added to the loss's; nothing at all at strength 0."""
    if strength == 0:
        return None

    def rule(names: list[str], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        away = torch._foreach_sub(parameters, [anchor[name] for name in names])
        torch._foreach_add_(gradients, away, alpha=strength)

    return rule


def parameter_names(network: nn.Module) -> set[str]:
    """The names that carry gradients; the rest of the state are buffers."""
    return {name for name, _ in network.named_parameters()}


def joined(**parts: Params) -> Params:
    """Several sets of parameters as one, names prefixed `<part>.`: what a phase of several networks takes."""
    return {f"{prefix}.{name}": value for prefix, params in parts.items() for name, value in params.items()}


def part(params: Params, prefix: str) -> Params:
    """One of the sets that were joined, under its own names; empty where there is none."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}


def quiet(loss: Tensor) -> Tensor:
    """The gradient of `loss` with the value zero, so that the loss reported stays that of the other terms."""
    return loss - loss.detach()
