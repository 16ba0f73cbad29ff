"""The table for reading: Markdown, LaTeX, CSV and the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from simulations.comparing import bootstrap
from simulations.comparing.groups import LOCAL, Group, differences, shortened
from simulations.comparing.runs import Which
from simulations.comparing.table import Cell, Column, Table

ROUND = {"last": "last evaluated round", "best": "round with the best mean on validation"}
MISSING = "–"
EXACT = ("floor", "bytes", "rounds_to_95", "seconds")
"""Sources whose spread over seeds is left to the CSV file."""

UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


class Markup(NamedTuple):
    """How a best figure and an interval are written."""

    best: str
    interval: str


MARKDOWN = Markup("**{}**", " ({}, {})")
LATEX = Markup(r"\textbf{{{}}}", r" {{\scriptsize ({}, {})}}")
HTML = Markup("<b>{}</b>", " <small>({}, {})</small>")
TERMINAL = Markup("[bold]{}[/bold]", "\n[dim]({}, {})[/dim]")


def frame(table: Table) -> pd.DataFrame:
    """A row a group: a figure's columns are `<key>`, `<key>_low`, `<key>_high` and `<key>_best`."""
    rows = []
    for each in table.groups:
        row: dict[str, object] = {"label": each.label, "method": each.method, "repeats": len(each.runs)}
        for key, cell in table.cells[each.label].items():
            row |= {
                key: cell.value,
                f"{key}_low": cell.low,
                f"{key}_high": cell.high,
                f"{key}_best": cell.best,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def notes(table: Table, which: Which) -> list[str]:
    """What the figures are, in sentences."""
    groups, counts = table.groups, sorted({len(each.runs) for each in table.groups})
    repeats = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    told = [
        "Judged is the model each client would use (its own where it has one, else the global model), before "
        f"local training, on the client's own test split, in the {ROUND[which]}. Repeats (seeds): {repeats}; "
        f"shown is the mean over them, with {bootstrap.LEVEL:.0%} intervals of a hierarchical bootstrap "
        f"({bootstrap.DRAWS} draws: seeds, then clients within).",
        "Bold: better than every other row, the interval of each paired difference (of the same clients with "
        "the same seeds) being off 0.",
        "The null floor is the worst tenth to expect by chance if all clients were equally well off.",
    ]
    if counts[0] == 1:
        told.append("A single repeat: its intervals say nothing about other partitions or seeds.")
    if len({tuple(run.seeds for run in each.runs) for each in groups}) > 1:
        told.append("The rows do not have the same seeds; only common ones enter paired differences.")
    if sum(each.method == LOCAL for each in groups) > 1:
        told.append("There are several settings of local-only training, so no gain over it is shown.")
    if bad := _bad_clients(groups):
        told.append(f"Benign are all clients but these: {'; '.join(bad)}.")
    if shortened(groups):
        told.append("A row names the settings that most rows of its method have not; the others are theirs.")
    return told + [f"{key}: {_valued(values)}." for key, values in differences(groups).items()]


def _bad_clients(groups: Sequence[Group]) -> list[str]:
    """Who is bad with which seeds, and how."""
    found: dict[tuple[tuple[int, int], str], list[int]] = {}
    for run in (run for each in groups for run in each.runs):
        for what in dict.fromkeys(run.bad.values()):
            found[run.seeds, what] = [client for client, own in run.bad.items() if own == what]
    return [
        f"{', '.join(map(str, clients))} ({what}, seed {seeds[0]})"
        for (seeds, what), clients in sorted(found.items())
    ]


def _valued(values: Mapping[str, Any]) -> str:
    """Values by label as words; a value that more than three rows share is said once."""
    texts = Counter(map(str, values.values()))
    common, count = texts.most_common(1)[0]
    kept = {label: value for label, value in values.items() if count <= 3 or str(value) != common}
    named = [f"{value} ({label})" for label, value in kept.items()]
    return ", ".join(named + [f"{common} (the others)"] * (len(kept) < len(values)))


def markdown(table: Table, told: Sequence[str]) -> str:
    """One table a section, the notes below."""
    blocks = []
    for title, columns in table.columns().items():
        lines = [["", *(column.heading for column in columns)], ["---"] + ["---:"] * len(columns)]
        lines += lines_of(table, columns, MARKDOWN)
        blocks.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*blocks, "\n".join(f"* {note}" for note in told)]) + "\n"


def latex(table: Table, told: Sequence[str]) -> str:
    """One `tabular` a section (it needs the package booktabs), the notes as comments."""
    lines = [f"% {note}" for note in told]
    for title, columns in table.columns().items():
        head = _line(["", *(column.heading for column in columns)])
        rows = [_line(row) for row in lines_of(table, columns, LATEX)]
        begin = rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
        lines += [
            f"% {title}",
            begin,
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    return "\n".join(lines) + "\n"


def show(table: Table) -> None:
    """The table on the terminal, intervals below the figures."""
    from rich.console import Console
    from rich.table import Table as Printed

    for title, columns in table.columns().items():
        printed = Printed(title=title, title_justify="left")
        printed.add_column("", overflow="fold")  # whole labels: what tells rows apart comes last in them
        for column in columns:
            printed.add_column(column.heading, justify="right")
        for row in lines_of(table, columns, TERMINAL):
            printed.add_row(*row)
        Console().print(printed)


def lines_of(table: Table, columns: Sequence[Column], markup: Markup) -> list[list[str]]:
    """A line a group: its label, then its figures."""
    return [
        [label, *(_figure(row.get(column.key), column, markup) for column in columns)]
        for label, row in table.cells.items()
    ]


def _figure(cell: Cell | None, column: Column, markup: Markup) -> str:
    if cell is None:
        return MISSING
    value, low, high = (_number(number, column) for number in (cell.value, cell.low, cell.high))
    figure = markup.best.format(value) if cell.best else value
    return figure if column.of in EXACT else figure + markup.interval.format(low, high)


def _number(value: float, column: Column) -> str:
    if column.key == "bytes":
        unit, size = next((u, s) for u, s in UNITS.items() if value < 1000 * s or u == "GB")
        return f"{value / size:.1f} {unit}"
    return f"{value:.1f}" if column.key in ("rounds_to_95", "seconds") else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    plain = [cell.replace("%", r"\%").replace("_", r"\_").replace(MISSING, "--") for cell in cells]
    return " & ".join(plain) + r" \\"
