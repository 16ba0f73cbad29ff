"""Tables that can be trusted: figures, intervals, what is refused, and what is printed bold."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedkd.errors import ConfigError
from fedkd.fairness import metrics
from simulations import sweep
from simulations.cli import main
from simulations.compare import read
from simulations.comparing.plots import ordered, pareto
from simulations.comparing.present import notes
from simulations.comparing.runs import load_run
from simulations.comparing.table import Table
from simulations.config import resolve
from simulations.shown import BAD
from tests.simulations.folders import write_run

LEVELS = np.array([0.5, 0.6, 0.7, 0.8])


def cells(table: Table, label: str) -> dict[str, float]:
    return {key: cell.value for key, cell in table.cells[label].items()}


# -- figures -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of real runs, with the outputs that end it."""
    folder = tmp_path_factory.mktemp("sweep")
    words = "method=local,fedavg_ft seed=1,2 clients=4 rounds=2 model=mlp data.max_samples=300 engine=inline"
    from simulations.run import run

    assert sweep.carry_out(sweep.plan([*words.split(), f"out={folder}"]), run) == 0
    return folder


def recomputed(folder: Path, method: str) -> dict[str, float]:
    """The figures of a method, from the parquet files alone, by pandas."""
    rows = []
    for place in folder.glob(f"{method}-*"):
        frame = pd.read_parquet(place / "clients.parquet")
        rows.append(frame.query("split == 'test' and stage == 'before' and model == 'personal'"))
    lasts = [frame[frame["round"] == 2].set_index("client")["accuracy"] for frame in rows]
    return {
        "mean": np.mean([last.mean() for last in lasts]),
        "worst10": np.mean([last.min() for last in lasts]),
        "std": np.mean([last.std(ddof=0) for last in lasts]),
        "jain": np.mean([last.sum() ** 2 / (4 * (last**2).sum()) for last in lasts]),
    }


@pytest.mark.parametrize("method", ["local", "fedavg_ft"])
def test_the_table_agrees_with_a_recomputation_from_the_rows(real: Path, method: str) -> None:
    table = pd.read_csv(real / "compare.csv", index_col="label")
    for key, value in recomputed(real, method).items():
        assert table.loc[method, key] == pytest.approx(value, abs=1e-12)
    assert table.loc[method, "repeats"] == 2


def test_gain_and_harm_agree_with_a_recomputation_from_the_rows(real: Path) -> None:
    gains = []
    for seed in (1, 2):
        last = []
        for method in ("fedavg_ft", "local"):
            frame = pd.read_parquet(next(real.glob(f"{method}-*-s{seed}")) / "clients.parquet")
            frame = frame.query(
                "split == 'test' and stage == 'before' and model == 'personal' and round == 2"
            )
            last.append(frame.set_index("client")["accuracy"])
        gains.append(last[0] - last[1])
    row = pd.read_csv(real / "compare.csv", index_col="label").loc["fedavg_ft"]
    assert row["gain_mean"] == pytest.approx(np.mean([gain.mean() for gain in gains]), abs=1e-12)
    assert row["gain_worst10"] == pytest.approx(np.mean([gain.min() for gain in gains]), abs=1e-12)
    assert row["harmed"] == pytest.approx(np.mean([(gain < 0).mean() for gain in gains]))


def test_a_sweep_ends_in_tables_and_figures(real: Path) -> None:
    for name in (
        "compare.md",
        "compare.tex",
        "figures/tradeoff.png",
        "figures/curves.pdf",
        "figures/gain.png",
    ):
        assert (real / name).stat().st_size > 0
    assert "| fedavg_ft |" in (real / "compare.md").read_text()
    assert r"fedavg\_ft & " in (real / "compare.tex").read_text()


