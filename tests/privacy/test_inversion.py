"""Decoders: shapes, figures by hand, and that they find what features hold and no more."""

import pytest
import torch

from fedkd.data.samples import Samples
from fedkd.privacy.inversion import Decoder, Training, fidelity, label_guess, mean_guess, train_decoder


def samples(n: int, seed: int, *shape: int) -> Samples:
    rng = torch.Generator().manual_seed(seed)
    return Samples(torch.randn(n, *shape, generator=rng), torch.arange(n) % 2, torch.arange(n))


@pytest.mark.parametrize("target", [(1, 28, 28), (3, 32, 32), (9, 128), (14,)])
@pytest.mark.parametrize("source", ["map", "vector"])
def test_decoders_make_the_shape_of_the_samples(target: tuple[int, ...], source: str) -> None:
    shape = (4, *(n // 4 for n in target[1:])) if source == "map" else (20,)
    decoder = Decoder(shape, target, 4)
    assert decoder(torch.zeros(2, *shape)).shape == (2, *target)


def test_figures_by_hand() -> None:
    truth = torch.zeros(1, 4)
    found = fidelity(torch.full((1, 4), 0.5), truth, span=2.0)
    assert found["mse"] == 0.25 and found["psnr"] == pytest.approx(12.0412, abs=1e-3)  # 10 log10(4 / 0.25)
    image = samples(2, 0, 1, 16, 16).x
    assert fidelity(image, image, span=4.0)["ssim"] == pytest.approx(1.0)
    assert "ssim" not in found


def test_guesses_without_features() -> None:
    known = Samples(torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([0, 0, 1]), torch.arange(3))
    wanted = Samples(torch.zeros(3, 1), torch.tensor([1, 0, 2]), torch.arange(3))
    assert mean_guess(known, wanted).flatten().tolist() == [4, 4, 4]
    assert label_guess(known, wanted).flatten().tolist() == [10, 1, 4]


def test_a_decoder_rebuilds_what_the_features_hold_and_no_more() -> None:
    known, wanted = samples(400, 1, 6), samples(100, 2, 6)
    training = Training(steps=300, lr=3e-3, width=8)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3))).Q

    def error(features: torch.Tensor, asked: torch.Tensor) -> float:
        decoder = train_decoder(features, known.x, training, torch.Generator().manual_seed(0))
        return fidelity(decoder(asked), wanted.x, span=6.0)["mse"]

    blind = fidelity(mean_guess(known, wanted), wanted.x, span=6.0)["mse"]
    assert error(known.x @ turn, wanted.x @ turn) < 0.1 * blind
    empty = error(torch.ones(400, 3), torch.ones(100, 3))
    assert empty == pytest.approx(blind, rel=0.1)


def test_decoders_repeat_to_the_bit_and_leave_the_global_generator_alone() -> None:
    known = samples(50, 1, 6)
    before = torch.get_rng_state()
    one, two = (
        train_decoder(known.x, known.x, Training(steps=3), torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(one(known.x), two(known.x)) and torch.equal(torch.get_rng_state(), before)
