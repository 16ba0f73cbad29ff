"""SGD and Adam: PyTorch's numbers, bit for bit."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedkd.training.loop import _finite
from fedkd.training.optimizers import SGD, Adam, Optimizer, Together

PAIRS: list[tuple[Callable[[Any], Optimizer], Callable[[Any], torch.optim.Optimizer]]] = [
    *(
        (
            lambda p, m=momentum, d=decay: SGD(p, 0.037, m, d),
            lambda p, m=momentum, d=decay: torch.optim.SGD(p, 0.037, m, weight_decay=d, foreach=True),
        )
        for momentum, decay in ((0.0, 0.0), (0.9, 0.0), (0.0, 0.01), (0.9, 0.01))
    ),
    *(
        (
            lambda p, d=decay: Adam(p, 0.037, (0.5, 0.999), d),
            lambda p, d=decay: torch.optim.Adam(p, 0.037, (0.5, 0.999), weight_decay=d, fused=True),
        )
        for decay in (0.0, 0.01)
    ),
]


@pytest.mark.parametrize(("make", "reference"), PAIRS)
def test_steps_have_the_bits_of_pytorchs_own(make: Any, reference: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    ours = [torch.randn(shape, generator=draw) for shape in ((7, 5), (5,), (4,), (3,))]
    theirs = [tensor.clone() for tensor in ours]
    mine, other = make(ours), reference(theirs)
    for step in range(20):
        moving = [0, 1, 2] if step % 3 == 2 else [0, 1]  # the last never has a gradient
        for k in moving:
            ours[k].grad = torch.randn(ours[k].shape, generator=draw)
            theirs[k].grad = ours[k].grad.clone()  # type: ignore[union-attr]
        mine.step()
        other.step()
        mine.zero_grad()
        other.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(tensor.grad is None for tensor in ours)


def test_together_each_part_has_its_own_step_size() -> None:
    first, second = torch.ones(2), torch.ones(2)
    both = Together(SGD([first], 0.1), SGD([second], 0.5))
    for parameter in both.parameters:
        parameter.grad = torch.ones(2)
    both.step()
    assert first.tolist() == pytest.approx([0.9, 0.9])
    assert second.tolist() == pytest.approx([0.5, 0.5])


def test_the_gradient_is_cut_at_its_norm() -> None:
    parameter = torch.zeros(2)
    parameter.grad = torch.tensor([30.0, 40.0])
    SGD([parameter], 1.0, clip=5.0).step()
    assert parameter.tolist() == pytest.approx([-3.0, -4.0], rel=1e-5)


def test_a_step_leaves_its_gradients_as_they_were() -> None:
    parameter = torch.ones(3)
    parameter.grad = torch.full((3,), 2.0)
    SGD([parameter], 0.1, 0.9, 0.5).step()
    assert parameter.grad.tolist() == [2.0, 2.0, 2.0]


def test_training_with_momentum_does_not_load_pytorchs_compiler() -> None:
    """A second in every worker, before its first step."""
    program = (
        "import sys, torch\n"
        "from fedkd.training.settings import LocalSettings\n"
        "p = torch.ones(3); p.grad = torch.ones(3)\n"
        "LocalSettings(momentum=0.9, weight_decay=0.1).make_optimizer([p], 0.1).step()\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_sum_that_overflows_is_no_value_that_is_not_finite() -> None:
    assert _finite(torch.full((4,), 3e38))
    assert not _finite(torch.tensor([1.0, float("nan")]))
    assert not _finite(torch.tensor([float("inf"), -float("inf")]))
