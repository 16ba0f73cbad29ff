"""Which part of the network is shared, round by round, and what the no-harm rule did."""

import pandas as pd

from simulations.canvas import PALETTE, WORST
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, chart
from simulations.reporting.plot import figure, line, round_axis

SHARES = {
    "alone": ("use the model they trained alone", PALETTE[0]),
    "harmed": ("are worse off than alone", WORST),
}


def section(run: RunFolder) -> Section | None:
    """The cut as a staircase; below it the shares of clients, where they were told."""
    cut = run.rounds.get("cut")
    if cut is None or cut.notna().sum() == 0:
        return None
    known: pd.DataFrame = run.rounds[cut.notna()]
    stairs = line(known["round"], known["cut"], "cut", PALETTE[0], 3, line={"shape": "hv"})
    drawn = figure(
        [{**stairs, "mode": "lines"}],
        x=round_axis(known["round"].tolist()),
        y={"title": "cut (block boundary)", "rangemode": "tozero", "dtick": 1},
        height=280,
        hovermode="x unified",
    )
    body = chart("cuts-chart", drawn)
    told = [key for key in SHARES if key in known]
    if told:
        lines = [line(known["round"], known[key], *SHARES[key]) for key in told]
        share = {"title": "share of participants", "range": [-0.02, 1.02], "tickformat": ".0%"}
        body += chart(
            "harm-chart",
            figure(lines, x=round_axis(known["round"].tolist()), y=share, height=280, hovermode="x unified"),
        )
    says = (
        "The block boundary at which clients and server meet, mean over the round's participants. Clients "
        "keep the blocks above it to themselves; each step down drops a layer from the federation."
    )
    return Section("cuts", "Cut schedule", says, body)
