"""The mini-batches of one phase at one client, in the order that its generator decides."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.models.staged import in_layout
from fedkd.training.augment import augment
from fedkd.training.program import Batch, Phase, Task
from fedkd.training.settings import LocalSettings


def batches(
    task: Task, phase: Phase, settings: LocalSettings, order: torch.Generator, pairs: bool = False
) -> Iterator[Batch]:
    """Batches until the phase's steps are done, shuffled anew each pass.

    pairs: no batch of one sample (see `in_pairs`); a client that has no more than one then takes no step
    """
    data = task.data.train if phase.data is None else phase.data
    cuts = slices(len(data), settings.batch_size, pairs)
    if not cuts:
        return
    left = settings.steps or settings.epochs * len(cuts)
    chance = task.rng("augment") if settings.augment != "none" else None
    while left > 0:
        index = torch.randperm(len(data), generator=order).to(data.y.device)
        x, y = in_layout(data.x.index_select(0, index)), data.y.index_select(0, index)
        extras = {name: rows.index_select(0, index) for name, rows in phase.extras.items()}
        for rows in cuts[:left]:
            images = x[rows] if chance is None else augment(x[rows], settings.augment, chance)
            yield Batch(images, y[rows], {name: extra[rows] for name, extra in extras.items()})
        left -= len(cuts)


def slices(samples: int, size: int, pairs: bool = False) -> list[slice]:
    """One pass over `samples` in batches of `size`; the last may be smaller.

    With `pairs` a single sample that is left over joins the batch before it, or is left out if there is none.
    """
    starts = list(range(0, samples, size))
    if pairs and starts and samples - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], samples], strict=False)]


def in_pairs(network: nn.Module) -> bool:
    """Whether the network cannot be trained on a single sample: batch normalisation has no variance there."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())
