"""The built-in networks: known sizes, cuts that compose, refusals, and what vectorised cohorts need."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedkd.errors import ConfigError
from fedkd.models import StagedModel, build_model, in_layout
from fedkd.models.charlm import charlm
from fedkd.models.cnn import cnn, cnn1d, cnn4
from fedkd.models.mlp import mlp, tabular
from fedkd.models.resnet import resnet8, resnet18
from fedkd.models.vit import vit

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
RESNET18 = [(64, 32, 32)] * 3 + [(128, 16, 16)] * 2 + [(256, 8, 8)] * 2 + [(512, 4, 4)] * 2 + [(10,)]
CONF = Path(__file__).parents[2] / "simulations" / "conf" / "model"

SMALL: dict[str, Callable[[], StagedModel]] = {
    "mlp": lambda: mlp((1, 4, 4), 3, hidden=(5, 4)),
    "tabular": lambda: tabular((6,), 3),
    "cnn": lambda: cnn((1, 8, 8), 3, channels=(2, 3), hidden=7),
    "cnn4": lambda: cnn4((2, 8, 8), 3, width=4),
    "cnn1d": lambda: cnn1d((2, 16), 3, channels=(4, 6), hidden=5),
    "resnet8": lambda: resnet8((3, 8, 8), 3, width=4),
    "resnet18": lambda: resnet18((3, 8, 8), 3, width=4),
    "charlm": lambda: charlm((9,), 5, embedding=2, width=4),
    "vit": lambda: vit((1, 8, 8), 3, patch=4, width=8, depth=2, heads=2),
}


def inputs(model: StagedModel, batch: int, *lead: int) -> Tensor:
    chance = torch.Generator().manual_seed(1)
    shape = (*lead, batch, *model.input_shape)
    if model.dtype == torch.int64:
        return torch.randint(model.shapes[-1][0], shape, generator=chance)
    return torch.randn(shape, generator=chance, dtype=torch.float64)


def small(name: str) -> StagedModel:
    torch.manual_seed(0)
    return SMALL[name]().double()


@pytest.mark.parametrize(
    ("model", "parameters", "shapes"),
    [
        (mlp(GREY, 10), 784 * 200 + 200 + 200 * 10 + 10, [(200,), (10,)]),
        (mlp((60,), 10, hidden=()), 610, [(10,)]),
        (cnn(GREY, 10), 1_663_370, [(32, 14, 14), (64, 7, 7), (512,), (10,)]),
        (cnn4(GREY, 10), 252_490, [(32, 14, 14), (64, 7, 7), (128, 3, 3), (128, 3, 3), (10,)]),
        (resnet8(COLOUR, 10), 78_042, [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (10,)]),
        (resnet18(COLOUR, 10), 11_173_962, RESNET18),
        (cnn1d((9, 128), 6), 98_630, [(32, 64), (64, 32), (64, 16), (64,), (6,)]),
        (charlm((80,), 80), 69_200, [(64, 63), (64, 31), (64, 15), (64, 7), (64, 3), (64, 1), (80,)]),
    ],
    ids=["mlp", "softmax", "cnn", "cnn4", "resnet8", "resnet18", "cnn1d", "charlm"],
)
def test_published_sizes_and_shapes_known_beforehand(
    model: StagedModel, parameters: int, shapes: list[tuple[int, ...]]
) -> None:
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.shapes == shapes


@pytest.mark.parametrize("name", SMALL)
def test_every_cut_composes_to_the_whole(name: str) -> None:
    model = small(name)
    x = inputs(model, 3)
    logits, stages = model(x), model.all_features(x)
    assert [tuple(stage.shape[1:]) for stage in stages] == model.shapes
    assert torch.equal(stages[-1], logits)
    for cut in range(model.num_blocks + 1):
        z = model.features(x, cut)
        assert torch.equal(z, x if cut == 0 else stages[cut - 1])
        assert torch.equal(model.head(z, cut), logits)


@pytest.mark.parametrize("name", SMALL)
def test_keys_partition_the_state(name: str) -> None:
    model = small(name)
    state = list(model.state_dict())
    for cut in range(model.num_blocks + 1):
        body, head = model.keys(0, cut), model.keys(cut)
        assert body + head == state
        assert all(int(key.split(".")[1]) < cut for key in body)
    assert model.keys() == state


@pytest.mark.parametrize("name", SMALL)
def test_a_vectorised_cohort_equals_one_client_after_another(name: str) -> None:
    models = [small(name) for _ in range(2)]
    torch.manual_seed(7)
    for parameter in models[1].parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = inputs(models[0], 4, 2)
    y = torch.arange(4) % models[0].shapes[-1][0]

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(models[0], parameters, (x,)), y)

    each = [dict(model.named_parameters()) for model in models]
    stacked = {key: torch.stack([one[key].detach() for one in each]) for key in each[0]}
    together = vmap(grad(loss))(stacked, x)
    for index, parameters in enumerate(each):
        alone = torch.autograd.grad(loss(parameters, x[index]), list(parameters.values()))
        for key, expected in zip(parameters, alone, strict=True):
            torch.testing.assert_close(together[key][index], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_a_module_in_training_mode_draws_nothing(name: str) -> None:
    model = small(name).train()
    before = torch.get_rng_state()
    model(inputs(model, 3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("make", [mlp, cnn, cnn4, resnet8, resnet18])
def test_norm_is_a_choice(make: Callable[..., StagedModel]) -> None:
    layers = {"group": nn.GroupNorm, "batch": (nn.BatchNorm1d, nn.BatchNorm2d), "none": ()}
    every: Any = (nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)
    for norm, kinds in layers.items():
        model = make((1, 8, 8), 3, norm=norm)
        found = [module for module in model.modules() if isinstance(module, every)]
        assert bool(found) == (norm != "none")
        assert all(isinstance(module, kinds) for module in found)  # type: ignore[arg-type]
        assert any("running_mean" in key for key in model.state_dict()) == (norm == "batch")
    with pytest.raises(ConfigError, match=r"model\.norm=layer: one of group, batch, none"):
        make((1, 8, 8), 3, norm="layer")


def test_a_residual_block_by_hand() -> None:
    block = resnet8((1, 8, 8), 2, width=1, norm="none").blocks[1]
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.main[0].weight[0, 0, 1, 1] = 2.0  # identity kernels, times 2 and -3
        block.main[2].weight[0, 0, 1, 1] = -3.0
    z = torch.tensor([1.0, -1.0, 0.5, 4.0]).reshape(1, 1, 2, 2)
    # z - 3 relu(2 z), then relu: only a negative input could survive, and its shortcut is negative
    assert torch.equal(block(z), torch.zeros(1, 1, 2, 2))
    with torch.no_grad():
        block.main[2].weight[0, 0, 1, 1] = 0.5  # z + 0.5 relu(2 z) = 2 z where z > 0
    assert torch.equal(block(z).flatten(), torch.tensor([2.0, 0.0, 1.0, 8.0]))


def test_the_character_model_sees_its_whole_window() -> None:
    model = charlm((80,), 80).double()
    x = torch.randint(80, (1, 80), generator=torch.Generator().manual_seed(3))
    logits = model(x)
    for position in (0, 1, 40, 78, 79):
        changed = x.clone()
        changed[0, position] = (changed[0, position] + 1) % 80
        assert not torch.equal(model(changed), logits), position


def test_pooling_before_the_activation_changes_nothing() -> None:
    model = small("cnn")
    x = inputs(model, 2)
    convolution, pool, relu = model.blocks[0]
    assert torch.equal(model.blocks[0](x), pool(relu(convolution(x))))


@pytest.mark.parametrize(
    ("make", "shape", "sentence"),
    [
        (cnn, (14,), r"model=cnn needs images \(C, H, W\), and the data have shape \(14\)"),
        (cnn4, (1, 7, 9), r"model=cnn4 needs images of at least 8 x 8, and the data have 7 x 9"),
        (resnet18, (9, 128), r"model=resnet18 needs images"),
        (cnn1d, (1, 28, 28), r"model=cnn1d needs windows \(C, T\)"),
        (cnn1d, (9, 4), r"model=cnn1d needs at least 8 time steps, and the data have 4"),
        (charlm, (1, 28, 28), r"model=charlm needs text \(T,\)"),
        (tabular, (3, 32, 32), r"model=tabular needs rows of a table \(d,\)"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    make: Callable[..., StagedModel], shape: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(shape, 10)


def test_cuts_are_checked() -> None:
    model = small("cnn")
    model.check_cut(1)
    model.check_cut(3)
    for cut in (0, 4, -1):
        with pytest.raises(ConfigError, match=f"cut={cut} is not a boundary of a model of 4 blocks; 1 to 3"):
            model.check_cut(cut)
    with pytest.raises(ConfigError, match="one block and cannot be cut"):
        mlp((2,), 2, hidden=()).check_cut(1)


def test_layout_is_for_images_only() -> None:
    images, rows = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4)
    assert in_layout(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(in_layout(images), images)
    assert in_layout(rows) is rows
    model = in_layout(small("cnn4"))
    weights = [parameter for parameter in model.parameters() if parameter.dim() == 4]
    assert weights and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    x = inputs(model, 2)
    torch.testing.assert_close(model(in_layout(x)), small("cnn4")(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_each_configuration_file_builds_its_network(file: Path) -> None:
    shape = {"tabular": (14,), "cnn1d": (9, 128), "charlm": (80,)}.get(file.stem, GREY)
    node = yaml.safe_load(file.read_text())
    assert node["_target_"].endswith(f".{file.stem}")
    assert build_model(node, shape, 10, seed=0).shapes[-1] == (10,)


def test_every_network_has_a_configuration_file() -> None:
    assert {file.stem for file in CONF.glob("*.yaml")} == set(SMALL)
