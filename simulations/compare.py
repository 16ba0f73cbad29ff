"""Several runs beside each other: `compare` reads the folders, writes the table and the figures."""

from collections.abc import Sequence
from pathlib import Path

from simulations.comparing.groups import check_alike, group
from simulations.comparing.page import render
from simulations.comparing.plots import write_plots
from simulations.comparing.present import frame, latex, markdown, notes, show
from simulations.comparing.runs import Which, load_run, run_folders
from simulations.comparing.table import Table, tabulate
from simulations.comparing.tradeoff import write_tradeoff
from simulations.rundir import write_text


def read(folders: Sequence[Path], which: Which = "last", allow_different: bool = False) -> Table:
    """The table of finished runs.

    folders: run folders, or folders that hold such
    which: the round each run is judged by
    allow_different: also runs on other data, another partition or with another budget
    Raises ConfigError where a folder is not a finished run, or runs are not alike.
    """
    runs = [load_run(folder, which) for folder in run_folders(folders)]
    if not allow_different:
        check_alike(runs)
    return tabulate(group(runs))


def compare(
    folders: Sequence[Path],
    out: Path,
    which: Which = "last",
    allow_different: bool = False,
    over: str | None = None,
) -> None:
    """Compare finished runs: shows the table; compare.html, .md, .tex, .csv and figures/ go into `out`.

    over: a swept key, along which average against worst-off is drawn as well
    """
    table = read(folders, which, allow_different)
    told = notes(table, which)
    write_text(out / "compare.csv", frame(table).to_csv(index=False))
    write_text(out / "compare.md", markdown(table, told))
    write_text(out / "compare.tex", latex(table, told))
    write_text(out / "compare.html", render(table, _about(table), told, out))
    write_plots(out / "figures", table, _about(table))
    if over is not None:
        write_tradeoff(out, table.groups, over, _about(table))
    show(table)
    print(f"{out / 'compare.html'}, compare.md, .tex and .csv beside it, figures in {out / 'figures'}")


def _about(table: Table) -> str:
    """What the runs have in common, in a few words."""
    runs = [run for each in table.groups for run in each.runs]
    names = runs[0].config["choices"]
    alphas = {run.config["partition"].get("alpha") for run in runs}
    partition = (
        names["partition"] if len(alphas) > 1 or alphas == {None} else f"{names['partition']} {alphas.pop()}"
    )
    seeds = len({run.seeds for run in runs})
    return f"{names['data']}, {partition}, {seeds} seed{'s' if seeds > 1 else ''}"
