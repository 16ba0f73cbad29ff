"""Where the network is cut, round by round and client by client, and what the no-harm rule did."""

import pandas as pd

from simulations.canvas import PALETTE, WORST
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, beside, chart, numbers, paragraph
from simulations.reporting.people import order, rows_axis
from simulations.reporting.plot import BAR, figure, heat, line, round_axis, stepped

SHARES = {
    "alone": ("use the model they trained alone", PALETTE[0]),
    "harmed": ("are worse off than alone", WORST),
}


def section(run: RunFolder) -> Section | None:
    """The cut as a staircase; below it every client's where they differ, and the shares that were told."""
    cut = run.rounds.get("cut")
    if cut is None or cut.notna().sum() == 0:
        return None
    known: pd.DataFrame = run.rounds[cut.notna()]
    stairs = line(known["round"], known["cut"], "cut", PALETTE[0], 3, line={"shape": "hvh"})
    drawn = figure(
        [{**stairs, "mode": "lines"}],
        x=round_axis(known["round"].tolist()),
        y={"title": "cut (block boundary)", "rangemode": "tozero", "dtick": 1},
        height=280,
        hovermode="x unified",
    )
    says = (
        "The block boundary at which clients and server meet, mean over the round's participants. Clients "
        "keep the blocks above it to themselves; each step down drops a layer from the federation."
    )
    body = beside(chart("cuts-chart", drawn), _shares(known)) + _clients(run)
    return Section("cuts", "Cut schedule", says, body, wide="client-cuts" in body)


def _clients(run: RunFolder) -> str:
    """At which cut each client worked; nothing where all had the same in every round."""
    told = run.cuts
    if told.empty or told.groupby("round")["cut"].nunique().max() == 1:
        return ""
    table = told.pivot(index="client", columns="round", values="cut")
    rows = order(run).intersection(table.index, sort=False) if run.evaluated else table.index
    table = table.reindex(rows, columns=range(1, int(table.columns.max()) + 1))
    rounds = [int(number) for number in table.columns]
    who, low, high = run.describe(rows.to_numpy()), int(told["cut"].min()), int(told["cut"].max())
    bar = {"title": {"text": "cut", "font": {"size": 12}}, "tickvals": list(range(low, high + 1)), **BAR}
    cells = heat(
        [numbers(row, 0) for row in table.to_numpy(float)],
        x=rounds,
        y=who,
        colorbar=bar,
        hovertemplate="%{y}<br>round %{x}: cut %{z}<extra></extra>",
        **stepped(low, high),
    )
    height = int(min(max(300, 16 * len(who) + 110), 800))
    drawn = figure(
        [{**cells, "xgap": 0.5 if len(rounds) < 60 else 0}],
        x={**round_axis(rounds), "showgrid": False},
        y=rows_axis(rows, who, run.who),
        height=height,
    )
    said = "Each client by itself, best off above; blank where it did not take part."
    return paragraph(said) + chart("client-cuts-chart", drawn)


def _shares(known: pd.DataFrame) -> str:
    """Who uses which model, and who is worse off, in shares of the round's participants."""
    told = [key for key in SHARES if key in known]
    if not told:
        return ""
    lines = [line(known["round"], known[key], *SHARES[key]) for key in told]
    share = {"title": "share of participants", "range": [-0.02, 1.02], "tickformat": ".0%"}
    rounds = round_axis(known["round"].tolist())
    return chart("harm-chart", figure(lines, x=rounds, y=share, height=280, hovermode="x unified"))
