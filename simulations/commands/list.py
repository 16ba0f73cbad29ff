"""`fedkd list`: the names that can be chosen, each with one line."""

import argparse
from pathlib import Path
from typing import Any

import yaml

from fedkd.errors import ConfigError
from simulations import config
from simulations.checks import nearest
from simulations.config import choices_of, group_names
from simulations.programs import DISTILL, RUN

SUMMARY = "show the methods, data sets, models ... that can be chosen"

DESCRIPTION = """\
Show the names that can be chosen, each with one line about it: everything, or one group.

examples:
  fedkd list
  fedkd list methods
  fedkd list data"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "group", metavar="GROUP", nargs="?", help="methods, data, partitions, models, ...; all where left out"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print one table a group."""
    from rich.console import Console
    from rich.table import Table

    for group in [_group(arguments.group)] if arguments.group else groups():
        table = Table(
            title=f"{group}=", title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0)
        )
        table.add_column(no_wrap=True)
        table.add_column()
        for name in choices_of(group):
            table.add_row(name, describe(config.CONF / group / f"{name}.yaml"))
        console = Console()
        console.print(table)
        console.print()
    return 0


def groups() -> list[str]:
    """The groups that offer something, in the order of config.yaml, then those of distill.yaml alone."""
    mains = [main for main in (RUN, DISTILL) if (config.CONF / f"{main.file}.yaml").is_file()]
    folders = dict.fromkeys(folder for main in mains for folder in group_names(main).values())
    return [folder for folder in folders if choices_of(folder)]


def _group(word: str) -> str:
    names = groups()
    for name in names:
        if word in (name, f"{name}s"):
            return name
    raise ConfigError(f"unknown group '{word}'{nearest(word, names)} (one of {', '.join(names)} is needed)")


def describe(file: Path) -> str:
    """About a choice: the comment its file begins with, else the first docstring line of its target."""
    text = file.read_text()
    comment: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    words = " ".join(line for line in comment if not line.startswith("@package"))
    return words or _docstring(yaml.safe_load(text))


def _docstring(node: Any) -> str:
    if not isinstance(node, dict):
        return ""
    if "_target_" in node:
        from fedkd.build import locate

        lines = (locate(node["_target_"]).__doc__ or "").strip().splitlines()
        return lines[0] if lines else ""
    return next((words for child in node.values() if (words := _docstring(child))), "")
