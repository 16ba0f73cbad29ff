"""What went wrong: replies that were left out, clients that were late or away, work that was done again."""

from collections import Counter

from simulations.canvas import MUTED, PALETTE, WORST
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, chart, numbers, paragraph, table
from simulations.reporting.plot import figure, round_axis

KINDS = {
    "failures": ("failed", WORST),
    "late": ("late", PALETTE[3]),
    "retries": ("ran again", PALETTE[4]),
    "unavailable": ("away", MUTED),
}
SHOWN = 40


def section(run: RunFolder) -> Section | None:
    """Always there: that nothing went wrong is news too."""
    if run.rounds.empty or run.who == "classes":
        return None
    counts = {kind: int(run.rounds[kind].sum()) for kind in KINDS if kind in run.rounds}
    told = [f"{count} {KINDS[kind][0]}" for kind, count in counts.items() if count]
    says = (
        "Replies that failed or came late were left out of the round; what ran again had lost its worker."
        if told
        else "No client failed, none was late or away, and nothing had to run again."
    )
    if not told:
        return Section("faults", "Failures and retries", says, "")
    drawn = figure(
        [_bars(run, kind) for kind, count in counts.items() if count],
        x=round_axis(run.rounds["round"].tolist()),
        y={"title": "clients", "rangemode": "tozero"},
        height=260,
        barmode="stack",
        showlegend=True,
    )
    body = paragraph(f"In the whole run: {', '.join(told)}.") + chart("faults-chart", drawn) + _reasons(run)
    return Section("faults", "Failures and retries", says, body)


def _bars(run: RunFolder, kind: str) -> dict[str, object]:
    name, colour = KINDS[kind]
    x, y = (numbers(run.rounds[key].fillna(0), 0) for key in ("round", kind))
    return {"type": "bar", "name": name, "x": x, "y": y, "marker": {"color": colour}}


def _reasons(run: RunFolder) -> str:
    """Equal reasons of a client together, most frequent first."""
    if not run.failures:
        return ""
    found = Counter((failure["client"], failure["reason"]) for failure in run.failures)
    rounds: dict[tuple[int, str], list[int]] = {}
    for failure in run.failures:
        rounds.setdefault((failure["client"], failure["reason"]), []).append(failure["round"])
    lines = [
        (f"client {client}", _few(rounds[client, reason]), reason)
        for (client, reason), _ in found.most_common(SHOWN)
    ]
    more = len(found) - len(lines)
    rest = paragraph(f"and {more} more, in failures.json") if more > 0 else ""
    return table(("who", "rounds", "reason"), lines, "faults-table") + rest


def _few(rounds: list[int]) -> str:
    shown = ", ".join(map(str, rounds[:8]))
    return shown if len(rounds) <= 8 else f"{shown} ... ({len(rounds)})"
