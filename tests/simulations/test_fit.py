"""Sweeps and tunings of which one method does not go with data or model: refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from fedkd.data.federation import Federation
from simulations import fit
from simulations.cli import main
from simulations.config import resolve

SMALL = ["clients=4", "rounds=1", "data.max_samples=400", "engine=inline"]


@pytest.mark.parametrize("command", [["run", "-m"], ["tune", "trials=2"]])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["method=fedavg,fedbn", "model=mlp"], "fedbn-fashion_mini-"),
        (["method=fd,fedavg_ft", "model.per_client=[cnn,mlp]"], "does not go with method=fedavg_ft"),
    ],
)
def test_what_does_not_fit_is_told_before_the_first_run(
    command: list[str], words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*command, *words, *SMALL, f"out={out}"]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_repeats_are_built_once_and_so_are_data_that_runs_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[Any] = []
    prepared: list[tuple[str, Federation]] = []
    build = fit.build_federation
    monkeypatch.setattr(fit, "build_federation", lambda config: built.append(build(config)) or built[-1])
    monkeypatch.setattr(
        fit,
        "prepare",
        lambda config, federation: prepared.append(
            (f"{config['choices']['method']} {config['seed']}", federation)
        ),
    )
    runs = [
        resolve([f"method={method}", f"seed={seed}", f"clients={clients}", "local.lr=0.1"])
        for clients in (4, 5)
        for method in ("fedavg", "fedprox")
        for seed in (1, 2, 3)
    ]
    fit.check_fit(runs)
    assert [run for run, _ in prepared] == ["fedavg 1", "fedprox 1"] * 2
    assert [federation.num_clients for _, federation in prepared] == [4, 4, 5, 5]
    assert prepared[0][1] is prepared[1][1] and len(built) == 2