def test_hand_computed_figures(made: Callable[..., Path], tmp_path: Path) -> None:
    table = read(
        [
            made("a", LEVELS, "method=fedavg", "seed=1", model="global"),
            made("b", LEVELS + 0.1, "method=fedavg", "seed=2", model="global"),
            made("c", LEVELS[::-1], "method=local", "seed=1"),
        ]
    )
    assert cells(table, "fedavg") == pytest.approx(
        {
            "mean": 0.7,
            "worst10": 0.55,
            "null_worst10": cells(table, "fedavg")["null_worst10"],
            "gain_mean": 0.0,
            "gain_worst10": -0.3,
            "harmed": 0.5,
            "std": np.std(LEVELS),
            "jain": (metrics.jain(LEVELS) + metrics.jain(LEVELS + 0.1)) / 2,
            "rounds_to_95": 2,
            "bytes": 20,
            "seconds": 2,
        }
    )
    assert not {"gain_mean", "harmed"} & table.cells["local"].keys()


def test_the_label_mix_has_its_own_columns(made: Callable[..., Path], tmp_path: Path) -> None:
    mix = {1: np.zeros(4), 2: LEVELS + 0.05}
    ours = made("a", LEVELS, "method=fedavg", "seed=1", mix=mix)
    alone = made("b", LEVELS, "method=local", "seed=1", mix={1: np.zeros(4), 2: LEVELS})
    found = cells(read([ours, alone]), "fedavg")
    wanted = {"mix_mean": 0.7, "mix_worst10": 0.55, "mix_gain_mean": 0.05, "mix_harmed": 0, "gain_mean": 0}
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)


def test_benign_clients_have_their_own_columns_and_bad_ones_are_named(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    """Clients 0 and 3 are bad in the first run; the second, where nobody is, counts everybody."""
    attacked = made("a", LEVELS, "method=fedavg", "attack=scale", "seed=1")
    (attacked / BAD).write_text(json.dumps({"0": "attacks", "3": "attacks"}))
    honest = made("b", LEVELS, "method=fedavg", "seed=1")
    table = read([attacked, honest])
    wanted = {"mean": 0.65, "benign_mean": 0.65, "benign_worst10": 0.6, "benign_std": 0.05}
    found = cells(table, "fedavg attack=scale")
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)
    assert cells(table, "fedavg")["benign_worst10"] == pytest.approx(0.5)
    assert "Benign are all clients but these: 0, 3 (attacks, seed 1)." in notes(table, "last")
    alone = read([honest])
    assert "benign_mean" not in cells(alone, "fedavg")
    assert not any("enign" in title for title in alone.columns())


def test_the_round_judged_is_the_last_or_the_best_on_validation(tmp_path: Path) -> None:
    test, val = {1: [0.9], 2: [0.2], 3: [0.5]}, {1: [0.3], 2: [0.6], 3: [0.4]}
    folder = write_run(tmp_path / "a", resolve(["rounds=3", "model=mlp"]), test, val)
    assert (load_run(folder).round, load_run(folder, "best").round) == (3, 2)
    assert load_run(folder, "best").clients["accuracy"].tolist() == [0.2]
    assert load_run(folder).rounds_to_95 == 1


# -- groups ------------------------------------------------------------------------------------------------


