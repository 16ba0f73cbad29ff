"""Finished run folders as values: who was how accurate, and what the run cost.

Figures over clients are computed anew from `clients.parquet`; only bytes and seconds come from `rounds.csv`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fedkd.errors import ConfigError
from fedkd.fairness.metrics import worst
from simulations.recorder import read_rows
from simulations.rundir import CONFIG, load_config, neighbour, standing
from simulations.shown import BAD

MIX = "mix_accuracy"
"""The column with a client's accuracy under its label mix, on the test rows of synthetic partitions."""

COSTS = {
    "bytes": "bytes sent so far, both ways",
    "seconds": "seconds so far, on the machine of the run",
    "simulated_seconds": "simulated seconds so far",
}

Which = Literal["last", "best"]
"""The round a run is judged by: its last evaluated one, or the one with the best mean on validation."""


@dataclass(frozen=True)
class Run:
    """One run folder, judged in one round.

    round: the round judged
    clients: by client number: accuracy and num_examples of the own test split, mix_accuracy where measured
    curve: by evaluated round: mean and worst10 over clients, and what it had cost up to then, in all `COSTS`
    bytes, seconds: of the whole run
    bad: what is wrong with whom, by client number: who attacks, who has wrong labels
    """

    folder: Path
    config: Mapping[str, Any]
    round: int
    clients: pd.DataFrame
    curve: pd.DataFrame
    bytes: float
    seconds: float
    bad: Mapping[int, str]

    @property
    def method(self) -> str:
        """The name of the method."""
        return str(self.config["choices"]["method"])

    @property
    def seeds(self) -> tuple[int, int]:
        """Training seed and partition seed: what distinguishes repeats."""
        own = self.config["partition"].get("seed")
        return self.config["seed"], self.config["seed"] if own is None else own

    @cached_property
    def repeat(self) -> tuple[str, int]:
        """Who holds what, and the training seed: runs of one repeat can be compared client by client."""
        who = [*population(self.config).values(), self.seeds[1]]
        return json.dumps(who, sort_keys=True, default=str), self.seeds[0]

    @property
    def rounds_to_95(self) -> int:
        """The first evaluated round whose mean reaches 0.95 of the last one's."""
        means = self.curve["mean"]
        return int(means.index[means >= 0.95 * means.iloc[-1]][0])


def population(config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the clients what they are, seeds and machine paths apart, by dotted key."""
    names = ("data", "split", "skew", "label_noise", "partition")
    nodes = {name: config.get(name) for name in names}
    plain = {name: config.get(name) for name in ("clients", "unseen_clients")}
    apart = ("data.root", "data.verify", "partition.seed", "partition.save")
    return {key: value for key, value in flat(nodes | plain).items() if key not in apart}


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree as values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def used(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows on `split`, before local training, of each client's own model, else of the global one."""
    rows = rows[(rows["split"] == split) & (rows["stage"] == "before")]
    own_last = rows.sort_values(["round", "client", "model"], kind="stable")  # global before personal
    return own_last.drop_duplicates(["round", "client"], keep="last")


def run_folders(places: Sequence[Path]) -> list[Path]:
    """The run folders named, or, of a folder that is none itself, those in it by method and settings."""
    found: dict[Path, Path] = {}
    for place in places:
        inner = (
            [place]
            if (place / CONFIG).exists()
            else sorted((file.parent for file in place.glob(f"*/{CONFIG}")), key=_place)
        )
        if not inner:
            raise ConfigError(f"'{place}' is not a run folder and holds none{neighbour(place)}")
        found |= {folder.resolve(): folder for folder in inner}
    return list(found.values())


def _place(folder: Path) -> str:
    """Sorts runs by method, then what else was chosen by name, then settings."""
    config = load_config(folder)
    chosen = {"method": config["choices"]["method"]} | dict(sorted(config["choices"].items()))
    settings = {key: value for key, value in config.items() if key not in ("choices", "out", "tuned")}
    return json.dumps([chosen, flat(settings)]) + folder.name


def load_run(folder: Path, which: Which = "last") -> Run:
    """Read a finished run folder; ConfigError where there is none."""
    config = load_config(folder)
    if standing(folder) != "finished":
        raise ConfigError(
            f"{folder}: this run is not finished; `fedkd resume {folder}` goes on, or leave the folder out"
        )
    rows = read_rows(folder)
    tests = used(rows, "test")
    if tests.empty:
        raise ConfigError(f"{folder}: no client was evaluated on test data there")
    judged = _round(tests, used(rows, "val"), which)
    clients = tests[tests["round"] == judged].set_index("client")
    clients = clients.reindex(columns=["accuracy", "num_examples", MIX]).astype(float)
    accuracy = tests.groupby("round")["accuracy"]
    rounds = pd.read_csv(folder / "rounds.csv")
    curve = pd.DataFrame({"mean": accuracy.mean(), "worst10": accuracy.agg(worst)})
    return Run(
        folder,
        config,
        judged,
        clients,
        curve.join(_spent(rounds)),
        bytes=float(rounds[["bytes_up", "bytes_down"]].sum().sum()),
        seconds=float(rounds["seconds"].sum()),
        bad=_bad(folder),
    )


def _bad(folder: Path) -> dict[int, str]:
    file = folder / BAD
    return {int(k): what for k, what in json.loads(file.read_text()).items()} if file.exists() else {}


def _spent(rounds: pd.DataFrame) -> pd.DataFrame:
    """What was spent up to the end of each round; NaN where no clock was simulated."""
    spent = {
        "bytes": rounds["bytes_up"] + rounds["bytes_down"],
        "seconds": rounds["seconds"],
        "simulated_seconds": rounds.get("simulated_seconds", pd.Series(float("nan"), rounds.index)),
    }
    return pd.DataFrame(spent).astype(float).cumsum().set_axis(rounds["round"])


def _round(tests: pd.DataFrame, validation: pd.DataFrame, which: Which) -> int:
    """The last evaluated round, or the first of those with the best mean over clients on validation."""
    if which == "best" and not validation.empty:
        means = validation.groupby("round")["accuracy"].mean()
        return int(means.index.to_numpy()[means.to_numpy().argmax()])
    return int(tests["round"].max())
