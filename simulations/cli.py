"""The `fedkd` program: finds the command, and turns mistakes into one sentence and exit code 2.

A command is a module in `simulations/commands` with `SUMMARY`, `DESCRIPTION`, `configure(parser)` and
`execute(arguments)`; put its name into `COMMANDS` to have it shown. Where it names a module in `NEEDS` that
does not exist, the command is not offered.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from fedkd.errors import ConfigError
from simulations.checks import nearest

COMMANDS = ("run", "resume", "report", "privacy", "compare", "tune", "partition", "list", "distill")

INTRODUCTION = """\
fedkd simulates N clients with different data that learn together by distillation, and
measures who gains and who is left behind.

usage: fedkd COMMAND [KEY=VALUE ...]

commands:
{commands}

examples:
  fedkd run                                        a small federated run on the data that comes along
  fedkd run method=fedprox clients=50 rounds=20    another method, more clients
  fedkd run -m method=local,fedavg seed=1,2,3      six runs, and a page that compares them
  fedkd partition partition.alpha=0.1              who would hold what, without training
  fedkd list methods                               the methods there are

`fedkd COMMAND --help` tells more about each. A mistake ends with exit code 2 and one sentence.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose help and errors read like all else that this program says."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, add_help=False)
        self._positionals.title = "arguments"
        self.add_argument("-h", "--help", action="help", help="show this and end")

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].partition(" ")[0]
        hint = nearest(unknown, self._option_string_actions) if unknown else ""
        raise ConfigError(f"{message}{hint} (`{self.prog} --help` shows how it is used)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 failed, 2 a mistake of the user, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except ConfigError as error:
        print(f"fedkd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\nfedkd: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130


def program() -> NoReturn:
    """`fedkd` as a program: `main`, in a process that is nobody else's and ends with it."""
    from simulations.engine import pools

    pools.in_advance = True
    try:
        sys.exit(main())
    finally:  # Ray may still be starting for what was refused
        sys.stderr.flush()
        pools.settle()


def _dispatch(arguments: list[str]) -> int:
    commands = available()
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        lines = [f"  {command:<10} {module.SUMMARY}" for command, module in commands.items()]
        print(INTRODUCTION.format(commands="\n".join(lines)), end="")
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"fedkd {version('fedkd')}")
        return 0
    if name not in commands:
        hint = nearest(name, commands)
        raise ConfigError(f"unknown command '{name}'{hint} (the commands are {', '.join(commands)})")
    module = commands[name]
    parser = Parser(
        prog=f"fedkd {name}",
        description=module.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    code: int = module.execute(parser.parse_intermixed_args(arguments[1:]))
    return code


def available() -> dict[str, ModuleType]:
    """The commands that exist, in the order they are shown."""
    found: dict[str, ModuleType] = {}
    for name in COMMANDS:
        path = f"simulations.commands.{name}"
        if find_spec(path) is None:
            continue
        module = importlib.import_module(path)
        if find_spec(getattr(module, "NEEDS", path)) is not None:
            found[name] = module
    return found


if __name__ == "__main__":
    program()
