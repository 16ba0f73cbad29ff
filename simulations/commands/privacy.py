"""`fedkd privacy`: what a finished run gives away."""

import argparse
from pathlib import Path

NEEDS = "simulations.privacy"

SUMMARY = "measure what the models and messages of a finished run give away"

DESCRIPTION = """\
Attack a finished run and write what was found into its folder: privacy.json, figures, and
a section of report.html.

Membership inference on the clients' own models and on the global one: members are a
client's training split, non-members its test split. Where clients send features, an
inversion network rebuilds their inputs at every cut, beside guesses that need no features.
docs/privacy.md says who the attacker is and what the figures mean.

example:
  fedkd privacy runs/fedd2s-fashion_mini-1a2b3c4d-s0"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the folder of a finished run")
    parser.add_argument(
        "--features",
        choices=("auto", "yes", "no"),
        default="auto",
        help="invert features: where the run sent some (auto), as if it had (yes), never (no)",
    )
    parser.add_argument(
        "--victims", metavar="N", type=int, default=2, help="clients whose inputs are rebuilt (2)"
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, default=400, help="training steps of an inversion network (400)"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Measure and say where the figures are."""
    from fedkd.errors import ConfigError
    from fedkd.privacy.inversion import Training
    from simulations.privacy import Options, audit
    from simulations.report import write_page
    from simulations.reporting.folder import RunFolder

    if arguments.victims < 1 or arguments.steps < 1:
        raise ConfigError("--victims and --steps: whole numbers from 1 are needed")
    options = Options(arguments.features, arguments.victims, Training(steps=arguments.steps))
    for path in [*audit(arguments.folder, options), write_page(RunFolder(arguments.folder))]:
        print(path)
    return 0
