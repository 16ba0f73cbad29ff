"""The small vision transformer: shapes, cuts, what a patch sees, and what is refused."""

import pytest
import torch

from fedkd.errors import ConfigError
from fedkd.models.build import build_model, initialise
from fedkd.models.staged import StagedModel
from fedkd.models.vit import vit

NODE = {"_target_": "fedkd.models.vit.vit", "width": 8, "depth": 2, "heads": 2}


@pytest.mark.parametrize(("shape", "tokens"), [((1, 28, 28), 49), ((3, 32, 32), 64)])
def test_tokens_blocks_and_cuts(shape: tuple[int, ...], tokens: int) -> None:
    model = build_model(NODE, shape, 10, seed=0)
    assert model.shapes == [(tokens, 8)] * 3 + [(10,)]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    for cut in range(1, 4):
        torch.testing.assert_close(model.head(model.features(x, cut), cut), model(x))


def test_number_of_parameters() -> None:
    model = build_model(NODE, (1, 28, 28), 10, seed=0)
    patches = 8 * 16 + 8 + 49 * 8
    block = 2 * 16 + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8)
    assert sum(p.numel() for p in model.parameters()) == patches + 2 * block + 16 + (8 * 10 + 10)


def small() -> StagedModel:
    return initialise(lambda: vit((1, 4, 4), 3, patch=2, width=4, depth=1, heads=2), seed=1)


def test_a_patch_is_one_token_and_attention_mixes_all() -> None:
    model, x = small(), torch.zeros(1, 1, 4, 4)
    moved = x.clone()
    moved[..., 3, 3] = 1.0  # in the last patch
    changed = [(model.features(moved, cut) != model.features(x, cut)).any(-1)[0].tolist() for cut in (1, 2)]
    assert changed == [[False, False, False, True], [True] * 4]


def test_attention_by_hand() -> None:
    model = small()
    block, z = model.blocks[1], torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(2))
    heads = []
    for h in range(2):
        q, k, v = (block.read(z)[0, :, 4 * i + 2 * h : 4 * i + 2 * h + 2] for i in range(3))  # type: ignore[operator]
        heads.append(torch.softmax(q @ k.T / 2**0.5, dim=1) @ v)
    want = block.write(torch.cat(heads, dim=1))  # type: ignore[operator]
    torch.testing.assert_close(block.attend(z)[0], want)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"patch": 5}, r"model\.patch=5 does not divide images of 28 x 28"), ({"heads": 3}, r"model\.heads=3")],
)
def test_what_does_not_divide_is_refused(settings: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        vit((1, 28, 28), 10, **settings)
