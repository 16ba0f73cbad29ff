"""`fedkd resume`: go on with a run that was cut off."""

import argparse
from pathlib import Path

NEEDS = "simulations.resume"

SUMMARY = "go on with a run that was cut off"

DESCRIPTION = """\
Go on with an unfinished run from its last whole round. The configuration is the one in the
run folder; the figures end up the same as if the run had never stopped.

example:
  fedkd resume runs/fedavg_ft-fashion_mini-1a2b3c4d-s0"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the folder of the unfinished run")


def execute(arguments: argparse.Namespace) -> int:
    """Resume, unless the run is finished."""
    from simulations import rundir

    out: Path = arguments.folder
    config = rundir.load_config(out)
    if rundir.standing(out) == "finished":
        print(f"this run is finished: {out}")
        return 0
    if config["choices"]["method"] == "distill":  # it keeps no checkpoints: all of it, to the same figures
        from simulations.distill import again

        again(out)
        return 0
    from simulations.resume import resume

    try:
        resume(out)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"interrupted; `fedkd resume {out}` goes on from the last whole round"
        ) from error
    return 0
