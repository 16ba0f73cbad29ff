"""Run folders as groups: the repeats of one method, checked to be comparable with the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedkd.errors import ConfigError
from simulations.comparing.runs import Run, flat, population
from simulations.config import config_hash

LOCAL = "local"


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds, in the order of these."""

    label: str
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.runs[0].method

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration of the runs, by dotted key, seeds apart."""
        return flat(_settings(self.runs[0].config))


def group(runs: Sequence[Run]) -> list[Group]:
    """Groups in the order of their first runs, labelled by method, and by what differs within it."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(config_hash(_settings(run.config)), []).append(run)
    labels = _labels([repeats[0] for repeats in members.values()])
    groups = [
        Group(label, tuple(sorted(repeats, key=lambda run: run.seeds)))
        for label, repeats in zip(labels, members.values(), strict=True)
    ]
    for each in groups:
        _no_repeat_twice(each)
    return groups


def check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs on other data, another partition or with another budget, seeds apart."""
    first = runs[0]
    wanted = population(first.config) | _budget(first.config)
    for run in runs[1:]:
        found = population(run.config) | _budget(run.config)
        for key in {**wanted, **found}:
            if wanted.get(key) != found.get(key):
                raise ConfigError(
                    f"{first.folder} and {run.folder} differ in {key} ({wanted.get(key)}, {found.get(key)}); "
                    "--allow-different compares them all the same"
                )


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The settings in which groups differ beyond what their method is, a value for each group."""
    settings = [each.settings for each in groups]
    keys = dict.fromkeys(key for each in settings for key in each)
    return {
        key: [each.get(key) for each in settings]
        for key in keys
        if not key.startswith("method.") and len({repr(each.get(key)) for each in settings}) > 1
    }


def local_runs(groups: Sequence[Group]) -> dict[tuple[str, int], Run]:
    """The runs of local-only training by repeat; none where there are several settings of it."""
    alone = [each for each in groups if each.method == LOCAL]
    return {run.repeat: run for run in alone[0].runs} if len(alone) == 1 else {}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what may differ between repeats."""
    weighting = {key: value for key, value in (config.get("weighting") or {}).items() if key != "reference"}
    partition = {key: value for key, value in config["partition"].items() if key not in ("seed", "save")}
    apart = ("seed", "choices", "engine", "out", "overwrite", "tuned", "track", "callbacks")
    kept = {key: value for key, value in config.items() if key not in apart}
    kept["data"] = {key: value for key, value in config["data"].items() if key not in ("root", "verify")}
    availability = {
        k: v for k, v in (config.get("availability") or {}).items() if k != "seed"
    }  # follows `seed`
    return kept | {"weighting": weighting, "partition": partition, "availability": availability}


def _budget(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run may spend: rounds, participants, local work."""
    local = {f"local.{key}": config["local"][key] for key in ("epochs", "steps")}
    return {key: config.get(key) for key in ("rounds", "participation")} | local


def _labels(runs: Sequence[Run]) -> list[str]:
    labels = []
    for run in runs:
        rivals = [flat(_settings(other.config)) for other in runs if other.method == run.method]
        own = flat(_settings(run.config))
        differing = [key for key in own if len({repr(rival.get(key)) for rival in rivals}) > 1]
        labels.append(" ".join([run.method, *(f"{key}={own[key]}" for key in differing)]))
    return labels


def _no_repeat_twice(each: Group) -> None:
    for run, following in zip(each.runs, each.runs[1:], strict=False):
        if run.seeds == following.seeds:
            raise ConfigError(f"{run.folder} and {following.folder} hold the same run; one of them is enough")
