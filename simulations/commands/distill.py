"""`fedkd distill`: a teacher, a student, and a distillation objective between them, without a federation."""

import argparse
from pathlib import Path
from typing import Any

SUMMARY = "distil a teacher into a student in one place, with classes as groups"

DESCRIPTION = """\
Train a teacher (or take one from a former run), then a student that learns from it, on all data
in one place. The groups whose best and worst are watched are the classes. Writes the same kind
of run folder as `fedkd run`, with a row per class and round.

the most used keys:
  data=NAME  data.longtail=100         ratio of the largest to the smallest class
  objective=NAME                       what the student learns, or a list: objective=[ce,kd,nd]
  teacher.model=NAME  student.model=NAME
  teacher.risk=R  student.risk=R       standard, balanced, robust, or tradeoff with .alpha
  teacher.method=NAME  student.method=NAME
                                       margin, group_dro, logit_adjustment, post_shift, prior_shift;
                                       for students also ada_alpha, ada_margin
  student.validation=onehot|teacher    whose labels the class risks are measured with
  teacher.from=FOLDER                  the teacher of a former run, or of the one among several that has
                                       this seed, data and teacher; a list: several teachers
  teacher.calibrate=true               by class, on validation data, before the student sees it
  student.labelled=0.05                share of the training labels that the student may use
  proxy=NAME  student.keep=0.5         unlabelled data of another kind to learn from; the surest half
  teacher.rounds=10  student.rounds=10  seed=0  out=FOLDER  overwrite=true
  local.lr=0.05  local.batch_size=32  local.momentum=0.9  local.augment=crop_flip

examples:
  fedkd distill objective=sinkd
  fedkd distill data=cifar10 data.longtail=100 teacher.risk=robust student.risk=standard
  fedkd distill objective=dett student.model=cnn teacher.method=logit_adjustment
  fedkd distill teacher.from=runs/distill-fashion_mini-1a2b3c4d-s0 objective=[ce,kd] student.risk=balanced
  fedkd distill experiment=distill/ffg2m_cora
  fedkd distill -m objective=ce,kd,sinkd seed=1,2,3

In a sweep (-m) all combinations are checked before the first one starts, and the same command
again does what is left. A graph (data=cora) is one batch; its teacher sees edges, its student none."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("-m", "--multirun", action="store_true", help="run all combinations of key=a,b,c")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what differs from the defaults")


def execute(arguments: argparse.Namespace) -> int:
    """Check everything, then run."""
    return _sweep(arguments.overrides) if arguments.multirun else _single(arguments.overrides)


def _resolve(overrides: list[str]) -> dict[str, Any]:
    from simulations.config import resolve
    from simulations.programs import DISTILL

    return resolve(overrides, DISTILL)


def _sweep(overrides: list[str]) -> int:
    from simulations import sweep

    jobs = sweep.plan(overrides, _resolve)
    from simulations.distill import again, run

    try:
        return 1 if sweep.carry_out(jobs, run, again) else 0
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command again does what is left") from error


def _single(overrides: list[str]) -> int:
    from simulations import rundir

    config = _resolve(overrides)
    out = Path(config["out"])
    if rundir.is_done(config):
        print(f"this run is finished: {out} (overwrite=true runs it again)")
        return 0
    from fedkd.errors import ConfigError
    from fedkd.training.loop import DivergedError
    from simulations.distill import run

    try:
        run(config, out)
    except DivergedError as error:
        raise ConfigError(str(error)) from error
    return 0
