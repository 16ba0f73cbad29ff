"""`fedkd report`: the report and figures of a run, again."""

import argparse
from pathlib import Path

NEEDS = "simulations.report"

SUMMARY = "write the report of a run again: one page to look at, and figures for papers"

DESCRIPTION = """\
Write report.html and the figures of a run folder again, from the rows that are in it. Works on
an unfinished run too.

report.html is one page that needs no network: who is how well off, round by round and class by
class, what was sent, what failed, and the command that repeats the run.

example:
  fedkd report runs/fedavg_ft-fashion_mini-1a2b3c4d-s0"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the folder of a run")


def execute(arguments: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from simulations import rundir

    rundir.load_config(arguments.folder)
    from simulations.report import write_report

    for path in write_report(arguments.folder):
        print(path)
    return 0
