"""Speed against others, all in one run, in turns: `docs/results/speed.md`.

python -m benchmarks.speed            all tables
python -m benchmarks.speed --only messages
python -m benchmarks.speed --quick    the MLP alone; the last line is `bare R stock S`
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

from benchmarks.speed.contest import ROOT, alternate, machine, ratio, start, versions
from benchmarks.speed.start_up import until_round_one
from benchmarks.speed.workloads import NAMES
from benchmarks.studies import sections

OURS, BARE, STOCK = "fedkd", "bare PyTorch, a process a core", "Flower's simulation"
ROWS = {
    BARE: ["bare"],
    STOCK: ["stock"],
    "BlazeFL, a thread a core": ["blaze"],
    "DataLoader loop": ["loader"],
    OURS: ["ours"],
    "fedkd, precision=bf16": ["ours", "precision=bf16"],
    "fedkd, engine.vectorise=true": ["ours", "engine.vectorise=true", "engine.cohort_size=5"],
}
REPEATS = {"mlp": 40, "small_cnn": 9, "cnn": 5}
TURNS = {"mlp": 5, "small_cnn": 2, "cnn": 1}
"""Turns of each system, and rounds in a turn."""
TITLES = {"mlp": "MLP, 159 k parameters", "small_cnn": "Small CNN, 62 k", "cnn": "FedAvg's CNN, 1.66 M"}
MESSAGES = (
    *((10_000, clients) for clients in (10, 100, 1000)),
    *((1_000_000, clients) for clients in (10, 100, 1000)),
    *((10_000_000, clients) for clients in (10, 100)),
)
LARGE = 500_000_000
"""Parameters in a round's replies from which on the memory does not hold all systems at a time."""
ONE_BY_ONE = (
    "Of 1,000 clients with 1,000,000 parameters and of 100 with 10,000,000, a round's replies are 4 GB: "
    "there the systems ran one after another, three rounds each. 40 GB, of 1,000 clients with 10,000,000, "
    "are more than this machine has."
)
POPULATIONS = (100, 10_000, 1_000_000)


def rounds_table(workload: str) -> str:
    """Whole rounds of one workload."""
    commands = {name: [words[0], workload, *words[1:]] for name, words in ROWS.items()}
    times = alternate(commands, REPEATS[workload], turn=TURNS[workload])
    lines = [
        f"### {TITLES[workload]}",
        "",
        "| | seconds a round | lowest to highest | fedkd's speed over it |",
    ]
    lines.append("|---|---|---|---|")
    for name in ROWS:
        if name in times:
            found = times[name]
            spread = f"{min(found):.3f} to {max(found):.3f}"
            lines.append(f"| {name} | {median(found):.3f} | {spread} | {ratio(found, times[OURS]):.2f} |")
        else:
            lines.append(f"| {name} | not installed | | |")
    return "\n".join(lines)


