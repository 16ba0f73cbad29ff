"""The resolved configuration of a run: Hydra's groups and overrides, completed from signatures, checked.

`resolve(["method=fedprox", "local.lr=0.1"])` is all that the other programs need: a plain dictionary that can
be written as YAML or JSON, and from which `fedkd.build` makes the objects.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from fedkd.errors import ConfigError
from simulations.checks import check_together, check_values, nearest, shown
from simulations.composing import composed
from simulations.overrides import Override, parse
from simulations.programs import RUN, Main
from simulations.settled import blamed, chosen
from simulations.tree import assign, complete, conform, networks, try_out, unknown_key

CONF = Path(__file__).parent / "conf"
Choices = dict[str, str | None]
"""The name chosen in each group; None for none."""

_PLACE_AND_PACE = (
    "choices",
    "engine",
    "out",
    "overwrite",
    "tuned",
    "track",
    "callbacks",
    "checkpoint_every",
    "figures_every",
)


def resolve(
    overrides: Sequence[str],
    main: Main = RUN,
    engine: Callable[[str | None, Mapping[str, Any]], None] = lambda choice, settings: None,
) -> dict[str, Any]:
    """The complete configuration of one run, or a ConfigError that says in one sentence what is wrong.

    engine: is told the choice and settings of `engine` as soon as they are known, before all is checked
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own modules, after ours
    user = parse(overrides)
    named, values = _split(user, main)
    raw, choices = _compose(named, main)
    tuned = []
    if raw.get("tuned") or any(value.key == "tuned" for value in values):
        tuned = chosen(values, choices["method"], raw["tuned"])
    own = {value.path[1]: value.value for value in values if value.path[0] == "engine" and value.path[1:]}
    engine(choices.get("engine"), {**(raw.get("engine") or {}), **own})
    names = {group: name for group, name in choices.items() if name is not None}
    try:
        tree = _complete(raw, tuned + values)
    except ConfigError as error:
        raise blamed(error, tuned) from error.__cause__
    config = {"choices": names | dict(main.named), **tree}
    _settle(config)
    if config["out"] is None:
        config["out"] = default_out(config)
    return config


