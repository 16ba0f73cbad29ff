"""Drivers that are killed, and runs that go on: the same figures, models and states, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.drivers import TINY, difference, ended, play, start, start_command, tiny
from simulations.rundir import standing
from simulations.saved import newest

METHODS = {
    "fedavg": [],
    "local": [],  # states at the clients
    "fedavgm": [],  # a state at the server
    "fedadam": ["checkpoint_every=2", "evaluate_every=3"],
    "ditto": ["weighting=eg"],  # both
}


@pytest.mark.parametrize("method", METHODS)
def test_killed_at_writes_again_and_again(method: str, tmp_path: Path) -> None:
    """Every attempt dies at some write to the disk, until one comes to the end."""
    config = tiny(f"method={method}", *METHODS[method])
    assert ended(start(config, tmp_path / "undisturbed")) == 0
    gaps, code, kills = random.Random(method), -signal.SIGKILL, -1
    while code == -signal.SIGKILL and kills < 40:
        kills += 1
        code = ended(start(config, tmp_path / "killed", kill_at=gaps.randint(4, 20))) or 0
    assert (code, standing(tmp_path / "killed")) == (0, "finished")
    assert kills > 0
    assert difference(tmp_path / "undisturbed", tmp_path / "killed") == 0


@pytest.mark.parametrize("method", ["scaffold", "fedgen", "fedd2s_robust", "feddbe", "fedtgp", "fedproto"])
def test_what_the_servers_of_our_own_methods_remember_is_saved(method: str, tmp_path: Path) -> None:
    config = tiny(f"method={method}")
    assert ended(start(config, tmp_path / "undisturbed")) == 0
    assert ended(start(config, tmp_path / "killed", kill_at=25)) == -signal.SIGKILL
    saved = newest(tmp_path / "killed")
    assert saved is not None and 2 <= saved.round < 4
    assert ended(start(config, tmp_path / "killed")) == 0
    assert difference(tmp_path / "undisturbed", tmp_path / "killed") == 0


def test_killed_at_random_moments(tmp_path: Path) -> None:
    config = tiny("method=local", "rounds=12")
    assert ended(start(config, tmp_path / "undisturbed")) == 0
    moments, kills = random.Random(1), 0
    for _ in range(3):
        process = start(config, tmp_path / "killed")
        wait_for(tmp_path / "killed" / "rounds.csv")
        time.sleep(moments.uniform(0.0, 0.2))
        process.kill()
        kills += ended(process) == -signal.SIGKILL
    assert ended(start(config, tmp_path / "killed")) == 0
    assert kills > 0
    assert difference(tmp_path / "undisturbed", tmp_path / "killed") == 0


def wait_for(path: Path, text: str = "", within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < end, f"{path} did not come to hold '{text}'"
        time.sleep(0.005)


def test_from_a_damaged_checkpoint_to_the_same_end(tmp_path: Path) -> None:
    config = tiny("method=fedavgm")
    assert ended(start(config, tmp_path / "undisturbed")) == 0
    assert ended(start(config, tmp_path / "cut", kill_at=25)) == -signal.SIGKILL
    saved = newest(tmp_path / "cut")
    assert saved is not None and saved.round >= 2
    server = tmp_path / "cut" / "checkpoint" / f"{saved.round:06d}-server.safetensors"
    server.write_bytes(server.read_bytes()[:-1])
    assert ended(start(config, tmp_path / "cut")) == 0
    assert difference(tmp_path / "undisturbed", tmp_path / "cut") == 0


def test_interrupt_of_runs_side_by_side_saves_the_last_whole_round_of_each(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    words = [*TINY, "method=local,fedavg", "rounds=4000", "checkpoint_every=10000", f"out={out}"]
    command = [sys.executable, "-m", "simulations.cli", "run", "-m", *words, "sweep.parallel=2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 90
        while len(folders := sorted(out.glob("*-s0"))) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        for folder in folders:
            wait_for(folder / "rounds.csv", "\n2,")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, len(folders)) == (130, 2) and "Traceback" not in told
    assert "fedkd: interrupted; the same command again does what is left" in told
    for folder in folders:
        saved, rows = newest(folder), (folder / "rounds.csv").read_text().splitlines()
        assert saved is not None and saved.round == int(rows[-1].partition(",")[0]) < 4000


def test_interrupt_saves_the_last_whole_round_and_ends_with_the_sentence(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*TINY, "method=local", "rounds=400", "checkpoint_every=1000", f"out={out}"]
    process = start_command(["run", *words], tmp_path / "log")
    wait_for(out / "rounds.csv", "\n2,")
    os.kill(process.pid or 0, signal.SIGINT)
    assert ended(process) == 130
    told = (tmp_path / "log").read_text()
    assert f"fedkd: interrupted; `fedkd resume {out}` goes on from the last whole round" in told
    assert "Traceback" not in told
    saved = newest(out)
    assert saved is not None
    last = int((out / "rounds.csv").read_text().splitlines()[-1].partition(",")[0])
    assert saved.round == last and len(saved.clients) == 4


@pytest.mark.slow
def test_the_ray_driver_is_killed_and_the_run_goes_on(tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith("engine")]
    words += ["method=ditto", "rounds=6", "engine.workers=2"]
    play(tiny("method=ditto", "rounds=6"), tmp_path / "inline")
    out = tmp_path / "run"
    program = [sys.executable, "-m", "simulations.cli"]
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0"}
    process = subprocess.Popen([*program, "run", *words, f"out={out}"], env=environment)
    wait_for(out / "rounds.csv", "\n2,")
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert standing(out) == "unfinished"
    subprocess.run([*program, "resume", str(out)], env=environment, check=True, timeout=120)
    assert difference(tmp_path / "inline", out) == 0
