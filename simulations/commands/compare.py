"""`fedkd compare`: several runs, one table."""

import argparse
from pathlib import Path

SUMMARY = "put several runs beside each other: one page, tables with intervals, figures"

DESCRIPTION = """\
Group finished runs by method, with seeds as repeats, and write a page to look at
(compare.html), a table (Markdown, LaTeX, CSV) and figures (PNG, PDF) into a folder. A
RUN_DIR is a run folder, or one that holds run folders, such as that of a sweep. All figures
over clients are computed anew from the rows in clients.parquet; intervals are those of a
hierarchical bootstrap (seeds, then clients within), and the best figure is bold only where
the paired differences allow it.

Runs that differ in data, partition or budget (rounds, local epochs or steps, participation)
are refused. Where runs of method=local with the same seeds are among the folders, the gain
over the same client's local-only model is shown.

examples:
  fedkd compare runs/study --out results/study
  fedkd compare runs/a runs/b --out results/ab --round best
  fedkd compare runs/sweep --out results/sweep --over weighting.alpha"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="RUN_DIR", help="a finished run, or a folder of such"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where table and figures go")
    parser.add_argument(
        "--round",
        choices=("last", "best"),
        default="last",
        help="judge the last evaluated round (default), or the best on validation",
    )
    parser.add_argument(
        "--allow-different", action="store_true", help="also runs on other data, partitions or budgets"
    )
    parser.add_argument(
        "--over", metavar="KEY", help="also draw average against worst-off along this swept key"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Compare."""
    from simulations.compare import compare

    compare(arguments.folders, arguments.out, arguments.round, arguments.allow_different, arguments.over)
    return 0
