"""Per-class calibration: the statistic by hand, and the repair of scores that were put off on purpose."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.robust.calibration import class_calibration, mix_weights, rescale, vector_scaling
from fedkd.seeds import torch_rng


def test_calibration_by_hand() -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.6, 0.8], dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 0, 1, 1])
    got = class_calibration(torch.stack([1 - p, p], 1), y, bins=3)
    # Class 1, pairs by p: means 0.15, 0.35, 0.7 against frequencies 0.5, 0, 1. Class 0 mirrors it.
    np.testing.assert_allclose(got, [1.0 / 3, 1.0 / 3])
    few = class_calibration(torch.tensor([[0.2, 0.8]]), torch.tensor([1]))
    np.testing.assert_allclose(few, [0.2, 0.2], atol=1e-7)


def honest_scores(rows: int) -> tuple[Tensor, Tensor]:
    """Probabilities (rows, 4), and labels drawn from them."""
    draw = torch_rng(0, "calibration")
    p = (1.5 * torch.randn(rows, 4, generator=draw, dtype=torch.float64)).softmax(1)
    return p, torch.multinomial(p, 1, generator=draw).squeeze(1)


def test_weights_count_as_repeated_samples() -> None:
    p = torch.tensor([0.1, 0.2, 0.4, 0.8], dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 1])
    twice = [0, 0, 1, 1, 2, 3]
    both = torch.stack([1 - p, p], 1)
    weighted = class_calibration(both, y, torch.tensor([2.0, 2.0, 1.0, 1.0]), bins=3)
    np.testing.assert_allclose(weighted, class_calibration(both[twice], y[twice], bins=3))
    # Class 1: 0.1 against 0, 0.2 against 1, 0.6 against 0.5.
    np.testing.assert_allclose(weighted, np.full(2, (0.1 + 0.8 + 0.1) / 3))


def test_weights_give_validation_samples_the_mix_of_training() -> None:
    weights = mix_weights(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 2]), 3)
    np.testing.assert_allclose(weights, [3, 0.5, 0.5, 0])


def test_calibration_finds_the_class_that_is_off() -> None:
    p, y = honest_scores(30_000)
    honest = class_calibration(p, y)
    assert honest.max() < 0.015
    # Halve class 3 and give its mass to class 0: these two are off, the others are not.
    shifted = p.clone()
    shifted[:, 3] /= 2
    shifted[:, 0] += shifted[:, 3]
    off = class_calibration(shifted, y)
    assert off[3] > 0.1 and off[0] > 0.1 and off[1:3].max() < 0.015


def test_vector_scaling_undoes_what_was_done_to_calibrated_scores() -> None:
    p, y = honest_scores(30_000)
    scale, shift = torch.tensor([0.5, 1.0, 2.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, -1.0])
    spoilt = (p.log() * scale + shift).double()
    a, b = vector_scaling(spoilt, y, torch.ones(30_000))
    repaired = (spoilt * a + b).softmax(1)
    torch.testing.assert_close(repaired, p, rtol=0, atol=0.02)
    assert class_calibration(spoilt.softmax(1), y).max() > 0.1
    assert class_calibration(repaired, y).max() < 0.015


def test_a_balanced_sample_calibrates_for_the_training_mix() -> None:
    """Class 0 is thinned to a quarter; with weights the scores of the whole are still found right."""
    p, y = honest_scores(30_000)
    kept = (y != 0) | (torch.rand(30_000, generator=torch_rng(0, "kept")) < 0.25)
    weights = mix_weights(y, y[kept], 4)
    a, b = vector_scaling(p[kept].log(), y[kept], weights)
    torch.testing.assert_close((p.log() * a + b).softmax(1), p, rtol=0, atol=0.02)
    assert class_calibration(p[kept], y[kept], weights).max() < 0.02
    assert class_calibration(p[kept], y[kept]).max() > 0.05


def test_a_class_without_samples_stays_as_it_is() -> None:
    logits = torch.tensor([[1.0, 0.0, -50.0], [0.0, 1.0, -50.0]])
    a, b = vector_scaling(logits, torch.tensor([0, 1]), torch.ones(2))
    assert torch.isfinite(a).all() and torch.isfinite(b).all()
    assert float(a[2]) == pytest.approx(1, abs=0.01) and float(b[2]) == pytest.approx(0, abs=0.01)


def test_scale_and_shift_go_into_the_last_layer() -> None:
    layer, x = nn.Linear(3, 2), torch.eye(3)
    want = layer(x).detach() * torch.tensor([2.0, 0.5]) + torch.tensor([1.0, -1.0])
    rescale(layer, torch.tensor([2.0, 0.5]), torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(layer(x).detach(), want)
    with pytest.raises(ConfigError, match="needs a bias in the last layer"):
        rescale(nn.Linear(3, 2, bias=False), torch.ones(2), torch.zeros(2))
