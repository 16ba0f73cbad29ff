"""What the server's generator learned: its figures over the rounds, and what it makes beside what is real."""

from simulations.canvas import PALETTE
from simulations.reporting.folder import RunFolder
from simulations.reporting.gallery import gallery
from simulations.reporting.html import Section, chart, folded, panels
from simulations.reporting.plot import figure, line, round_axis

PREFIX = "generator_"
MEANING = {
    "accuracy": "share of its samples that the clients' ensemble takes for the wanted class",
    "covered": "share of the held classes in which most samples are taken for the wanted one",
    "spread": "mean distance between samples of one class; 0 is collapse",
}
TERM = "the last value of this term of its loss"


def section(run: RunFolder) -> Section | None:
    """Figures by round, one small chart each, and the pictures that were drawn."""
    names = [name for name in map(str, run.rounds.columns) if name.startswith(PREFIX)]
    charts = [_figure(run, name) for name in names if run.rounds[name].notna().any()]
    body = panels(charts) + _pictures(run)
    says = "What the server's generator had learned at the end of each round's fitting."
    return Section("generator", "Generator", says, body, wide=True) if body else None


def _figure(run: RunFolder, column: str) -> tuple[str, str, str]:
    """Name, meaning and chart of one column of `rounds.csv`."""
    known, name = run.rounds[run.rounds[column].notna()], column.removeprefix(PREFIX)
    drawn = line(
        known["round"], known[column], name, PALETTE[0], hovertemplate="round %{x}: %{y:.4f}<extra></extra>"
    )
    shown = figure(
        [{**drawn, "showlegend": False}],
        x=round_axis(known["round"].tolist()),
        height=210,
        margin={"l": 44, "r": 10, "t": 8, "b": 40},
    )
    return (
        name.replace("_", " "),
        MEANING.get(name, TERM),
        chart(f"generator-{name.replace('_', '-')}", shown),
    )


def _pictures(run: RunFolder) -> str:
    """Generated samples beside real ones, of the last round that was drawn; earlier ones folded."""
    found = sorted((run.out / "figures").glob("generated_r*.png"))
    files = {f"Round {int(file.stem.removeprefix('generated_r'))}": file for file in found}
    *earlier, last = [*files] or [""]
    if not last:
        return ""
    rest = gallery({name: files[name] for name in earlier})
    return gallery({last: files[last]}) + (folded("Earlier rounds", rest) if rest else "")
