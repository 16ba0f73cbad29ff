"""Every loss term against numbers worked out by hand."""

import math

import pytest
import torch

from fedkd.generators import losses

LN2, LN3 = math.log(2), math.log(3)


def near(value: torch.Tensor, expected: float) -> bool:
    return math.isclose(float(value.detach()), expected, rel_tol=1e-6, abs_tol=1e-7)


def test_fidelity_and_confidence() -> None:
    teacher = torch.tensor([[LN3, 0.0], [LN3, 0.0]])  # softmax (3/4, 1/4)
    assert near(losses.fidelity(teacher, torch.tensor([0, 1])), (math.log(4 / 3) + math.log(4)) / 2)
    assert near(losses.confidence(teacher), math.log(4 / 3))


def test_client_fidelity_weighs_shares_and_clients() -> None:
    votes = torch.zeros(2, 2, 2)
    votes[1] = torch.tensor([LN3, 0.0])
    shares, labels = torch.tensor([[1.0, 0.25], [0.0, 0.75]]), torch.tensor([0, 1])
    first, second = (1.0 + 0.25) / 2 * LN2, (0.0 * math.log(4 / 3) + 0.75 * math.log(4)) / 2
    assert near(losses.client_fidelity(votes, labels, shares, torch.ones(2)), first + second)
    assert near(
        losses.client_fidelity(votes, labels, shares, torch.tensor([2.0, 0.5])), 2 * first + second / 2
    )


def test_balance_is_the_negative_entropy_of_the_mean_prediction() -> None:
    both, one = torch.tensor([[200.0, 0.0], [0.0, 200.0]]), torch.tensor([[200.0, 0.0], [200.0, 0.0]])
    assert near(losses.balance(both), -LN2)
    assert near(losses.balance(one), 0.0)
    mixed = torch.tensor([[LN3, 0.0], [0.0, 0.0]])  # mean (5/8, 3/8)
    assert near(losses.balance(mixed), 0.625 * math.log(0.625) + 0.375 * math.log(0.375))


def test_activation() -> None:
    assert near(losses.activation(torch.tensor([[1.0, -3.0], [0.0, 4.0]])), -2.0)


def test_divergences_by_hand() -> None:
    t, s = torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2)  # (3/4, 1/4) and (1/2, 1/2)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    js = (0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3) + 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)) / 2
    assert near(losses.divergence(t, s, "kl"), kl)
    assert near(losses.divergence(4 * t, 4 * s, "kl", temperature=4.0), 16 * kl)
    assert near(losses.divergence(t, s, "js"), js)
    assert near(losses.divergence(3 * t, 3 * s, "js", temperature=3.0), js)
    assert near(losses.divergence(t, s, "softmax_l1"), 0.5)
    assert near(losses.divergence(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 5.0]]), "l1"), 1.5)


@pytest.mark.parametrize("kind", losses.DIVERGENCES)
def test_divergences_are_finite_for_huge_logits_and_zero_for_equal_ones(kind: losses.Divergence) -> None:
    t = torch.tensor([[1e3, -1e3]], requires_grad=True)
    apart = losses.divergence(t, -t.detach(), kind)
    apart.sum().backward()
    assert torch.isfinite(apart).all() and torch.isfinite(t.grad).all()  # type: ignore[arg-type]
    assert near(losses.divergence(t, t, kind), 0.0)


TEACHER = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
STUDENT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
LABELS = torch.tensor([0, 0, 1, 1])


def test_masks_partition_the_batch() -> None:
    agree, disagree, transfer, none = (
        losses.mask_of(TEACHER, STUDENT, LABELS, mask) for mask in ("agree", "disagree", "transfer", "none")
    )
    assert agree.tolist() == [True, False, True, False]
    assert torch.equal(agree, ~disagree) and none.all()
    assert transfer.tolist() == [False, True, False, False]  # row 3: both wrong about the label


def test_adversarial_divides_by_the_batch_and_is_zero_for_an_empty_mask() -> None:
    each = losses.divergence(TEACHER, STUDENT, "kl")
    assert near(losses.adversarial(TEACHER, STUDENT, LABELS, "disagree"), -float(each[1] + each[3]) / 4)
    assert near(losses.adversarial(TEACHER, STUDENT, LABELS, "none"), -float(each.mean()))
    empty = losses.adversarial(TEACHER[:1], STUDENT[:1], LABELS[:1], "disagree")
    assert float(empty) == 0.0


