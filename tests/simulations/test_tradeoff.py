"""Average against worst-off along a swept key: points, fronts and files by hand."""

from pathlib import Path

import pandas as pd
import pytest

from fedkd.errors import ConfigError
from simulations.compare import compare
from simulations.comparing.groups import Group, group
from simulations.comparing.runs import load_run, run_folders
from simulations.comparing.tradeoff import Point, figure, table, trace
from simulations.config import resolve
from tests.simulations.folders import write_run

CROWD = [(0.5, 0.2), (0.501, 0.201), (0.502, 0.2), (0.501, 0.202), (0.502, 0.201), (0.9, 0.4)]
ACCURACY = {0.25: [0.5, 0.9], 0.5: [0.6, 0.8], 1.0: [0.4, 0.6]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EG at three alphas with two seeds, the second a tenth better, and the base method."""
    folder = tmp_path_factory.mktemp("swept")
    for seed in (1, 2):
        for alpha, (low, high) in ACCURACY.items():
            words = ["method=fedavg", "weighting=eg", f"weighting.alpha={alpha}", f"seed={seed}"]
            add(folder / f"{alpha}-{seed}", words, [low + 0.1 * (seed - 1), high + 0.1 * (seed - 1)])
        add(folder / f"base-{seed}", ["method=fedavg", f"seed={seed}"], [0.3, 0.9])
    return folder


def add(out: Path, words: list[str], accuracy: list[float]) -> None:
    write_run(out, resolve(words), {1: accuracy}, model="global")
    rounds = pd.read_csv(out / "rounds.csv")
    rounds.assign(worst_class=accuracy[0] / 2).to_csv(out / "rounds.csv", index=False)


def groups_in(folder: Path) -> list[Group]:
    return group([load_run(place) for place in run_folders([folder])])


def test_points_and_fronts_by_hand(swept: Path) -> None:
    curves = trace(groups_in(swept), "weighting.alpha")
    (eg,) = [points for points in curves.values() if len(points) == 3]
    assert [point.value for point in eg] == [0.25, 0.5, 1.0]
    assert eg[0].repeats["worst10"].tolist() == pytest.approx([0.5, 0.6])
    frame = table(curves, "weighting.alpha").set_index("weighting.alpha")
    assert frame.loc[0.25, ["mean", "worst10", "worst_class"]].tolist() == pytest.approx([0.75, 0.55, 0.275])
    assert frame.loc[0.25, ["mean_low", "mean_high"]].tolist() == pytest.approx([0.7, 0.8])
    assert frame.loc[0.5, "worst10_front"]  # as high a mean as at 0.25, and a better worst tenth
    assert frame["worst10_front"].sum() == 1


def test_compare_writes_table_and_figure(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    compare([swept], out, over="weighting.alpha")
    assert len(pd.read_csv(out / "tradeoff.csv")) == 4
    assert "| 0.5 | 0.750 (0.700, 0.800) |" in (out / "tradeoff.md").read_text()
    assert (out / "figures" / "tradeoff_over.png").read_bytes().startswith(b"\x89PNG")


def test_values_beside_points_never_cover_one_another() -> None:
    crowded = [pd.DataFrame({"mean": [m], "worst10": [w], "worst_class": [w]}) for m, w in CROWD]
    curves = {"one": [Point(k / 10, repeats) for k, repeats in enumerate(crowded)]}
    drawn = figure(curves, "weighting.alpha", "by hand")
    for axes in drawn.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert 2 <= len(boxes) < len(CROWD)  # both ends are named, and not everybody
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        assert {"0", "0.5"} <= {text.get_text() for text in axes.texts}


def test_values_far_from_one_another_are_all_named() -> None:
    places = ((1.0, 0.844, 0.67), (5.0, 0.848, 0.65), (None, 0.849, 0.63), (None, 0.918, 0.71))
    point = [
        Point(value, pd.DataFrame({"mean": [mean], "worst10": [low], "worst_class": [low]}))
        for value, mean, low in places
    ]
    curves = {"swept": point[:2], "plain": point[2:3], "alone": point[3:]}
    for axes in figure(curves, "weighting.q", "by hand").axes:
        assert [text.get_text() for text in axes.texts] == ["1", "5"]


def test_a_key_that_is_not_swept_is_refused(swept: Path) -> None:
    with pytest.raises(ConfigError, match=r"--over weighting\.t: these runs do not differ"):
        trace(groups_in(swept), "weighting.t")
