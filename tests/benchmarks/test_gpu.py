"""The GPU's benchmark, on a CPU: what it would write."""

import pytest
import torch

from benchmarks import cohorts, gpu


def test_the_page_has_a_row_for_each_network_and_cohort(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {name: cohorts.MODELS[name] for name in ("MLP 784-16-10", "small CNN")}
    monkeypatch.setattr(cohorts, "MODELS", small)
    page = gpu.measure("cpu", "this machine", cohorts=(1, 3), samples=40, repeats=1)
    table = [
        line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "network" not in line
    ]
    assert [(row[0], row[2]) for row in table] == [(f"| {name}", k) for name in small for k in ("1", "3")]
    assert all(float(value.rstrip(" |")) > 0 for row in table for value in row[3:])


def test_without_a_gpu_nothing_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 2 and "no GPU" in capsys.readouterr().err
