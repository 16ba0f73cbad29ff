"""The part of a staged network above a cut: as a network of its own, under other weights, grown, averaged."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedkd.models.shifted import Shifted
from fedkd.models.staged import StagedModel
from fedkd.training.program import Params, parameter_names


def block_of(name: str) -> int:
    """Which block a name of a network's state belongs to."""
    return int(name.split(".")[1])


def above(params: Mapping[str, Tensor], cut: int) -> Params:
    """The entries of the blocks above the cut."""
    return {name: value for name, value in params.items() if block_of(name) >= cut}


def head_network(network: StagedModel, cut: int) -> StagedModel:
    """The blocks above the cut as a network of features; its state has the whole network's names.

    Blocks below the cut become identities, so that nothing is ever renamed.
    """
    passing: list[nn.Module] = [nn.Identity() for _ in range(cut)]
    head = StagedModel([*passing, *network.blocks[cut:]], network.shapes[cut - 1])
    return Shifted(head, network.shift) if isinstance(network, Shifted) else head


class _Head(nn.Module):
    def __init__(self, network: StagedModel, cut: int) -> None:
        super().__init__()
        self.network = network
        self.cut = cut

    def forward(self, z: Tensor) -> Tensor:
        return self.network.head(z, self.cut)


def head_with(network: StagedModel, params: Mapping[str, Tensor], z: Tensor, cut: int) -> Tensor:
    """Logits (B, M) of features `z` under a head's `params`; the network lends its layers and their mode."""
    bound = {f"network.{name}": value for name, value in params.items() if block_of(name) >= cut}
    return functional_call(_Head(network, cut), bound, (z,))


def judge(network: StagedModel, params: Mapping[str, Tensor], z: Tensor, cut: int) -> Tensor:
    """`head_with` in evaluation mode, under the statistics in `params`; the layers' modes are put back."""
    modes = [(layer, layer.training) for layer in network.blocks[cut:].modules()]
    network.blocks[cut:].eval()
    logits = head_with(network, params, z, cut)
    for layer, mode in modes:
        layer.training = mode
    return logits


def frozen_head(network: StagedModel, cut: int) -> Params:
    """The network's own head as constants: parameters without gradient, copies of the running statistics.

    A second pass through BatchNorm under them leaves the real statistics alone.
    """
    state, trained = network.state_dict(keep_vars=True), parameter_names(network)
    return {
        name: value.detach() if name in trained else value.clone()
        for name, value in above(state, cut).items()
    }


def grow(head: Params | None, fresh: Mapping[str, Tensor], cut: int) -> Params:
    """A head for `cut`: blocks that `head` has are taken over, the others come from `fresh`.

    Deep to shallow a head gains blocks below its own; towards deeper cuts (`reverse`) it loses them.
    """
    kept = above(head, cut) if head else {}
    return {name: kept.get(name, value).clone() for name, value in above(fresh, cut).items()}


def mean_by_name(parts: Sequence[tuple[Mapping[str, Tensor], float]]) -> Params:
    """The weighted mean of each tensor over those who have it, running statistics included.

    A name whose holders all weigh nothing keeps the plain mean.
    """
    names = list(dict.fromkeys(name for params, _ in parts for name in params))
    mean: Params = {}
    for name in names:
        held = [(params[name], weight) for params, weight in parts if name in params]
        total = sum(weight for _, weight in held)
        shares = [weight / total if total else 1 / len(held) for _, weight in held]
        value = torch.stack(
            [tensor.double() * share for (tensor, _), share in zip(held, shares, strict=True)]
        )
        mean[name] = value.sum(0).to(held[0][0].dtype)
    return mean
