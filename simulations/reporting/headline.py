"""The figures that a run is told by, each with its meaning in words."""

import math

from fedkd.fairness.metrics import best, gini, jain, mean, tail_size, worst
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, cards

Card = tuple[str, str, str]


def section(run: RunFolder) -> Section | None:
    """Of the last evaluated round."""
    if not run.evaluated:
        return None
    number, accuracy = run.evaluated[-1], run.last["accuracy"].to_numpy(float)
    told = [
        ("Mean accuracy", f"{mean(accuracy):.3f}", f"over {accuracy.size} {run.who}, each counting the same"),
        ("Worst tenth", f"{worst(accuracy):.3f}", _tail(run, accuracy.size)),
        ("Best tenth", f"{best(accuracy):.3f}", f"mean of the best {_some(run, accuracy.size)}"),
        ("Evenness", f"{gini(accuracy):.3f}", f"Gini: 0 is all equal. Jain's index {jain(accuracy):.3f}"),
        *_from_rounds(run),
        *_cost(run),
    ]
    of = run.config.get("rounds") or number
    says = f"Round {number} of {of}. Judged is {run.judged}. Accuracies are fractions."
    return Section("headline", "At a glance", says, cards(told), wide=True)


def _some(run: RunFolder, size: int) -> str:
    tail = tail_size(size)
    return f"{tail} {run.who}" if tail > 1 else {"clients": "client", "classes": "class"}[run.who]


def _tail(run: RunFolder, size: int) -> str:
    floor = _figure(run, "null_worst10")
    chance = "" if floor is None else f"; {floor:.3f} is to be expected by chance if all were equally good"
    return f"mean of the worst {_some(run, size)}{chance}"


def _from_rounds(run: RunFolder) -> list[Card]:
    """What only `rounds.csv` has."""
    mix, lowest, own = (_figure(run, key) for key in ("mix_worst10", "worst_class", "global_accuracy"))
    found: list[Card] = []
    if lowest is not None and run.who == "clients":
        found.append(
            ("Worst class", f"{lowest:.3f}", "lowest accuracy of a class, over all clients' test samples")
        )
    if mix is not None:
        meaning = (
            "each client's label mix, measured on the global test set: less noise than its own few samples"
        )
        found.append(("Worst tenth by label mix", f"{mix:.3f}", meaning))
    if own is not None:
        found.append(("Global model", f"{own:.3f}", "on the global test set"))
    return found


def _cost(run: RunFolder) -> list[Card]:
    moved = int(run.rounds[["bytes_up", "bytes_down"]].sum().sum())
    seconds = float(run.rounds["seconds"].sum())
    found = (
        [("Sent", size(moved), "arrays to clients and back, in training, over the whole run")]
        if moved
        else []
    )
    return [*found, ("Time", span(seconds), f"for {len(run.rounds)} rounds on this machine")]


def _figure(run: RunFolder, key: str) -> float | None:
    """A figure of the last evaluated round in `rounds.csv`."""
    values = run.rounds[run.rounds["round"] == run.evaluated[-1]].get(key)
    known = [] if values is None else [float(value) for value in values if not math.isnan(value)]
    return known[0] if known else None


def size(count: float) -> str:
    """Bytes for reading."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """A duration for reading."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
