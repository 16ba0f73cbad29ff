"""Where the numbers come from: the command that repeats the run, versions, and the whole configuration."""

import shlex
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import yaml

from fedkd.errors import ConfigError
from simulations.comparing.runs import flat
from simulations.config import resolve
from simulations.programs import DISTILL, RUN, Main
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, code, folded, paragraph, parameters, table

_PLACE_AND_PACE = ("engine", "out", "overwrite", "track", "callbacks", "checkpoint_every", "figures_every")
APART = ("choices", "data.root", "tuned", *_PLACE_AND_PACE)
"""What is not needed to repeat a run, or is another thing on another machine."""
FIRST = ("method", "data")
Resolved = Callable[..., Mapping[str, Any]]
"""From words of the command line to the configuration, by dotted key."""
MOST = 20
"""So many words are tried for being superfluous."""


def section(run: RunFolder) -> Section | None:
    """How to repeat the run, and what it was run with."""
    versions = run.about.get("versions", {})
    told = [("python", run.about.get("python", "")), *versions.items()]
    told += [(key, run.about[key]) for key in ("platform", "git_commit", "hash") if run.about.get(key)]
    command = reproduce(run.config)
    body = code(command) if command else ""
    body += paragraph(
        "The same command with the same versions gives the same figures, bit for bit on one kind of CPU, "
        "however many workers there are. The folder's config.yaml holds all keys; the figures of this page "
        "come from its clients.parquet and rounds.csv."
    )
    body += folded(
        "Versions", table(("package", "version"), [(k, v) for k, v in told if v], "versions-table")
    )
    body += folded("The whole configuration", table(("key", "value"), parameters(run.config), "config-table"))
    return Section(
        "origin", "How to repeat this", "The command names what differs from the defaults.", body, wide=True
    )


def reproduce(config: Mapping[str, Any]) -> str:
    """The command that resolves to this configuration, place and pace apart; empty where none does."""
    distils = config["choices"]["method"] == "distill"
    main, own = DISTILL if distils else RUN, flat(config)

    @cache
    def resolved(*words: str) -> Mapping[str, Any]:
        return flat(resolve(list(words), main))

    try:
        wanted = _beyond_defaults(config["choices"], main, resolved)
        wanted += _targets(own, resolved(*wanted))
        wanted += _values(own, resolved(*wanted))
        if not _same(own, resolved(*wanted)):
            return ""
        wanted = _without_followers(wanted, own, resolved)
    except ConfigError:
        return ""
    return shlex.join(["fedkd", "distill" if distils else "run", *wanted])


def _same(own: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    return all(again.get(key) == value for key, value in own.items() if not _apart(key))


def _without_followers(wanted: list[str], own: Mapping[str, Any], resolved: Resolved) -> list[str]:
    """The words without those that follow from others, such as a length that is the number of rounds."""
    kept = list(wanted)
    for word in [word for word in wanted if "." in word.partition("=")[0]][:MOST]:
        fewer = [other for other in kept if other != word]
        try:
            if _same(own, resolved(*fewer)):
                kept = fewer
        except ConfigError:
            continue
    return kept


def _beyond_defaults(choices: Mapping[str, str], main: Main, resolved: Resolved) -> list[str]:
    """The choices that method and data do not bring along."""
    wanted = {group: choices[group] for group in FIRST if group in choices and group not in main.named}
    usual = resolved(*_words(wanted))
    others = {group: name for group, name in choices.items() if usual.get(f"choices.{group}") != name}
    return _words(wanted | {group: name for group, name in others.items() if not _apart(group)})


def _words(choices: Mapping[str, str]) -> list[str]:
    return [f"{group}={name}" for group, name in choices.items()]


def _targets(own: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}={value}"
        for key, value in own.items()
        if key.endswith("._target_") and usual.get(key) != value
    ]


def _values(own: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}={_word(value)}"
        for key, value in own.items()
        if not _apart(key) and (key not in usual or usual[key] != value)
    ]


def _apart(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in APART)


def _word(value: Any) -> str:
    """A value as the command line takes it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).strip()
    return text.removesuffix("\n...").strip()
