"""Pictures of generators: they are drawn for every kind, and the run's numbers do not depend on them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.drivers import difference
from simulations.config import resolve
from simulations.pictures_drawn import grid_figure, principal_plane, projection_figure
from simulations.run import run

TINY = (
    "engine=inline",
    "model=mlp",
    "model.hidden=[12,8]",
    "clients=3",
    "data.max_samples=200",
    "local.steps=2",
    "rounds=3",
    "evaluation.after=false",
)
QUICK = {
    "fedgen": ("method.strategy.fitting.steps=2", "method.client.steps=1"),
    "fedd2s_robust": ("method.strategy.fitting.steps=2", "method.strategy.samples=20"),
    "fedftg": ("method.strategy.scheme.loops=1", "generator.channels=2"),
}


def play(out: Path, *overrides: str) -> Path:
    run(resolve([*TINY, *overrides, f"out={out}"]), out)
    return out


@pytest.mark.parametrize("method", QUICK)
def test_pictures_change_no_number(method: str, tmp_path: Path) -> None:
    often, last = (
        play(tmp_path / name, f"method={method}", *QUICK[method], f"figures_every={every}")
        for name, every in (("often", 1), ("last", 0))
    )
    assert [path.name for path in sorted((often / "figures").glob("generated_*"))] == [
        f"generated_r00{number}.png" for number in (1, 2, 3)
    ]
    assert [path.name for path in (last / "figures").glob("generated_*")] == ["generated_r003.png"]
    assert difference(often, last) == 0
    assert pd.read_csv(last / "rounds.csv")["generator_covered"].between(0, 1).all()


@pytest.mark.parametrize("data", [("data=synthetic", "model=tabular", "generator=table")])
def test_tables_have_pictures_too(data: tuple[str, ...], tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith(("model", "data"))]
    out = tmp_path / "run"
    more = ["method=fedftg", "method.strategy.scheme.loops=1", *data, "rounds=1", f"out={out}"]
    run(resolve([*words, *more]), out)
    assert (out / "figures" / "generated_r001.png").exists()


def test_methods_without_a_generator_have_none(tmp_path: Path) -> None:
    assert not list((play(tmp_path / "run", "method=fedavg") / "figures").glob("generated_*"))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (9, 128), (14,)])
def test_a_row_a_class_generated_left_of_real(shape: tuple[int, ...]) -> None:
    rows = {"cat": torch.zeros(8, *shape), "dog": torch.ones(10, *shape)}  # two real ones of cat
    figure = grid_figure(rows, torch.rand(4, *shape), "about")
    assert len(figure.axes) == 20
    headings = [axes.get_xlabel() for axes in figure.axes[-10:]]
    assert headings == ["generated"] * 6 + ["real"] * 4
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "cat" and titles[10] == "dog"
    drawn = [bool(axes.images or axes.lines or axes.patches) for axes in figure.axes]
    assert drawn == [True] * 8 + [False] * 2 + [True] * 10


def test_the_plane_is_that_of_the_largest_variance() -> None:
    points = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]])
    plane, share = principal_plane(points)
    assert np.allclose(plane.abs(), [[3, 0], [3, 0], [0, 2], [0, 2], [0, 0], [0, 0]], atol=1e-6)
    assert share == pytest.approx(26 / 28)
    assert principal_plane(torch.tensor([[1.0], [2.0]]))[0].shape == (2, 2)


def test_the_projection_holds_both_kinds_of_every_class() -> None:
    made, real = torch.randn(6, 2, 3), torch.randn(4, 2, 3)
    labels, y = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, 1])
    (axes,) = projection_figure(made, labels, real, y, ("cat", "dog"), 1, "about").axes
    sizes = [len(collection.get_offsets()) for collection in axes.collections]
    assert sizes == [1, 3, 3, 3]  # dots, then crosses, class by class
