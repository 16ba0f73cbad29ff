"""The configuration tree, completed from signatures: a default is written once, where the code is.

A node is a mapping with a `_target_`. What its file leaves out is filled in from the target's signature, so
that every key exists, can be overridden, and a misspelt one is refused.
"""

import math
import types
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from fedkd.build import build, locate, required, signature
from fedkd.errors import ConfigError
from simulations.checks import nearest, shown

UNSET = "???"
"""Stands for an argument that the code supplies when it builds the node, unless the user sets it."""

Path = tuple[str, ...]
Node = dict[str, Any]
OURS = ("fedkd", "strategies", "clients", "simulations")


def complete(node: Node, targets: dict[Path, str], path: Path = ()) -> Node:
    """`node` with every key of every target below it; `targets` holds the user's own `_target_` by path."""
    if path in targets:
        node = _retarget(node, targets.pop(path))
    if "_target_" in node:
        node = _fill(node, path)
    done = dict(node)
    for key, child in node.items():
        below = (*path, key)
        if isinstance(child, dict):
            done[key] = complete(child, targets, below)
        elif isinstance(child, list):
            done[key] = [
                complete(item, targets, (*below, str(index))) if isinstance(item, dict) else item
                for index, item in enumerate(child)
            ]
        elif below in targets:
            done[key] = complete({}, targets, below)
    return done


def _retarget(node: Node, target: str) -> Node:
    """The node for another target: what that one does not accept is dropped."""
    names, anything = signature(locate(target))
    kept = {key: value for key, value in node.items() if anything or key in names or key.startswith("_")}
    return kept | {"_target_": target}


def _fill(node: Node, path: Path) -> Node:
    names, anything = signature(locate(node["_target_"]))
    for key in node:
        if not anything and key not in names and not key.startswith("_"):
            raise unknown_key((*path, key), names)
    defaults = {name: UNSET if p.default is p.empty else p.default for name, p in names.items()}
    plain = {name: _plain(value) for name, value in defaults.items() if is_plain(value)}
    return {"_target_": node["_target_"]} | plain | node


def is_plain(value: Any) -> bool:
    """Whether a default can stand in a YAML file."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(inner) for inner in value)
    return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def unknown_key(path: Path, known: Mapping[str, Any] | set[str]) -> ConfigError:
    """The sentence for a key that does not exist."""
    names = sorted(name for name in known if not name.startswith("_"))
    where = ".".join(path[:-1])
    place = f"'{where}' takes" if where else "the top-level keys are"
    return ConfigError(
        f"unknown key '{'.'.join(path)}'{nearest(path[-1], names)} ({place} {', '.join(names)})"
    )


def assign(tree: Node, path: Path, value: Any) -> None:
    """Set one value in a completed tree; unknown keys are refused, except in an argument's own mapping."""
    node, free = tree, False
    for depth, key in enumerate(path[:-1], 1):
        _must_exist(node, path[:depth], free)
        child = node.get(key)
        if child in (None, UNSET) and depth > 1:
            child = node[key] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"'{'.'.join(path[:depth])}' is {shown(child)} and has no keys of its own")
        free = "_target_" not in child and (free or "_target_" in node)
        node = child
    _must_exist(node, path, free)
    old = node.get(path[-1])
    if isinstance(old, dict) and old and value is not None:
        keys = ", ".join(f"{'.'.join(path)}.{key}" for key in old if not key.startswith("_"))
        raise ConfigError(f"'{'.'.join(path)}' is a group of keys: one of {keys} is needed")
    node[path[-1]] = value


def networks(kinds: Any, folder: File) -> list[Any] | None:
    """`model.per_client` with each name replaced by the node in its file in `folder`."""
    if kinds is None:
        return None
    files = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if not isinstance(kinds, list) or not kinds:
        raise ConfigError(
            f"model.per_client={shown(kinds)}: a list of models is needed, each one of {', '.join(files)}"
        )
    for kind in kinds:
        if isinstance(kind, str) and kind not in files and "." not in kind:
            raise ConfigError(f"unknown model '{kind}' in model.per_client{nearest(kind, files)}")
    return [
        yaml.safe_load(files[kind].read_text()) if isinstance(kind, str) and kind in files else kind
        for kind in kinds
    ]


def _must_exist(node: Node, path: Path, free: bool) -> None:
    if free or path[-1] in node:
        return
    names, anything = signature(locate(node["_target_"])) if "_target_" in node else ({}, False)
    if not anything and path[-1] not in names:  # a default that is no plain value is not in the tree
        raise unknown_key(path, {**node, **names})


def conform(tree: Node, path: Path = ()) -> Node:
    """`tree` without unset keys, each simple value checked against its parameter's annotation."""
    names = signature(locate(tree["_target_"]))[0] if "_target_" in tree else {}
    done: Node = {}
    for key, value in tree.items():
        below = (*path, key)
        if isinstance(value, dict):
            done[key] = conform(value, below)
        elif isinstance(value, list):
            done[key] = [conform(item, below) if isinstance(item, dict) else item for item in value]
        elif isinstance(value, str) and value == UNSET:
            continue
        elif key in names and not (value is None and names[key].default is None):
            done[key] = _typed(value, names[key].annotation, ".".join(below))
        else:
            done[key] = value
    return done


def _typed(value: Any, annotation: Any, key: str) -> Any:
    """`value` as its annotation wants it, where that is made of numbers, words and null; else untouched."""
    union = get_origin(annotation) in (Union, types.UnionType)
    options = get_args(annotation) if union else (annotation,)
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    simple = [option for option in options if option in _NAMES]
    if len(simple) + sum(get_origin(option) is Literal for option in options) < len(options):
        return value
    kind = type(value)
    if value in words or kind in simple or (value is None and type(None) in simple):
        if kind is float and math.isnan(value):
            raise ConfigError(f"{key}=nan: a number is needed")
        return value
    if kind is int and float in simple:
        return float(value)
    wanted = " or ".join([_NAMES[option] for option in simple] + [str(word) for word in words])
    raise ConfigError(f"{key}={shown(value)}: {wanted} is needed{nearest(str(value), map(str, words))}")


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    type(None): "null",
}


def try_out(config: Mapping[str, Any], skip: frozenset[str]) -> None:
    """Construct, and drop, all objects of ours that need no data: a bad value is told before a run."""
    for path, node in _targets({key: value for key, value in config.items() if key not in skip}):
        if _complete_without_data(node):
            try:
                build(node)
            except ConfigError:
                raise
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{'.'.join(path)}: {error}") from error


def _targets(node: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for key, child in node.items():
        if isinstance(child, Mapping):
            yield from _targets(child, (*path, key))
    if "_target_" in node:
        yield path, node


def _complete_without_data(node: Mapping[str, Any]) -> bool:
    inner = [child for _, child in _targets(node)]
    return all(
        str(each["_target_"]).split(".")[0] in OURS
        and all(name in each for name in required(locate(each["_target_"])))
        for each in inner
    )