def test_seeds_of_both_kinds_are_repeats_and_settings_are_told_apart(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    folders = [
        made("a", LEVELS, "method=fedavg", "seed=1", "partition.seed=7"),
        made("b", LEVELS, "method=fedavg", "seed=1", "partition.seed=8"),
        made("c", LEVELS, "method=fedavg", "seed=2", "partition.seed=7", "engine=inline"),
        made("d", LEVELS, "method=fedavg", "seed=2", "partition.seed=7", "local.lr=0.25"),
    ]
    table = read(folders)
    told = notes(table, "last")
    assert [(each.label, len(each.runs)) for each in table.groups] == [
        ("fedavg local.lr=0.05", 3),
        ("fedavg local.lr=0.25", 1),
    ]
    assert not any(note.startswith("local.lr") for note in told)  # the labels say it


def test_a_weighting_that_draws_is_one_row_with_all_seeds(made: Callable[..., Path], tmp_path: Path) -> None:
    drfa = ("method=fedavg", "weighting=drfa", "local.steps=2")
    table = read([made(f"d{seed}", LEVELS, *drfa, f"seed={seed}") for seed in (1, 2)])
    assert [(each.label, len(each.runs)) for each in table.groups] == [("fedavg", 2)]


def test_what_is_chosen_by_name_is_told_by_name(made: Callable[..., Path], tmp_path: Path) -> None:
    """Not by all settings that the one has and the other has not; notes say what labels do not."""
    eg, fast = ("method=fedavg", "weighting=eg"), "local.lr=0.25"
    folders = [
        made("a", LEVELS, "method=fedavg", fast),
        made("b", LEVELS, *eg, fast),
        made("c", LEVELS, *eg, "weighting.alpha=0.5", fast),
        made("d", LEVELS, *eg, "attack=scale", fast, "engine=inline"),
        made("e", LEVELS, "method=local"),
    ]
    table = read(folders)
    assert [each.label for each in table.groups] == [
        "fedavg weighting=samples",
        "fedavg weighting=eg weighting.alpha=1.0",
        "fedavg weighting=eg weighting.alpha=0.5",
        "fedavg attack=scale weighting=eg weighting.alpha=1.0",
        "local",
    ]
    told = notes(table, "last")
    assert "weighting: samples (local)." in told
    assert "local.lr: 0.05 (local), 0.25 (the others)." in told
    assert not any("_target_" in note or "gamma" in note for note in told)


@pytest.mark.parametrize(
    "other", ["partition.alpha=0.1", "clients=19", "rounds=3", "local.steps=4", "split.val=0.2"]
)
def test_unlike_runs_are_refused_unless_told_otherwise(
    other: str, made: Callable[..., Path], tmp_path: Path
) -> None:
    folders = [made("a", LEVELS, "method=local"), made("b", LEVELS, "method=fedavg", other)]
    with pytest.raises(
        ConfigError, match=rf"a and .*b differ in {other.split('=')[0]} \(.*--allow-different"
    ):
        read(folders)
    table = read(folders, allow_different=True)
    paired = other.split(".")[0] in ("rounds=3", "local")
    assert ("gain_mean" in table.cells["fedavg"]) == paired


def test_folders_that_hold_no_finished_run_are_refused(made: Callable[..., Path], tmp_path: Path) -> None:
    half = made("half", LEVELS, finished=False)
    with pytest.raises(ConfigError, match=f"not finished; `fedkd resume {half}`"):
        read([half])
    with pytest.raises(ConfigError, match="is not a run folder and holds none"):
        read([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="hold the same run"):
        read([made("a", LEVELS), made("b", LEVELS)])


def test_several_settings_of_local_leave_no_gain(made: Callable[..., Path], tmp_path: Path) -> None:
    folders = [made("a", LEVELS, "method=fedavg")]
    folders += [made(f"l{lr}", LEVELS, "method=local", f"local.lr=0.{lr}") for lr in (1, 2)]
    table = read(folders)
    assert "gain_mean" not in table.cells["fedavg"]
    assert any("several settings of local-only" in note for note in notes(table, "last"))


def test_the_command(made: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made("runs/a", LEVELS, "method=fedavg")
    made("runs/b", LEVELS, "method=local")
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "runs"), "--out", str(out), "--round", "best"]) == 0
    assert "best mean on validation" in (out / "compare.md").read_text()
    assert "worst tenth" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "runs"), "--out", str(out), "--round", "first"]) == 2


# -- figures to look at ------------------------------------------------------------------------------------


def test_the_pareto_front() -> None:
    assert pareto([0.9, 0.8, 0.7, 0.85], [0.1, 0.5, 0.4, 0.5]) == [3, 0]
    assert pareto([0.5, 0.5], [0.5, 0.5]) == [0, 1]


def test_profiles_are_averaged_over_repeats_of_different_size() -> None:
    assert ordered([pd.Series([0.3, 0.1]), pd.Series([0.2, 0.6])]).tolist() == pytest.approx([0.15, 0.45])
    assert ordered([pd.Series([1.0]), pd.Series([0.0, 1.0, 0.5])]).tolist() == pytest.approx([0.5, 0.75, 1.0])
