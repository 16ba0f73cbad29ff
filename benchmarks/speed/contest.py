"""Competitors in processes of their own, and rounds of theirs in turns."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
BENCH_PYTHON = ROOT / ".bench-venv" / "bin" / "python"


class Competitor:
    """A process that runs a turn of rounds at a time; see `row.py`."""

    def __init__(self, *arguments: str, python: str | Path = sys.executable, turn: int = 1) -> None:
        command = [str(python), "-m", "benchmarks.speed.row", str(turn), *arguments]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, text=True, cwd=ROOT)
        self._expect()

    def round(self) -> float:
        """Seconds a round of one more turn."""
        self._tell("go")
        return float(self._expect())

    def stop(self) -> str:
        """End it; what it said last."""
        self._tell("stop")
        assert self.process.stdout is not None
        words = self.process.stdout.read()
        self.process.wait(60)
        return words

    def _tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def _expect(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended")  # type: ignore[arg-type]
        return line


def start(commands: Mapping[str, Sequence[str]], turn: int = 1) -> dict[str, Competitor]:
    """The competitors that can be started, one after another; those of `blaze` in their own environment."""
    running = {}
    for name, words in commands.items():
        try:
            python = BENCH_PYTHON if words[0] == "blaze" else sys.executable
            running[name] = Competitor(*words, python=python, turn=turn)
        except (OSError, RuntimeError) as error:
            print(f"{name}: left out ({error})", file=sys.stderr, flush=True)
    return running


def alternate(
    commands: Mapping[str, Sequence[str]], repeats: int, warm: int = 1, turn: int = 1
) -> dict[str, list[float]]:
    """Seconds a round of `repeats` turns of each, one after the other, after some to get warm."""
    running = start(commands, turn)
    times: dict[str, list[float]] = {name: [] for name in running}
    try:
        for repeat in range(warm + repeats):
            for name, competitor in running.items():
                seconds = competitor.round()
                if repeat >= warm:
                    times[name].append(seconds)
    finally:
        for competitor in running.values():
            competitor.stop()
    return times


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as fast as theirs ours is: the median over neighbouring rounds, which share the load."""
    return median(a / b for a, b in zip(theirs, ours, strict=True))


def machine() -> str:
    """What this was measured on, in one line."""
    facts = {
        key.strip(): value.strip()
        for key, _, value in (
            line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
        )
    }
    cores, name = len(os.sched_getaffinity(0)), facts.get("model name", "unknown processor")
    amx = "with" if "amx_bf16" in facts.get("flags", "") else "without"
    return f"{cores} cores of {name}, {amx} AMX"


def versions() -> str:
    """The versions that matter, of both environments."""
    from importlib.metadata import version

    ours = [f"{name} {version(name)}" for name in ("torch", "flwr", "ray", "numpy")]
    ask = (
        "from importlib.metadata import version as v; print('blazefl', v('blazefl'), 'on torch', v('torch'))"
    )
    try:
        found = subprocess.run([BENCH_PYTHON, "-c", ask], capture_output=True, text=True, check=True)
        theirs = found.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        theirs = "blazefl not installed"
    return ", ".join([f"Python {sys.version.split()[0]}", *ours, theirs])