def config_hash(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of what decides a run's numbers, seed, engine and machine paths apart."""
    kept = {key: value for key, value in config.items() if key != "seed" and key not in _PLACE_AND_PACE}
    kept["data"] = {key: value for key, value in kept["data"].items() if key != "root"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def default_out(config: Mapping[str, Any]) -> str:
    """`runs/<method>-<data>-<hash>-s<seed>`."""
    method, data = (config["choices"][group].replace("/", "_") for group in ("method", "data"))
    return f"runs/{method}-{data}-{config_hash(config)}-s{config['seed']}"


def group_names(main: Main = RUN) -> dict[str, str]:
    """Each group that can be chosen on the command line, with the folder of its files."""
    return {group: folder for group, (folder, _) in _groups(main).items()}


def _groups(main: Main) -> dict[str, tuple[str, str | None]]:
    """Folder and usual name of each group."""
    entries = [entry for entry in _main_file(CONF, main.file)["defaults"] if isinstance(entry, dict)]
    pairs = [pair for entry in entries for pair in entry.items()]
    return {key.rpartition("@")[2]: (key.partition("@")[0], name) for key, name in pairs}


@lru_cache
def _main_file(conf: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((conf / f"{name}.yaml").read_text())
    return content


def choices_of(group: str) -> list[str]:
    """The names that a group offers, from its files."""
    folder = CONF / group_names().get(group, group)
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def _split(user: list[Override], main: Main) -> tuple[Choices, list[Override]]:
    """Choices by group, and plain values; both checked as far as that goes without importing anything."""
    chosen: Choices = {}
    values: list[Override] = []
    groups = group_names(main)
    top = {*_main_file(CONF, main.file), *(group.partition(".")[0] for group in groups)} - {"defaults"}
    for override in user:
        if override.path[0] not in top:
            raise unknown_key(override.path[:1], top)
        if override.key in groups:
            if override.key == "objective" and isinstance(override.value, list):
                values.append(Override(("objective", "terms"), override.value))
                override = Override(override.path, "combined")
            chosen[override.key] = _choice(override, groups[override.key], override.key in main.needed)
        else:
            values.append(override)
    check_values({value.key: value.value for value in values})
    return chosen, values


def _choice(override: Override, folder: str, needed: bool) -> str | None:
    names = choices_of(folder)
    if override.value not in names and (override.value is not None or needed):
        hint = nearest(str(override.value), names)
        accepted = ", ".join(names + ["null"] * (not needed))
        raise ConfigError(
            f"unknown {override.key} '{shown(override.value)}'{hint} (one of {accepted} is needed)"
        )
    return override.value


def _compose(chosen: Choices, main: Main) -> tuple[dict[str, Any], Choices]:
    """The files of the chosen names merged by Hydra, not completed yet, and the name chosen in each group.

    Two passes: the first finds the data set, whose file names the partition and model that suit it, and the
    method, whose file may name a generator and a weighting. They count where nobody chose otherwise.
    """
    raw, choices = _hydra(chosen, main)
    named = {**raw["data"], **(raw.get("method") or {})}
    suited = {
        group: named[key]
        for group, (_, usual) in _groups(main).items()
        if group not in chosen
        and choices[group] == usual
        and (key := f"_default_{group.rpartition('.')[2]}_") in named
    }
    if suited:
        raw, choices = _hydra(suited | chosen, main)
    for group in main.needed:
        if choices[group] is None:
            names = choices_of(group_names(main)[group])
            raise ConfigError(f"{group}=null: one of {', '.join(names)} is needed")
    if choices["experiment"] is not None:
        _no_new_keys(raw, _hydra(choices | {"experiment": None}, main)[0])
    return raw, choices


def _no_new_keys(raw: Mapping[str, Any], known: Mapping[str, Any], path: tuple[str, ...] = ()) -> None:
    """Refuse keys that an experiment misspells where no signature will tell."""
    for key, value in raw.items():
        if key not in known:
            raise unknown_key((*path, key), known)
        if isinstance(value, dict) and "_target_" not in value and isinstance(known[key], dict):
            _no_new_keys(value, known[key], (*path, key))


def _hydra(chosen: Choices, main: Main) -> tuple[dict[str, Any], Choices]:
    folders = group_names(main)
    words = [
        f"{_in_hydra(group, folders[group])}={name}" for group, name in chosen.items() if name is not None
    ]
    raw, found = deepcopy(composed(CONF, main.file, tuple(words)))
    choices: Choices = {group: chosen.get(group, found.get(group)) for group in folders}
    for group, name in choices.items():
        if name is None and "." not in group:  # also where a method's file chose one: null is the user's word
            raw[group] = None
    return {key: value for key, value in raw.items() if key != "experiment"}, choices


def _in_hydra(group: str, folder: str) -> str:
    return group if group == folder else f"{folder}@{group}"


def _complete(raw: dict[str, Any], values: list[Override]) -> dict[str, Any]:
    for group in ("data", "public", "proxy", "method"):
        if raw.get(group):
            raw[group] = {k: v for k, v in raw[group].items() if not k.startswith("_default_")}
    targets = {value.path[:-1]: str(value.value) for value in values if value.path[-1] == "_target_"}
    tree = complete(raw, targets)
    if "model" in tree:
        tree["model"].setdefault("per_client", None)  # names or nodes of the networks clients hold in turn
    for value in values:
        if value.path[-1] != "_target_" or value.path[:-1] in targets:
            assign(tree, value.path, value.value)
    return conform(_interpolated(tree))


def _interpolated(tree: dict[str, Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"a value cannot be resolved: {' '.join(str(error).split())}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _settle(config: dict[str, Any]) -> None:
    """Check what the files and experiments set as well, and give values their one spelling."""
    sections = [name for name in ("evaluation", "engine", "teacher", "student") if name in config]
    check_values(
        config | {f"{name}.{key}": value for name in sections for key, value in config[name].items()}
    )
    if "clients" in config:
        _settle_clients(config)
    try_out(config, skip=frozenset({"data", "public", "proxy", "engine"}))


def _settle_clients(config: dict[str, Any]) -> None:
    config["model"]["per_client"] = networks(config["model"]["per_client"], CONF / "model")
    config["participation"] = 1.0 if config["participation"] == 1 else config["participation"]
    given = config["choices"]["partition"] == "natural" or config["partition"].get("file")
    if config["clients"] is None and not given:
        from fedkd.data.partition import DEFAULT_CLIENTS

        config["clients"] = DEFAULT_CLIENTS
    check_together(config)
