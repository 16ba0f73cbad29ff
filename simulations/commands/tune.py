"""`fedkd tune`: the same number of trials for every method, on validation."""

import argparse

NEEDS = "optuna"

SUMMARY = "choose each method's settings on validation, with equal effort"

DESCRIPTION = """\
Tune one method, or several with the same effort: as many trials, over as many rounds, for
each. What is varied is what the method declares beside its code (`search_space`), but for
keys that you set. Trials are judged by the mean validation accuracy over clients; test data
are not looked at. Fewer rounds first, the best third of the trials on, where that saves time.

Takes the same KEY=VALUE as `fedkd run`, and:
  trials=10            trials for each method
  out=FOLDER           where the choice goes (by default a folder under tuned/)
  sweep.parallel=N     trials at a time

examples:
  fedkd tune method=local,fedavg,fedprox data=har rounds=15 out=tuned/har
  fedkd run -m method=local,fedavg,fedprox data=har rounds=15 seed=1,2,3,4,5 tuned=tuned/har

The same command again goes on where it was cut off, and ends in the same choice."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="as in `fedkd run`; not needed for method=a,b,c"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what differs from the defaults")


def execute(arguments: argparse.Namespace) -> int:
    """Check everything, then tune."""
    from simulations import tune

    tunings = tune.plan(arguments.overrides)
    from simulations.fit import check_fit
    from simulations.run import run

    check_fit(tuning.config for tuning in tunings if not tuning.is_done())
    try:
        tune.carry_out(tunings, run)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command again goes on") from error
    return 0
