"""The interface: shapes, seeds, conditions, norms, refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.generators.base import Condition, ema_, norm_layer, reset, shadow_of
from fedkd.generators.convolutional import Convolutional, Scale, sizes
from fedkd.generators.deepinversion import jitter
from fedkd.generators.latent import Latent
from fedkd.generators.noise import Noise
from fedkd.seeds import torch_rng

LABELS = torch.tensor([0, 1, 2, 2, 0])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (9, 128), (1, 5, 7)])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_convolutional_makes_the_shape(shape: tuple[int, ...], norm: str, rng: torch.Generator) -> None:
    made = Convolutional({0: shape}, 3, rng, nz=5, channels=4, norm=norm).sample(LABELS, rng)  # type: ignore[arg-type]
    assert made.shape == (5, *shape)


def test_sizes_double_up_to_the_full_size() -> None:
    assert sizes((1, 28, 28)) == [(7, 7), (14, 14), (28, 28)]
    assert sizes((3, 64, 64)) == [(8, 8), (16, 16), (32, 32), (64, 64)]
    assert sizes((9, 20)) == [(5,), (10,), (20,)]
    assert sizes((1, 6, 6)) == [(6, 6)]


def test_outputs_are_standardised_or_in_the_units_of_the_data(rng: torch.Generator) -> None:
    many = torch.zeros(400, dtype=torch.int64)
    standard = Convolutional({0: (2, 8, 8)}, 3, rng, channels=4).sample(many, rng)
    assert torch.allclose(standard.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(standard.var((0, 2, 3)), torch.ones(2), atol=1e-2)
    scale = Scale((0.5, 0.25), (0.5, 1.0), rank=2)
    assert torch.equal(scale(torch.zeros(1, 2, 1, 1)).flatten(), torch.tensor([0.0, 0.25]))


def test_latent_follows_the_cut_with_a_shared_trunk(rng: torch.Generator) -> None:
    made = Latent({1: (4, 6, 6), 2: (3, 5), 3: (7,)}, 3, rng, nz=2, hidden=8)
    assert made.cut == 3 and made.sample(LABELS, rng).shape == (5, 7)
    assert made.move(1).sample(LABELS, rng).shape == (5, 4, 6, 6)
    assert made.move(2).sample(LABELS, rng).shape == (5, 3, 5)
    made.sample(LABELS, rng).sum().backward()
    touched = {
        name.split(".")[1] for name, p in made.named_parameters() if p.grad is not None and "outputs" in name
    }
    assert touched == {"2"}
    assert all(p.grad is not None for p in made.trunk.parameters())
    with pytest.raises(ConfigError, match="cut 5"):
        made.move(5)


def test_same_seed_same_sample_and_the_global_generators_are_left_alone() -> None:
    before, before_np = torch.get_rng_state(), np.array(np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002

    def once(seed: int) -> torch.Tensor:
        made = Convolutional({0: (1, 8, 8)}, 3, torch_rng(seed, "init"), channels=4)
        return made.sample(LABELS, torch_rng(seed, "noise"))

    first = once(1)
    torch.randn(3)
    assert torch.equal(first, once(1))
    assert not torch.equal(first, once(2))
    torch.set_rng_state(before)
    once(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_np)  # type: ignore[index]  # noqa: NPY002


def test_condition_merges_as_written() -> None:
    noise, labels = torch.tensor([[2.0, 3.0]]), torch.tensor([1])
    assert Condition(2, 3, "onehot", "concat")(noise, labels).tolist() == [[2.0, 3.0, 0.0, 1.0, 0.0]]
    assert Condition(2, 3, "none", "concat")(noise, labels).tolist() == [[2.0, 3.0]]
    for merge, expected in (
        ("product", [[10.0, 21.0]]),
        ("sum", [[7.0, 10.0]]),
        ("concat", [[2.0, 3.0, 5.0, 7.0]]),
    ):
        condition = Condition(2, 3, "embedding", merge)  # type: ignore[arg-type]
        assert condition.embedding is not None
        with torch.no_grad():
            condition.embedding.weight[1] = torch.tensor([5.0, 7.0])
        assert condition(noise, labels).tolist() == expected
        assert condition.width == len(expected[0])


def test_the_label_matters_for_a_conditional_generator_only(rng: torch.Generator) -> None:
    noise, zeros, ones = torch.randn(4, 3, generator=rng), torch.zeros(4).long(), torch.ones(4).long()
    for label, differs in (("onehot", True), ("embedding", True), ("none", False)):
        made = Latent({0: (5,)}, 3, rng, nz=3, hidden=8, label=label).eval()  # type: ignore[arg-type]
        assert torch.equal(made(noise, zeros), made(noise, ones)) is not differs


def test_noise_kinds(rng: torch.Generator) -> None:
    uniform = Latent({0: (2,)}, 3, rng, nz=50, noise="uniform").draw(100, rng)
    gaussian = Latent({0: (2,)}, 3, rng, nz=50).draw(100, rng)
    assert uniform.min() >= 0 and uniform.max() <= 1 and abs(float(uniform.mean()) - 0.5) < 0.02
    assert gaussian.min() < -1 and abs(float(gaussian.std()) - 1) < 0.05


def test_the_placebo_ignores_labels_and_trains_nothing() -> None:
    placebo = Noise({1: (2, 3), 2: (4,)}, 3)
    assert list(placebo.parameters()) == []
    assert placebo.sample(LABELS, torch_rng(0, "n")).shape == (5, 4)
    one = placebo.move(1).sample(LABELS, torch_rng(0, "n"))
    assert one.shape == (5, 2, 3)
    assert torch.equal(one, placebo.sample(torch.zeros(5).long(), torch_rng(0, "n")))


def test_group_norm_of_a_vector_never_normalises_a_single_value() -> None:
    for channels in (4, 6, 8, 16, 32, 100):
        layer = norm_layer("group", channels, 0)
        assert isinstance(layer, nn.GroupNorm) and channels // layer.num_groups >= 4
    assert isinstance(norm_layer("batch", 4, 2), nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm": "layer"}, "generator.norm=layer: one of batch, group, none"),
        ({"label": "both"}, "generator.label=both"),
        ({"merge": "product"}, "needs generator.label=embedding"),
        ({"noise": "laplace"}, "generator.noise=laplace"),
        ({"nz": 0}, "generator.nz=0: a whole number from 1"),
        ({"hidden": 0}, "generator.hidden=0"),
        ({"depth": -1}, "generator.depth=-1"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(
    change: dict[str, Any], words: str, rng: torch.Generator
) -> None:
    with pytest.raises(ConfigError, match=words):
        Latent({0: (2,)}, 3, rng, **change)


def test_convolutional_refuses_vectors(rng: torch.Generator) -> None:
    with pytest.raises(ConfigError, match="convolutional"):
        Convolutional({0: (7,)}, 3, rng)
    with pytest.raises(ConfigError, match=r"generator\.channels=0"):
        Convolutional({0: (1, 8, 8)}, 3, rng, channels=0)


def test_reset_changes_only_what_it_is_given(latent: Latent) -> None:
    before = {name: tensor.clone() for name, tensor in latent.state_dict().items()}
    reset(latent.outputs, torch_rng(1, "reset"))
    changed = {name for name, tensor in latent.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"outputs.1.weight", "outputs.1.bias"}
    with torch.no_grad():
        latent.trunk[1].weight.fill_(7.0)  # type: ignore[union-attr, operator]
    reset(latent, torch_rng(1, "reset"))
    assert torch.equal(latent.trunk[1].weight, torch.ones(16))  # type: ignore[arg-type]
    assert abs(float(latent.trunk[0].weight.detach().std()) - 0.02) < 0.004  # type: ignore[operator, union-attr]


def test_ema_is_a_weighted_mean_and_copies_counters() -> None:
    model, shadow = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(8.0)  # type: ignore[union-attr]
        model.num_batches_tracked.fill_(5)  # type: ignore[union-attr]
    ema_(shadow, model, 0.75)
    assert shadow.weight.item() == 0.75 * 1.0 + 0.25 * 3.0
    assert shadow.running_mean.item() == 2.0  # type: ignore[union-attr]
    assert shadow.num_batches_tracked.item() == 5  # type: ignore[union-attr]


def test_a_shadow_is_independent(latent: Latent) -> None:
    shadow = shadow_of(latent)
    reset(latent, torch_rng(3, "reset"))
    assert not torch.equal(shadow.get_parameter("trunk.0.weight"), latent.get_parameter("trunk.0.weight"))


def test_jitter_shifts_around_the_edges_and_mirrors() -> None:
    x, rng = torch.arange(16.0).view(1, 1, 4, 4), torch_rng(0, "jitter")
    views = [jitter(1, rng)(x) for _ in range(40)]
    assert all(sorted(view.flatten().tolist()) == x.flatten().tolist() for view in views)
    assert len({tuple(view.flatten().tolist()) for view in views}) > 10
    still = {tuple(jitter(0, rng)(x).flatten().tolist()) for _ in range(20)}
    assert still == {tuple(x.flatten().tolist()), tuple(x.flip(3).flatten().tolist())}
