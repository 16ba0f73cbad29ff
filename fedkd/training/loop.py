"""The one training loop: drives a client program's phases, one client after another.

On a CPU clients train one after another (interleaving them thrashes the cache); images are kept in
`channels_last`, where pooling alone is ten times faster, and optimizers use multi-tensor kernels.
`fedkd.training.cohort` drives several clients at once, through the same steps.
"""

import copy
from collections.abc import Generator, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fedkd.data.samples import ClientData
from fedkd.models.shifted import Shifted
from fedkd.models.staged import StagedModel, in_layout
from fedkd.protocol import SNAPSHOT_STEP
from fedkd.schedule import at
from fedkd.training.batches import batches, in_pairs
from fedkd.training.optimizers import SGD, Optimizer
from fedkd.training.program import Batch, Params, Phase, Task
from fedkd.training.progress import DivergedError, Progress
from fedkd.training.settings import LocalSettings


class Trainer:
    """Executes phases with one scratch network a name; holds nothing of any client but its latest `progress`.

    network: the architecture; its weights are overwritten by every phase
    precision: float32, or bf16 for autocast
    others: networks of another architecture, by the names under which phases train them together with it
    device: where networks and samples are
    """

    def __init__(
        self,
        network: StagedModel,
        settings: LocalSettings,
        precision: str = "float32",
        others: Mapping[str, StagedModel] | None = None,
        device: str = "cpu",
    ) -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.bf16 = precision == "bf16"
        self.network = in_layout(network.to(self.device))
        self._networks: dict[str, StagedModel] = {"": self.network}
        self._networks |= {name: in_layout(other.to(self.device)) for name, other in (others or {}).items()}
        self.pairs = in_pairs(network)
        self.progress = Progress()

    def shifted(self, shift: Tensor) -> "Trainer":
        """This trainer with `shift` (M,) added to all logits; the scratch networks are the same."""
        view = copy.copy(self)
        view._networks = {name: Shifted(network, shift) for name, network in self._networks.items()}
        view.network = view._networks[""]
        return view

    def drive(self, work: Generator[Phase, Params, Any], task: Task) -> Any:
        """Run a program's generator to its end and return what it returns.

        One generator of random numbers serves all phases of the client's round, so that a method's phases
        see different shuffles and the same method always sees the same ones. A phase that replays gets the
        generator's beginning, and leaves the others' alone.
        """
        order = task.rng("batches")
        self.progress = Progress()
        try:
            phase = next(work)
            while True:
                phase = work.send(self.train(phase, task, task.rng("batches") if phase.replay else order))
        except StopIteration as end:
            return end.value

    def train(self, phase: Phase, task: Task, order: torch.Generator) -> Params:
        """Train one phase on the client's training split; the start is left untouched.

        Raises DivergedError where the result is not finite.
        """
        return self.train_on(self.batches(phase, task, order), phase, task, self.progress)

    def batches(self, phase: Phase, task: Task, order: torch.Generator) -> Iterable[Batch]:
        """The phase's mini-batches, shuffled by `order`."""
        return batches(task, phase, self.settings_of(phase), order, self.pairs)

    def settings_of(self, phase: Phase) -> LocalSettings:
        """`local.*` with the phase's own epochs or steps."""
        steps = phase.steps or (None if phase.epochs else self.settings.steps)
        return replace(self.settings, epochs=phase.epochs or self.settings.epochs, steps=steps)

    def train_on(self, feed: Iterable[Batch], phase: Phase, task: Task, progress: Progress) -> Params:
        """Train one phase on these batches; see `train`."""
        network = self._bind(phase)
        names, parameters = _moving(network, phase)
        optimizer = optimizer_of(phase, self.settings, parameters, task.server_round)
        model: Any = network if not phase.networks else dict(network.items())  # type: ignore[operator]
        network.train()
        # entering autocast costs a small step 3 % even where it is off
        precision = torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()
        snapshot: Params = {}
        for step, batch in enumerate(feed, 1):
            for _ in range(phase.repeat):
                optimizer.zero_grad()
                with precision:
                    loss = phase.loss(model, batch, phase.fixed).mean()
                if progress.first_loss is None:
                    progress.first_loss = float(loss.detach())
                loss.backward()
                if phase.gradient is not None or self.settings.clip_norm is not None:
                    held = [(n, p.data, p.grad) for n, p in zip(names, parameters, strict=True)]
                    correct(phase, [(n, p, g) for n, p, g in held if g is not None], self.settings)
                optimizer.step()
                progress.samples += len(batch.y)
            if phase.after_batch is not None:
                phase.after_batch(names, [p.data for p in parameters])
            if step == task.config.get(SNAPSHOT_STEP):
                snapshot = result_of(network.state_dict(), phase)
        result = result_of(network.state_dict(), phase)
        if snapshot:
            progress.snapshots.append((result, snapshot))
        return result

    def module(self, phase: Phase) -> nn.Module:
        """The scratch network that the phase trains, or several by name; their weights are anybody's."""
        if not phase.networks:
            return self._networks[""]
        for name in phase.networks:
            if name not in self._networks and name not in phase.beside:
                self._networks[name] = copy.deepcopy(self.network)
        return nn.ModuleDict({name: {**self._networks, **phase.beside}[name] for name in phase.networks})

    def _bind(self, phase: Phase) -> nn.Module:
        """The scratch network (or several) with the phase's parameters in it."""
        bound = self.module(phase)
        with torch.no_grad():
            for name, tensor in bound.state_dict(keep_vars=True).items():
                tensor.copy_(phase.params[name])
        return bound

    @torch.no_grad()
    def predict(self, params: Params, x: Tensor, cut: int | None = None, batch_size: int = 512) -> Tensor:
        """Logits `(n, M)` of the model `params`, or its features at `cut`; evaluation mode, no gradient."""
        network = self._bind(Phase(params, loss=_no_loss))
        network.eval()
        run = network if cut is None else (lambda part: network.features(part, cut))  # type: ignore[operator]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            parts = [run(in_layout(x[at : at + batch_size])) for at in range(0, len(x), batch_size)]
        outputs = torch.cat(parts) if parts else x.new_zeros((0,))
        return outputs.float() if self.bf16 else outputs

    def task(self, data: ClientData, initial: Params, received: Params, **rest: Any) -> Task:
        """A task for this trainer's network."""
        return Task(data, self.network, initial, received, self.predict, **rest)


