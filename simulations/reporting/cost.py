"""What the run cost: bytes up and down by kind of record, seconds a round."""

from typing import Any

import numpy as np
import pandas as pd

from simulations.canvas import PALETTE
from simulations.reporting.folder import RunFolder
from simulations.reporting.headline import size, span
from simulations.reporting.html import Section, chart, numbers
from simulations.reporting.plot import axis, figure, round_axis

WAYS = {"bytes_up_": "up", "bytes_down_": "down"}
BINS = 200
"""Of more rounds, so many bars are drawn, each the mean of its rounds."""


def section(run: RunFolder) -> Section | None:
    """Bars by round for bytes, and for seconds."""
    if run.rounds.empty:
        return None
    table = thinned(run.rounds)
    traces = [*_bytes(table), *_seconds(table)]
    drawn = figure(
        traces,
        height=420,
        barmode="stack",
        bargap=0.1,
        xaxis=axis("", anchor="y", matches="x2", showticklabels=False, showgrid=False),
        yaxis=axis("bytes a round", domain=[0.56, 1], exponentformat="SI", rangemode="tozero"),
        xaxis2=axis(round_axis(run.rounds["round"].tolist()), anchor="y2", showgrid=False),
        yaxis2=axis("seconds a round", domain=[0, 0.46], rangemode="tozero"),
    )
    up, down = (int(run.rounds[f"bytes_{way}"].sum()) for way in ("up", "down"))
    seconds = span(float(run.rounds["seconds"].sum()))
    says = (
        f"Array bytes of training, over all participants: {size(up)} up to the server, {size(down)} down; "
        f"evaluation is not counted. The rounds took {seconds} on this machine{_clock(run)}."
    )
    return Section("cost", "Bytes and seconds", says, chart("cost-chart", drawn))


def thinned(rounds: pd.DataFrame) -> pd.DataFrame:
    """The numbers of `rounds.csv` by round, or by equal stretches of rounds where there are many."""
    plain = rounds.select_dtypes("number").fillna(0)
    if len(plain) <= BINS:
        return plain
    step = -(-len(plain) // BINS)
    return plain.groupby(np.arange(len(plain)) // step).mean()


def _bytes(table: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for prefix, way in WAYS.items():
        names = [name for name in map(str, table.columns) if name.startswith(prefix)]
        for column in sorted(name for name in names if table[name].any()):
            name = f"{column.removeprefix(prefix).replace('_', ' ')} {way}"
            colour = PALETTE[len(found) % len(PALETTE)]
            found.append(_bar(table, column, name, colour, "%{y:.4s}B"))
    return found


def _seconds(table: pd.DataFrame) -> list[dict[str, Any]]:
    place = {"xaxis": "x2", "yaxis": "y2"}
    bars = [_bar(table, "seconds", "seconds here", "#9fb3bf", "%{y:.2f} s") | place]
    if "simulated_seconds" in table and table["simulated_seconds"].any():
        line = _bar(table, "simulated_seconds", "simulated seconds", PALETTE[1], "%{y:.2f} s") | place
        bars.append({**line, "type": "scatter", "mode": "lines", "line": {"color": PALETTE[1], "width": 2}})
    return bars


def _bar(table: pd.DataFrame, column: str, name: str, colour: str, shown: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": numbers(table["round"], 1),
        "y": numbers(table[column]),
        "marker": {"color": colour},
        "hovertemplate": f"round %{{x}}: {shown}<extra>{name}</extra>",
    }


def _clock(run: RunFolder) -> str:
    clock = run.rounds.get("simulated_seconds")
    return (
        "" if clock is None or clock.isna().all() else f", {span(float(clock.sum()))} by the simulated clock"
    )
