import math

import pytest
import torch

from fedkd.data.samples import ClientData, Samples
from fedkd.data.skew import Distortion, LabelNoise, Skew, rotate
from fedkd.errors import ConfigError


def client(k: int = 0, n: int = 200) -> ClientData:
    def part(size: int) -> Samples:
        x = torch.arange(size * 9.0).view(size, 1, 3, 3) % 7
        return Samples(x, torch.arange(size) % 4, torch.arange(size))

    return ClientData(k, str(k), part(n), part(20), part(20), num_classes=4)


def test_nothing_is_changed_by_default() -> None:
    data = client()
    assert Distortion(Skew(), LabelNoise(), 3, 0).apply(data) is data


def test_rotation_by_a_right_angle_is_exact() -> None:
    x = torch.arange(2 * 9.0).view(2, 1, 3, 3)
    assert torch.allclose(rotate(x, math.pi / 2), torch.rot90(x, 1, (2, 3)), atol=1e-5)
    assert torch.allclose(rotate(x, 0.0), x, atol=1e-5)
    wide = torch.zeros(1, 1, 5, 9)
    wide[0, 0, 2, 6] = 1.0  # two columns right of the centre goes to two rows above it, also in a wide image
    assert rotate(wide, math.pi / 2)[0, 0, 0, 4] == pytest.approx(1.0, abs=1e-5)


def test_colour_is_one_gain_and_bias_for_all_of_a_client() -> None:
    data, skew = client(5), Skew(colour=0.5)
    seen = skew.apply(data, seed=1)
    slope = (seen.train.x[0, 0, 0, 1] - seen.train.x[0, 0, 0, 0]) / 1.0
    bias = seen.train.x[0, 0, 0, 0]
    assert 0.5 <= slope <= 1.5 and -0.5 <= bias <= 0.5
    for split in ("train", "val", "test"):
        assert torch.allclose(getattr(seen, split).x, getattr(data, split).x * slope + bias, atol=1e-5)
    assert torch.equal(skew.apply(data, seed=1).train.x, seen.train.x)
    assert not torch.equal(skew.apply(client(6), seed=1).train.x, seen.train.x)


def test_noise_has_a_client_level() -> None:
    levels = []
    for k in range(20):
        data = client(k)
        levels.append((Skew(noise=2.0).apply(data, 0).train.x - data.train.x).std().item())
    assert max(levels) < 2.1 and min(levels) < 0.5 < 1.5 < max(levels)


def test_features_that_cannot_be_skewed_are_refused() -> None:
    Skew(rotation=30).check("a", (1, 28, 28), is_text=False)
    with pytest.raises(ConfigError, match=r"skew.rotation turns images, data=har has none"):
        Skew(rotation=30).check("har", (9, 128), is_text=False)
    with pytest.raises(ConfigError, match="no meaning for the text of data=shakespeare"):
        Skew(noise=0.1).check("shakespeare", (80,), is_text=True)
    with pytest.raises(ConfigError, match=r"skew.colour=2 is not a number in \[0, 1\]"):
        Skew(colour=2)
    with pytest.raises(ConfigError, match=r"label_noise.labels=1.5"):
        LabelNoise(0.5, 1.5)


def test_label_noise_by_count() -> None:
    distortion = Distortion(Skew(), LabelNoise(clients=0.3, labels=0.25), num_clients=10, seed=2)
    wrong = []
    for k in range(10):
        data, noisy = client(k), distortion.apply(client(k))
        wrong.append(int((data.train.y != noisy.train.y).sum()))
        assert torch.equal(data.test.y, noisy.test.y)
        validation = int((data.val.y != noisy.val.y).sum())
        assert validation == (round(len(data.val) * 0.25) if wrong[-1] else 0)
        assert torch.equal(data.mix, noisy.mix)  # the true label mix
        assert noisy.train.y.min() >= 0 and noisy.train.y.max() < 4
    assert sorted(wrong) == [0] * 7 + [50] * 3
