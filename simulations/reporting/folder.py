"""A run folder as the report's sections read it; each file once, and only the columns that are drawn."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fedkd.data.picture import HEADING
from simulations.figures import used
from simulations.multipliers import FILES
from simulations.recorder import PARTS, read_rows
from simulations.rundir import ABOUT, CONFIG, SUMMARY, load_config
from simulations.shown import BAD, POPULATION

SCALARS = ("num_examples", "loss", "accuracy", "mix_accuracy")
AUDIT = "privacy.json"
"""What `fedkd privacy` writes."""
COUNTS = ("class_correct", "class_total")


@dataclass(frozen=True)
class RunFolder:
    """One run, finished or not."""

    out: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return load_config(self.out)

    @cached_property
    def about(self) -> dict[str, Any]:
        """Versions, commit, hash."""
        found: dict[str, Any] = yaml.safe_load((self.out / CONFIG).read_text()).get(ABOUT) or {}
        return found

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """`rounds.csv`."""
        return pd.read_csv(self.out / "rounds.csv")

    @cached_property
    def rows(self) -> pd.DataFrame:
        """`clients.parquet` without its lists."""
        return read_rows(self.out, SCALARS)

    @cached_property
    def used(self) -> pd.DataFrame:
        """Test rows, before local training, of the model each client would use, by round and client."""
        return used(self.rows)

    @cached_property
    def evaluated(self) -> list[int]:
        """The rounds in which clients were evaluated."""
        return sorted(map(int, self.used["round"].unique()))

    @property
    def last(self) -> pd.DataFrame:
        """`used` in the last evaluated round, by client."""
        return self.used[self.used["round"] == self.evaluated[-1]].set_index("client")

    @cached_property
    def last_counts(self) -> pd.DataFrame:
        """All rows of the last evaluated round with their counts by class; none without one."""
        if not self.evaluated:
            return pd.DataFrame()
        return read_rows(self.out, (*SCALARS, *COUNTS), rounds=[self.evaluated[-1]])

    @cached_property
    def population(self) -> pd.DataFrame:
        """Who the clients are, by number: `population.csv`; empty where the run has none."""
        file = self.out / POPULATION
        return pd.read_csv(file).set_index("client") if file.exists() else pd.DataFrame()

    @cached_property
    def bad(self) -> dict[int, str]:
        """What is wrong with whom: who attacks, who has wrong labels."""
        file = self.out / BAD
        return {int(k): what for k, what in json.loads(file.read_text()).items()} if file.exists() else {}

    @cached_property
    def _people(self) -> dict[int, str]:
        return {int(str(k)): self._describe(int(str(k)), dict(row)) for k, row in self.population.iterrows()}

    @cached_property
    def class_names(self) -> list[str]:
        """Of the data set; their numbers where the names are not known."""
        names = [str(name) for name in self.population.columns if name not in HEADING]
        counts = self.last_counts.get("class_total")
        return names or ([] if counts is None or counts.empty else list(map(str, range(len(counts.iloc[0])))))

    @cached_property
    def multipliers(self) -> pd.DataFrame:
        """`multipliers.csv`; empty where there is none."""
        return self._told("client")

    @cached_property
    def class_multipliers(self) -> pd.DataFrame:
        """`class_multipliers.csv`; empty where there is none."""
        return self._told("class")

    @cached_property
    def cuts(self) -> pd.DataFrame:
        """`cuts.csv`; empty where there is none."""
        return self._told("cut")

    @cached_property
    def privacy(self) -> dict[str, Any]:
        """`privacy.json`; empty where `fedkd privacy` was not asked."""
        file = self.out / AUDIT
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _told(self, group: str) -> pd.DataFrame:
        file = self.out / FILES[group][0]
        return pd.read_csv(file) if file.exists() else pd.DataFrame()

    @cached_property
    def failures(self) -> list[dict[str, Any]]:
        """Round, client and reason of each reply that was left out."""
        files = [self.out / "failures.json", *sorted((self.out / PARTS).glob("[0-9]*.json"))]
        return [failure for file in files if file.exists() for failure in json.loads(file.read_text())]

    @property
    def finished(self) -> bool:
        """Whether the last round was played."""
        return (self.out / SUMMARY).exists()

    @property
    def who(self) -> str:
        """What a row stands for."""
        return "classes" if self.config["choices"]["method"] == "distill" else "clients"

    @property
    def model(self) -> str:
        """Which model was judged."""
        kinds = sorted(self.used["model"].unique(), reverse=True)
        return {"personal": "each client's own model", "global": "the global model"}.get(
            kinds[0] if len(kinds) == 1 else "",
            "each client's own model where it has one, else the global one",
        )

    @property
    def judged(self) -> str:
        """Which model, when, on what."""
        if self.who == "classes":
            return "the student, on the test samples of each class"
        return f"{self.model}, before local training, on the client's own test split"

    def describe(self, clients: np.ndarray) -> list[str]:
        """Who each client is, in a few words: number, name, training samples, its largest classes."""
        kind = "class" if self.who == "classes" else "client"
        return [self._people.get(int(client), f"{kind} {client}") for client in clients]

    def _describe(self, client: int, row: dict[Any, Any]) -> str:
        counts = sorted(((row[name], name) for name in self.class_names), key=lambda pair: -pair[0])
        total = max(sum(count for count, _ in counts), 1)
        mix = ", ".join(f"{name} {count / total:.0%}" for count, name in counts[:3] if count)
        name = "" if str(row["name"]) == str(client) else f" ({row['name']})"
        unseen = ", kept out of training" if row["unseen"] else ""
        bad = f", {self.bad[client]}" if client in self.bad else ""
        return f"client {client}{name}: {row['train']} training samples{unseen}{bad}; {mix}"
