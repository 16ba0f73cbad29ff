"""`fedkd run`: one run, or with -m all combinations of several values."""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

SUMMARY = "simulate a federation and write its run folder"

DESCRIPTION = """\
Simulate N clients that learn together, and write a run folder: report.html to look at, a row
per client and round, figures for papers. Without any KEY=VALUE it runs federated averaging with
local fine-tuning on the small data set that comes along.

the most used keys:
  method=NAME          who learns what from whom             (fedkd list methods)
  data=NAME            the data set                          (fedkd list data)
  partition=NAME       how it is dealt out to the clients    (partition.alpha=0.1, ...)
  model=NAME           the network; chosen with the data by default
  clients=20           how many clients
  participation=0.2    fraction in (0, 1] or count (from 2) of the clients in each round
  rounds=10  seed=0  out=FOLDER  overwrite=true
  local.lr=0.05  local.epochs=1  local.batch_size=32  local.optimizer=sgd
  track=tensorboard    also for TensorBoard; callbacks=[my_file.MyWatcher] for your own
  engine=ray|inline    Ray workers, or everything in this process; engine.workers=2

Every key below these exists as well (method.client.finetune_epochs=2, ...); a key that does
not is refused with the nearest one that does.

examples:
  fedkd run method=fedprox method.strategy.proximal_mu=0.1 rounds=20
  fedkd run clients=100 participation=10 partition=dirichlet partition.alpha=0.1
  fedkd run method.strategy._target_=my_file.MyStrategy method.strategy.my_key=3
  fedkd run -m method=local,fedavg,fedavg_ft seed=1,2,3
  fedkd run -m 'rounds=range(5,20,5)' out=runs/how_long

A run that is finished is not repeated, and one that was cut off is not overwritten unless
overwrite=true. In a sweep (-m) all combinations are checked before the first one starts,
and the same command again does what is left."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("-m", "--multirun", action="store_true", help="run all combinations of key=a,b,c")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what differs from the defaults")


def execute(arguments: argparse.Namespace) -> int:
    """Check everything, then run."""
    return _sweep(arguments.overrides) if arguments.multirun else _single(arguments.overrides)


def _single(overrides: list[str]) -> int:
    from simulations import rundir
    from simulations.config import resolve
    from simulations.engine.memory import uncollected
    from simulations.engine.pools import begin

    with uncollected():  # imports what the configuration names
        config = resolve(overrides, engine=begin)
    out = Path(config["out"])
    if rundir.is_done(config):
        print(f"this run is finished: {out} (overwrite=true runs it again)")
        return 0
    from simulations.engine.pools import warm_up

    warm_up(config)  # before the second that the imports take
    with uncollected():
        from simulations.run import run

    try:
        run(config, out)
    except KeyboardInterrupt as error:
        if rundir.standing(out) != "unfinished":
            raise
        raise KeyboardInterrupt(
            f"interrupted; `fedkd resume {out}` goes on from the last whole round"
        ) from error
    return 0


def _sweep(overrides: list[str]) -> int:
    from simulations import sweep

    jobs = sweep.plan(overrides)
    from simulations.fit import check_fit
    from simulations.run import run

    check_fit(job.config for job in jobs if not job.finished)
    try:
        return 1 if sweep.carry_out(jobs, run, _resume()) else 0
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command again does what is left") from error


def _resume() -> Callable[[Path], None] | None:
    """What goes on with an unfinished run, where that exists."""
    if find_spec("simulations.resume") is None:
        return None
    from simulations.resume import resume

    return resume