def messages_table() -> str:
    """What the engine costs a message."""
    lines = [
        "| parameters | clients | Flower, ms a message | fedkd, the same app | fedkd, its own app | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for parameters, clients in MESSAGES:
        size = [str(parameters), str(clients)]
        commands = {"stock": ["stock.messages", *size], "same": ["ours.messages", *size, "stock"]}
        commands["own"] = ["ours.messages", *size]
        if parameters * clients < LARGE:
            times = alternate(commands, 5)
        else:
            times = {name: alternate({name: words}, 3)[name] for name, words in commands.items()}
        found = [f"{median(times[name]) / clients * 1e3:.2f}" for name in ("stock", "same", "own")]
        gain = ratio(times["stock"], times["own"])
        lines.append(f"| {parameters:,} | {clients:,} | {' | '.join(found)} | {gain:.1f} |")
    return "\n".join([*lines, "", ONE_BY_ONE])


def population_table() -> str:
    """Rounds of a hundred clients out of ever more."""
    running = start({str(size): ["ours.population", str(size)] for size in POPULATIONS}, turn=5)
    times: dict[str, list[float]] = {name: [] for name in running}
    for repeat in range(12):
        for name, competitor in running.items():
            seconds = competitor.round()
            if repeat >= 2:
                times[name].append(seconds)
    memory = {name: float(competitor.stop().split()[-1]) for name, competitor in running.items()}
    least = str(POPULATIONS[0])
    lines = [
        "| clients | seconds a round | times the smallest | MB more than the smallest |",
        "|---|---|---|---|",
    ]
    for name, found in times.items():
        cost, more = 1 / ratio(times[least], found), memory[name] - memory[least]
        lines.append(f"| {int(name):,} | {median(found):.3f} | {cost:.2f} | {more:.0f} |")
    return "\n".join(lines)


def start_table(repeats: int = 5) -> str:
    """From the command to the end of round 1."""
    times: dict[str, list[float]] = {STOCK: [], OURS: []}
    for _ in range(repeats):
        for name in times:
            times[name].append(until_round_one(name == STOCK))
    lines = ["| | seconds | lowest to highest | share of Flower's |", "|---|---|---|---|"]
    for name, found in times.items():
        spread = f"{min(found):.1f} to {max(found):.1f}"
        share = 1 / ratio(times[STOCK], found)
        lines.append(f"| {name} | {median(found):.1f} | {spread} | {share:.2f} |")
    return "\n".join(lines)


ALONE = "Measured with `python -m benchmarks.speed --only`, after the tables that the head speaks of."
PAGE = ROOT / "docs" / "results" / "speed.md"
TABLES: Mapping[str, tuple[str, Sequence[Callable[[], str]]]] = {
    "rounds": (
        "Whole rounds: 100 clients of 600 samples, 10 a round, one epoch in batches of 32",
        [partial(rounds_table, name) for name in NAMES],
    ),
    "messages": ("What a message costs, with distinct replies", [messages_table]),
    "populations": ("Populations, 100 clients a round", [population_table]),
    "start": ("From the command to the end of round 1 of the demo", [start_table]),
}


def place() -> str:
    """Where all tables of a page were measured."""
    return f"on {machine()}: {versions()}."


def head(minutes: float) -> str:
    """What stands above the tables."""
    return f"""# Speed

Written by `make bench`, which took {minutes:.0f} minutes, {place()}

All rows of a table ran in the same minutes, in turns (of 5 rounds of the MLP and of populations, 2 of the
small CNN, else one); ratios are medians over neighbouring turns, so that what else the machine does falls on
both sides. Time is wall time of whole rounds; fedkd's include recording and a checkpoint each round.

"""


def measure(names: Sequence[str]) -> dict[str, str]:
    """The sections of these tables, by heading."""
    found = {}
    for name in names:
        title, tables = TABLES[name]
        parts = []
        for table in tables:
            parts.append(table())
            print(f"{parts[-1]}\n", flush=True)
        found[title] = f"## {title}\n\n" + "\n\n".join(parts)
    return found


def quick() -> None:
    """The MLP against the bare loop and Flower's simulation."""
    commands = {name: [ROWS[name][0], "mlp"] for name in (BARE, STOCK, OURS)}
    times = alternate(commands, repeats=15, warm=2, turn=TURNS["mlp"])
    for name, found in times.items():
        print(f"{name}: {median(found):.3f} s a round ({min(found):.3f} to {max(found):.3f})")
    print(f"bare {ratio(times[BARE], times[OURS]):.2f} stock {ratio(times[STOCK], times[OURS]):.2f}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the MLP alone, in three minutes")
    parser.add_argument("--only", nargs="+", choices=TABLES, help="these tables; the page keeps the others")
    wanted = parser.parse_args()
    if wanted.quick:
        quick()
        return
    before = PAGE.read_text() if PAGE.exists() else ""
    if wanted.only and place() not in before:
        parser.error("--only: the other tables were measured on another machine or with other versions")
    began = time.perf_counter()
    found = measure(wanted.only or list(TABLES))
    if wanted.only:  # the head speaks of all tables
        found = {title: f"{text}\n\n{ALONE}" for title, text in found.items()}
    top = before.partition("## ")[0] if wanted.only else head((time.perf_counter() - began) / 60)
    parts = {title: text.strip() for title, text in sections(before).items()} | found
    PAGE.write_text(top + "\n\n".join(parts[title] for title, _ in TABLES.values() if title in parts) + "\n")


if __name__ == "__main__":
    main()
