"""Run folders as groups: the repeats of one method, checked to be comparable with the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedkd.errors import ConfigError
from simulations.comparing.runs import Run, flat, population
from simulations.config import config_hash

LOCAL = "local"
MANY = 3
"""Settings by which rows of one method may be called without leaving out the usual ones."""

_TOLD = {"method", "experiment", "engine"}
"""Choices that a label need not name: it begins with the method, an experiment is what it sets, and no figure
depends on the engine."""


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


def differences(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """The settings in which groups differ beyond what their method and label say: by key, values by label."""
    firsts = [each.runs[0] for each in groups]
    found: dict[str, dict[str, Any]] = {}
    for each in groups:
        for key, value in _apart(each.runs[0], firsts).items():
            if not key.startswith("method.") and f" {key}={value} " not in f"{each.label} ":
                found.setdefault(key, {})[each.label] = value
    return found


def shortened(groups: Sequence[Group]) -> bool:
    """Whether some of several rows of one method is called by the method alone."""
    methods = [each.method for each in groups]
    return any(each.label == each.method and methods.count(each.method) > 1 for each in groups)


def local_runs(groups: Sequence[Group]) -> dict[tuple[str, int], Run]:
    """The runs of local-only training by repeat; none where there are several settings of it."""
    alone = [each for each in groups if each.method == LOCAL]
    return {run.repeat: run for run in alone[0].runs} if len(alone) == 1 else {}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what may differ between repeats."""
    weighting, availability = (
        {key: value for key, value in (config.get(name) or {}).items() if key not in ("reference", "seed")}
        for name in ("weighting", "availability")  # their `seed` follows the run's
    )
    partition = {key: value for key, value in config["partition"].items() if key not in ("seed", "save")}
    apart = ("seed", "choices", "engine", "out", "overwrite", "tuned", "track", "callbacks")
    kept = {key: value for key, value in config.items() if key not in apart}
    kept["data"] = {key: value for key, value in config["data"].items() if key not in ("root", "verify")}
    return kept | {"weighting": weighting, "partition": partition, "availability": availability}


def _budget(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run may spend: rounds, participants, local work."""
    local = {f"local.{key}": config["local"][key] for key in ("epochs", "steps")}
    return {key: config.get(key) for key in ("rounds", "participation")} | local


def _labels(runs: Sequence[Run]) -> list[str]:
    """The method and what tells a run from its rivals; if that is much, only what most of them have not."""
    labels = []
    for run in runs:
        rivals = [other for other in runs if other.method == run.method]
        apart = _apart(run, rivals)
        if len(apart) > MANY:
            every = [_apart(rival, rivals) for rival in rivals]
            apart = {key: value for key, value in apart.items() if not _usual(key, value, every)}
        labels.append(" ".join([run.method, *(f"{key}={value}" for key, value in apart.items())]))
    return labels


def _usual(key: str, value: Any, every: Sequence[Mapping[str, Any]]) -> bool:
    """Whether more than half of them have this value."""
    return 2 * sum(key in each and repr(each[key]) == repr(value) for each in every) > len(every)


def _apart(run: Run, rivals: Sequence[Run]) -> dict[str, Any]:
    """What tells a run from its rivals: the names chosen (`weighting: eg`), and differing settings.

    Settings that belong to what was chosen by name are compared with those who chose the same.
    """
    names: list[Mapping[str, str]] = [rival.config["choices"] for rival in rivals]
    own = run.config["choices"]
    groups = sorted({group for each in names for group in each} - _TOLD, key=len, reverse=True)
    found: dict[str, Any] = {
        group: own[group]
        for group in reversed(groups)
        if group in own and len({each.get(group) for each in names}) > 1
    }
    settings = [flat(_settings(rival.config)) for rival in rivals]
    for key, value in flat(_settings(run.config)).items():
        group = next((group for group in groups if key.startswith(f"{group}.")), "")
        alike = [s for s, each in zip(settings, names, strict=True) if each.get(group) == own.get(group)]
        if len({repr(s.get(key)) for s in alike}) > 1:
            found[key] = value
    return found


def _no_repeat_twice(each: Group) -> None:
    for run, following in zip(each.runs, each.runs[1:], strict=False):
        if run.seeds == following.seeds:
            raise ConfigError(f"{run.folder} and {following.folder} hold the same run; one of them is enough")
