"""Plain SGD: PyTorch's numbers, bit for bit."""

import torch

from fedkd.training.loop import _finite
from fedkd.training.sgd import PlainSGD


def test_steps_have_the_bits_of_pytorchs_own() -> None:
    draw = torch.Generator().manual_seed(0)
    ours = [torch.randn(7, 5, generator=draw), torch.randn(5, generator=draw), torch.randn(3, generator=draw)]
    theirs = [tensor.clone() for tensor in ours]
    mine, reference = PlainSGD(ours, 0.037), torch.optim.SGD(theirs, lr=0.037, foreach=True)
    for _ in range(20):
        for a, b in zip(ours[:2], theirs[:2], strict=True):  # the third never has a gradient
            a.grad = torch.randn(a.shape, generator=draw)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
        mine.zero_grad()
        reference.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(tensor.grad is None for tensor in ours)


def test_a_sum_that_overflows_is_no_value_that_is_not_finite() -> None:
    assert _finite(torch.full((4,), 3e38))
    assert not _finite(torch.tensor([1.0, float("nan")]))
    assert not _finite(torch.tensor([float("inf"), -float("inf")]))