def test_masked_samples_receive_exactly_no_gradient() -> None:
    for mask, active in (("agree", [True, False, True, False]), ("disagree", [False, True, False, True])):
        teacher, student = TEACHER.clone().requires_grad_(), STUDENT.clone().requires_grad_()
        losses.adversarial(teacher, student, LABELS, mask).backward()  # type: ignore[arg-type]
        for tensor in (teacher, student):
            assert tensor.grad is not None and tensor.grad.any(1).tolist() == active


def test_client_adversarial_weighs_shares_and_clients() -> None:
    votes, student = torch.tensor([[[1.0, 3.0], [0.0, 0.0]], [[2.0, 0.0], [4.0, 0.0]]]), torch.zeros(2, 2)
    shares, labels = torch.tensor([[0.5, 1.0], [0.5, 0.0]]), torch.tensor([0, 1])
    first, second = (0.5 * 2.0 + 1.0 * 0.0) / 2, (0.5 * 1.0 + 0.0 * 2.0) / 2
    value = losses.client_adversarial(votes, student, labels, shares, torch.tensor([1.0, 3.0]))
    assert near(value, -(first + 3 * second))


def test_noise_diversity_is_fedgens() -> None:
    x, noise = torch.tensor([[0.0, 0.0], [2.0, -4.0]]), torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    assert near(losses.noise_diversity(x, noise), math.exp(-2 * 3.0 * 5.0 / 4))
    assert near(losses.noise_diversity(x, torch.zeros(2, 2)), 1.0)


def test_label_diversity_is_dfrds_in_root_mean_squares() -> None:
    x, merged = (
        torch.tensor([[[0.0, 0.0]], [[0.3, 0.4]]]),
        torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]),
    )
    assert near(losses.label_diversity(x, merged), math.exp(-2 * (0.5 / math.sqrt(2)) * 1.0 / 4))
    wide = losses.label_diversity(torch.randn(8, 3072), torch.randn(8, 100))
    assert 0.05 < float(wide) < 0.5  # the plain norms would give exp(-700)


@pytest.mark.parametrize("form", [losses.noise_diversity, losses.label_diversity])
def test_diversity_falls_when_samples_differ_and_its_gradient_is_finite_at_collapse(form: object) -> None:
    noise = torch.tensor([[0.0], [1.0], [2.0]])
    collapsed = torch.zeros(3, 2, requires_grad=True)
    value = form(collapsed, noise)  # type: ignore[operator]
    value.backward()
    assert float(value.detach()) == 1.0 and torch.isfinite(collapsed.grad).all()  # type: ignore[arg-type]
    assert float(form(noise.expand(3, 2), noise)) < 1.0  # type: ignore[operator]


def test_statistics_are_plain_norms() -> None:
    zero, one = torch.zeros(2), torch.ones(2)
    assert near(losses.statistics(torch.tensor([3.0, 4.0]), one, zero, torch.tensor([1.0, 2.0])), 5.0 + 1.0)


def test_channel_moments_are_biased_and_by_channel() -> None:
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]], [[[5.0, 7.0]], [[0.0, 4.0]]]])  # (2, 2, 1, 2)
    mean, var = losses.channel_moments(x)
    assert mean.tolist() == [4.0, 1.0] and var.tolist() == [5.0, 3.0]


def test_variation_and_magnitude() -> None:
    x = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])
    assert near(losses.variation(x), math.sqrt(5) + math.sqrt(13) + 4.0 + 1.0)
    assert near(losses.variation(torch.tensor([[[0.0, 3.0, -1.0]]])), 5.0)
    assert near(losses.magnitude(torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])), 3.0)


def test_spread_compares_samples_of_one_class() -> None:
    x = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[100.0, 0.0], [100.0, 1.0]]])
    assert near(losses.spread(x), (5.0 + 1.0) / 2)
    assert near(losses.spread(x[:, :1]), 0.0)
