"""Every figure of the comparison's page against the rows of its runs."""

import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from tests.pages.reading import charts, sections, trace

ROUNDED = 6e-5


def accuracies_of(folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "clients.parquet")
    rows = rows.query("split == 'test' and stage == 'before' and model == 'personal'")
    return rows.pivot(index="client", columns="round", values="accuracy")


def runs_of(swept: Path, method: str) -> list[pd.DataFrame]:
    return [accuracies_of(folder) for folder in folders_of(swept, method)]


def folders_of(swept: Path, method: str) -> list[Path]:
    """By seed, with which a folder's name ends."""
    return sorted(swept.glob(f"{method}-*"), key=lambda folder: folder.name.rpartition("-")[2])


def test_a_sweep_ends_in_a_page_and_figures(swept: Path) -> None:
    wanted = ["table", "tradeoff", "profiles", "curves", "gain", "cost", "runs"]
    assert sections(swept / "compare.html") == wanted
    names = {path.name for path in (swept / "figures").iterdir()}
    for name in ("tradeoff", "curves", "profiles", "cost", "gain"):
        assert {f"{name}.png", f"{name}.pdf"} <= names


@pytest.mark.parametrize("method", ["local", "fedavg_ft"])
def test_curves_profiles_and_points(swept: Path, method: str) -> None:
    figures, runs = charts(swept / "compare.html"), runs_of(swept, method)
    means = np.array([table.mean() for table in runs])
    worst = np.array([table.min() for table in runs])  # of six clients the worst tenth is the worst one
    for column, values in (("mean", means), ("worst10", worst)):
        lower, upper, line = [
            t for t in figures[f"curves-{column}"]["data"] if t.get("legendgroup") == method
        ]
        assert line["y"] == pytest.approx(values.mean(0).tolist(), abs=ROUNDED)
        assert lower["y"] == pytest.approx(values.min(0).tolist(), abs=ROUNDED)
        assert upper["y"] == pytest.approx(values.max(0).tolist(), abs=ROUNDED)
    profile = np.mean([np.sort(table[4]) for table in runs], axis=0)
    assert trace(figures["profiles-chart"], method)["y"] == pytest.approx(profile.tolist(), abs=ROUNDED)
    point = trace(figures["tradeoff-chart"], method)
    assert point["x"] == pytest.approx([means[:, -1].mean()])
    assert point["y"] == pytest.approx([worst[:, -1].mean()])


def test_cost_and_gain(swept: Path) -> None:
    figures = charts(swept / "compare.html")
    folders = folders_of(swept, "fedavg_ft")
    rounds = [pd.read_csv(folder / "rounds.csv") for folder in folders]
    for key, columns in {
        "bytes": ["bytes_up", "bytes_down"],
        "seconds": ["seconds"],
        "simulated_seconds": ["simulated_seconds"],
    }.items():
        spent = np.mean([table[columns].sum(axis=1).cumsum() for table in rounds], axis=0)
        found = trace(figures[f"cost-{key}"], "fedavg_ft")
        assert found["x"] == pytest.approx(spent.tolist(), abs=0.06)
        means = np.mean([table.mean() for table in runs_of(swept, "fedavg_ft")], axis=0)
        assert found["y"] == pytest.approx(means.tolist(), abs=ROUNDED)
    pairs = zip(runs_of(swept, "fedavg_ft"), runs_of(swept, "local"), strict=True)
    gains = pd.concat([own[4] - alone[4] for own, alone in pairs], axis=1)
    found = trace(figures["gain-chart"], "fedavg_ft")
    by_client = dict(zip(found["text"], found["y"], strict=True))
    for client, gain in gains.mean(axis=1).items():
        assert by_client[f"client {client}"] == pytest.approx(gain, abs=ROUNDED)
    harmed = float((gains < 0).mean().mean())
    assert found["name"] == f"fedavg_ft: mean {gains.to_numpy().mean():+.3f}, {harmed:.0%} harmed"


def test_each_run_leads_to_its_own_page(swept: Path) -> None:
    body = (
        (swept / "compare.html").read_text().partition('<table id="runs-table">')[2].partition("</table>")[0]
    )
    places = re.findall(r'<a href="([^"]+)">', body)
    assert len(places) == 4
    assert all((swept / unquote(place)).is_file() for place in places)
