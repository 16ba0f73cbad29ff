"""Drift correction and knowledge exchange, end to end on real images: rows, bytes, states, architectures."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from clients.app import STATE
from clients.arrays import tensors_from_record
from fedkd.errors import ConfigError
from simulations.config import resolve
from simulations.engine.opening import open_grid
from simulations.loop import Plan, play
from simulations.observe import ObservedGrid
from simulations.run import client_program, prepare, run

TINY = ["engine=inline", "model=mlp", "data.max_samples=300", "clients=4", "evaluation.mix_samples=50"]
MODEL = 4 * 159_010
# Bytes that a client sends in the second round; None where they depend on the numbers.
GLOBAL = {"scaffold": 2 * MODEL, "feddyn": MODEL, "fednova": MODEL, "moon": MODEL, "fedntd": MODEL}
OWN = {
    "fd": 10 * (4 * 10 + 8),
    "fedproto": 10 * (4 * 200 + 8),
    "fedtgp": 10 * (4 * 200 + 8),
    "fedmd": 500 * 40,
}
BOTH = {"fml": MODEL, "fedkd": None, "feddbe": MODEL}


@pytest.mark.parametrize("method", [*GLOBAL, *OWN, *BOTH])
def test_two_rounds_write_their_rows_and_count_what_is_sent(method: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(resolve([f"method={method}", *TINY, "rounds=2", f"out={out}"]), out)
    rows = pd.read_parquet(out / "clients.parquet")
    before = rows[(rows["split"] == "test") & (rows["stage"] == "before") & (rows["round"] == 2)]
    wanted = {"global"} if method in GLOBAL else {"personal"} if method in OWN else {"personal", "global"}
    assert set(before["model"]) == wanted and len(before) == 4 * len(wanted)
    summary = json.loads((out / "summary.json").read_text())
    used = before[before["model"] == ("global" if method in GLOBAL else "personal")]
    assert summary["mean"] == pytest.approx(used["accuracy"].mean()) and summary["total_failures"] == 0
    up = pd.read_csv(out / "rounds.csv")["bytes_up"].iloc[1]
    sent = (GLOBAL | OWN | BOTH)[method]
    assert up == 4 * sent if sent else 0 < up < 4 * MODEL


def states_of(grid: Any) -> dict[int, dict[str, torch.Tensor]]:
    return {
        client: tensors_from_record(state.array_records[STATE])
        for client, state in grid.client_states().items()
        if STATE in state
    }


@pytest.mark.parametrize("method", ["scaffold", "feddyn", "moon", "fd", "fml", "feddbe", "fedmd"])
def test_absent_clients_keep_their_state(method: str) -> None:
    prepared = prepare(resolve([f"method={method}", *TINY, "participation=2"]))
    grid = open_grid(prepared.config, client_program(prepared))
    observed = ObservedGrid(grid, grid.get_node_ids(), prepared.federation.train_clients.tolist())
    arrays, before = prepared.arrays, states_of(grid)
    for number in (1, 2, 3):
        arrays = play(prepared.strategy, observed, arrays, Plan(0, number, first=number), [])
        now = states_of(grid)
        changed = {k for k, state in now.items() if not _same(state, before.get(k, {}))}
        assert len(changed) == (0 if method == "feddbe" and number == 1 else 2)
        before = now


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


SAME = ["clients=3", "data.max_samples=300", "partition=iid", "local.batch_size=1000", "local.epochs=2"]


def test_without_drift_scaffold_and_fednova_are_fedavg(tmp_path: Path) -> None:
    """One round at full participation; zero controls, and equal steps since everybody's data is one batch."""
    losses = {}
    for method in ("fedavg", "scaffold", "fednova", "feddyn"):
        out = tmp_path / method
        extra = ["method.client.alpha=1e-9"] if method == "feddyn" else []
        run(resolve([f"method={method}", *TINY, *SAME, *extra, "rounds=1", f"out={out}"]), out)
        rows = pd.read_parquet(out / "clients.parquet")
        kept = rows[(rows["stage"] == "before") & (rows["model"] == "global")]
        losses[method] = kept.sort_values(["client", "split"])["loss"].to_numpy()
    for method in ("scaffold", "fednova"):
        assert losses[method].tolist() == losses["fedavg"].tolist()
    assert losses["feddyn"] == pytest.approx(losses["fedavg"], abs=1e-5)


SMALL = "{_target_: fedkd.models.cnn.cnn4, width: 2}"
NARROW = "{_target_: fedkd.models.mlp.mlp, hidden: [72]}"


@pytest.mark.parametrize("method", ["local", "fd", "fedproto", "fedtgp", "fml", "fedkd", "fedmd"])
def test_methods_that_exchange_knowledge_run_with_different_models(method: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kinds = f"model.per_client=[{NARROW},{SMALL}]"
    run(resolve([f"method={method}", *TINY, kinds, "rounds=2", f"out={out}"]), out)
    rows = pd.read_parquet(out / "clients.parquet")
    last = rows[(rows["split"] == "test") & (rows["stage"] == "before") & (rows["round"] == 2)]
    assert sorted(last[last["model"] == "personal"]["client"]) == [0, 1, 2, 3]
    assert (last["model"] == "global").any() == (method in BOTH)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["method=fedavg", "model.per_client=[mlp,cnn4]"],
            r"model\.per_client does not go with method=fedavg",
        ),
        (["method=scaffold", "model.per_client=[mlp,cnn4]"], r"model\.per_client does not go with"),
        (["method=fedproto", "model.per_client=[mlp,cnn4]"], "one feature width .* 200, 1152"),
    ],
)
def test_models_that_do_not_go_together_are_refused_in_a_sentence(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prepare(resolve([*TINY, *words]))
