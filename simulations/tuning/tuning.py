"""One method's tuning: what was asked for, the runs that play its trials, and the files about it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.storages.journal import JournalFileBackend

from fedkd.errors import ConfigError
from simulations.comparing.runs import used
from simulations.config import default_out, resolve
from simulations.overrides import parse
from simulations.playing import Job
from simulations.recorder import read_rows
from simulations.rundir import standing, write_text
from simulations.tuning.search import Rung, Search, Trial, ladder, rank, search
from simulations.tuning.space import Space, search_space, value_at

LEAN = ("evaluation.splits=[val]", "evaluation.after=false", "evaluation.mix_samples=0")
AT_THE_END = ("rounds", "evaluate_every", "checkpoint_every")
COSTS = ("seconds", "bytes_up", "bytes_down")


@dataclass
class Tuning:
    """How one method is tuned.

    overrides: what the user set, the method included
    out: the folder for all methods
    parallel: trials at a time, where the user said so
    """

    overrides: list[str]
    trials: int
    out: Path
    parallel: int | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run that is tuned."""
        return resolve(self.overrides)

    @property
    def method(self) -> str:
        """The name of the method."""
        return str(self.config["choices"]["method"])

    @cached_property
    def space(self) -> Space:
        """What is varied: all that the method declares and the user did not set."""
        return search_space(self.config, {override.key for override in parse(self.overrides)})

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The values without tuning."""
        return {key: value_at(self.config, key) for key in self.space}

    @property
    def rungs(self) -> list[Rung]:
        """How many trials are played for how many rounds; the same for every method."""
        return ladder(self.trials, self.config["rounds"])

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides the outcome, by which a tuning is known when it is asked for again."""
        return {"overrides": self.overrides, "trials": self.trials, "search_space": self.space}

    def check(self) -> None:
        """Refuse, before any trial, what no trial could mend."""
        if self.config["split"]["val"] == 0:
            raise ConfigError("split.val=0: tuning needs validation samples; a fraction above 0 is needed")
        self.job(Trial(0, 1, self.defaults))

    def is_done(self) -> bool:
        """Whether this tuning is finished; ConfigError where another one of the method is there."""
        file = self._file("yaml")
        if not file.exists() or self.config["overwrite"]:
            return False
        if yaml.safe_load(file.read_text())["asked"] != self.asked:
            raise ConfigError(
                f"{file}: {self.method} was tuned differently there; another out or overwrite=true is needed"
            )
        return True

    def job(self, trial: Trial) -> Job:
        """The run that plays a trial; one that was cut off starts anew."""
        values = {**trial.params, **dict.fromkeys(AT_THE_END, trial.rounds)}
        texts = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        config = resolve([*self.overrides, *texts, *LEAN])
        out = self.out / "trials" / Path(default_out(config)).name
        config |= {"out": str(out), "overwrite": standing(out) == "unfinished"}
        return Job(config, parallel=self.parallel)

    def begin(self) -> Search:
        """A new search, recorded in Optuna's journal."""
        file = self._file("journal")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # played again from the start, where finished trials cost nothing
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
        study = optuna.create_study(storage=storage, study_name=self.method, direction="maximize")
        return search(study, self.space, self.defaults, self.rungs, self.config["seed"])

    def write(self, trials: Sequence[Trial]) -> None:
        """Write all trials and the choice: the best of those that were played for all rounds."""
        best = min((trial for trial in trials if trial.rounds == self.config["rounds"]), key=rank)
        if best.value == 0.0:
            raise ConfigError(
                f"{self.method}: no trial ended above 0 on validation, so nothing can be chosen; the trials' "
                "own lines say why"
            )
        outs = [self.job(trial).out for trial in trials]
        cost = {out: run_cost(out) for out in outs}
        rounds = {out: trial.rounds for out, trial in zip(outs, trials, strict=True)}
        rows = [
            {"trial": trial.number, "rounds": trial.rounds, **trial.params, "val_mean": trial.value}
            | {"status": standing(out), **cost[out], "folder": str(out.relative_to(self.out))}
            for trial, out in zip(trials, outs, strict=True)
        ]
        write_text(self._file("csv"), pd.DataFrame(rows).to_csv(index=False))
        spent = {key: sum(each[key] for each in cost.values()) for key in COSTS}
        record = {
            "method": self.method,
            "chosen": dict(best.params),
            "val_mean": best.value,
            "trial": best.number,
            "seed": self.config["seed"],
            "cost": {"rounds": sum(rounds.values()), **spent},
            "rungs": [dict(rung._asdict()) for rung in self.rungs],
            "asked": self.asked,
        }
        write_text(self._file("yaml"), yaml.safe_dump(record, sort_keys=False))

    def record(self) -> dict[str, Any]:
        """What `write` wrote."""
        content: dict[str, Any] = yaml.safe_load(self._file("yaml").read_text())
        return content

    def _file(self, kind: str) -> Path:
        return self.out / f"{self.method}.{kind}"


def validation_mean(out: Path) -> float:
    """Mean validation accuracy over clients at a trial's end, of the model each would use; 0 if it failed."""
    if standing(out) != "finished":
        return 0.0
    rows = used(read_rows(out), "val")
    if rows.empty:
        raise ConfigError(f"{out}: no client has validation samples; a larger split.val is needed")
    return float(rows.loc[rows["round"] == rows["round"].max(), "accuracy"].mean())


def run_cost(out: Path) -> dict[str, float]:
    """What a trial cost, as far as it came."""
    file = out / "rounds.csv"
    if not file.exists():
        return dict.fromkeys(COSTS, 0)
    rounds = pd.read_csv(file)
    return {key: float(rounds[key].sum()) for key in COSTS}
