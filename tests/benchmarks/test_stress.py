"""A small part of the fault matrix that `make stress` runs."""

import pytest

from benchmarks.stress import main


@pytest.mark.slow
def test_faults_of_workers_clients_and_drivers_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--times", "1", "--rounds", "3", "--methods", "ditto", "--kinds", "all", "nan", "driver"]
    code = main(words)
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if "(raylet)" not in line]  # Ray may say that a worker has died
    assert [line.split()[:3] for line in told[1:4]] == [[kind, "ditto", "1/1"] for kind in words[-3:]]
    assert all(int(line.split()[3]) > 0 for line in told[1:4])  # the faults did take place
    assert told[-1].endswith("largest difference 0, 0 rows over their limit") and code == 0
