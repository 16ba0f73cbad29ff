"""Watchers that a configuration asks for: TensorBoard (`track=tensorboard`), one's own (`callbacks=[...]`).

    tensorboard --logdir runs

shows what the folder `tensorboard` of each run holds. Scalars are columns of `rounds.csv` (`fairness/mean`,
`cost/bytes_up`, `method/generator_accuracy`, ...); the histogram `clients/accuracy` holds the test accuracy
of every client under the model it would use.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord

from fedkd.build import locate
from fedkd.errors import ConfigError
from simulations.loop import Plan, Round, Watcher
from simulations.measure import used_rows
from simulations.recorder import own_figures

FOLDER = "tensorboard"


def trackers(config: Mapping[str, Any], out: Path) -> list[Watcher]:
    """What `track` and `callbacks` ask for."""
    own = [locate(path)(out) for path in config["callbacks"]]
    return [TensorBoard(out), *own] if config["track"] == "tensorboard" else own


def check_tracking(config: Mapping[str, Any]) -> None:
    """Refuse what cannot be written here, and callbacks that are none."""
    for path in config["callbacks"]:
        if not (isinstance(kind := locate(path), type) and issubclass(kind, Watcher)):
            raise ConfigError(f"callbacks: '{path}' is no subclass of simulations.loop.Watcher")
    if config["track"] == "tensorboard" and find_spec("tensorboard") is None:
        raise ConfigError("track=tensorboard: the package tensorboard is needed (pip install tensorboard)")


class TensorBoard(Watcher):
    """Writes each round when it is over.

    out: the run folder, which exists
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER

    def started(self, plan: Plan) -> None:
        """Go on at `plan.first`: what was written of later rounds before an interruption no longer counts."""
        from torch.utils.tensorboard import SummaryWriter

        again = plan.first if plan.first > 1 else None
        self.writer = SummaryWriter(str(self.folder), purge_step=again)  # type: ignore[no-untyped-call]

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        training = [e for e in (round_.train, round_.follow_up) if e]
        cost = {
            "bytes_up": sum(sum(e.bytes_up.values()) for e in training),
            "bytes_down": sum(sum(e.bytes_down.values()) for e in training),
            "seconds": round_.seconds,
            "failures": sum(len(e.failures) for e in round_.exchanges),
        }
        told = {"train_loss": round_.metrics["train_loss"]} if "train_loss" in round_.metrics else {}
        groups = {"fairness": round_.figures, "cost": cost, "method": own_figures(round_) | told}
        for group, figures in groups.items():
            for name, value in figures.items():
                self.writer.add_scalar(f"{group}/{name}", value, round_.number, new_style=True)  # type: ignore
        used = used_rows(round_.evaluation.rows if round_.evaluation else [], "test")
        if used:
            accuracy = np.array([row["accuracy"] for row in used])
            self.writer.add_histogram("clients/accuracy", accuracy, round_.number)  # type: ignore
        self.writer.flush()  # type: ignore[no-untyped-call]

    def interrupted(self) -> None:
        self.finished()

    def finished(self) -> None:
        self.writer.close()  # type: ignore[no-untyped-call]