def correct(phase: Phase, held: list[tuple[str, Tensor, Tensor]], settings: LocalSettings) -> None:
    """The phase's rule, then the limit of the norm, on (name, parameter, gradient), in place."""
    gradients = [gradient for _, _, gradient in held]
    if phase.gradient is not None:
        phase.gradient([name for name, _, _ in held], [parameter for _, parameter, _ in held], gradients)
    if settings.clip_norm is not None:
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        torch._foreach_mul_(gradients, (settings.clip_norm / (norm + 1e-6)).clamp(max=1.0))


def optimizer_of(
    phase: Phase, settings: LocalSettings, parameters: list[nn.Parameter], server_round: int
) -> torch.optim.Optimizer | Optimizer:
    """The phase's optimizer: the local one, or its own plain SGD."""
    if phase.sgd is not None:
        return SGD(parameters, phase.sgd)
    return settings.make_optimizer(parameters, at(settings.lr, server_round) * phase.lr_scale)


def result_of(state: Mapping[str, Tensor], phase: Phase) -> Params:
    """A copy of what training left, with the start's own tensors where nothing moved.

    Raises DivergedError where something is not finite.
    """
    result = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        if phase.moves is None or phase.moves(name)
        else phase.params[name]
        for name, tensor in state.items()
    }
    for name, tensor in result.items():
        if tensor.is_floating_point() and not _finite(tensor):
            raise DivergedError(f"training left values in '{name}' that are not finite; lower local.lr")
    return result


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Their sum tells it at once, unless it is the sum that overflows."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _moving(network: nn.Module, phase: Phase) -> tuple[list[str], list[nn.Parameter]]:
    """Names and parameters that the phase trains; the others need no gradient."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(phase.moves is None or phase.moves(name))
        parameter.grad = None
    moving = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    return [name for name, _ in moving], [parameter for _, parameter in moving]


def _no_loss(model: Any, batch: Batch, fixed: Any) -> Tensor:
    raise AssertionError("prediction has no loss")
