"""Values of the keys that belong to no target: what each accepts, told before anything is imported."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from typing import Any

from fedkd.errors import ConfigError


def nearest(name: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?` where an option is close to `name`, else nothing."""
    close = get_close_matches(str(name), list(options), 1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def shown(value: Any) -> str:
    """A value as a user writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def whole(value: Any, least: int) -> bool:
    """A whole number, at least `least`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def number(value: Any) -> bool:
    """A number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Rule:
    """accepts: whether a value is good; needed: the sentence that says which are."""

    accepts: Callable[[Any], bool]
    needed: str


def _whole_or_null(least: int, meaning: str) -> Rule:
    return Rule(lambda v: v is None or whole(v, least), f"a whole number from {least}, or null for {meaning}")


def _whole(least: int) -> Rule:
    return Rule(lambda v: whole(v, least), f"a whole number from {least}")


def _text_or_null(meaning: str) -> Rule:
    return Rule(lambda v: v is None or (isinstance(v, str) and v != ""), f"{meaning}, or null")


_FLAG = Rule(lambda v: isinstance(v, bool), "true or false")
SPLITS = ("train", "val", "test")

RULES: dict[str, Rule] = {
    "clients": _whole_or_null(1, "all that the data set has"),
    "participation": Rule(
        lambda v: number(v) and (0 < v <= 1 or whole(v, 2)),
        "a fraction in (0, 1], or a whole number of clients from 2,",
    ),
    "unseen_clients": Rule(lambda v: number(v) and 0 <= v < 1, "a fraction in [0, 1)"),
    "max_failures": Rule(lambda v: number(v) and 0 <= v <= 1, "a fraction in [0, 1]"),
    "rounds": _whole(1),
    "seed": _whole(0),
    "precision": Rule(lambda v: v in ("float32", "bf16"), "float32 or bf16"),
    "evaluate_every": _whole(1),
    "evaluate_clients": _whole_or_null(1, "all"),
    "checkpoint_every": _whole(1),
    "figures_every": _whole(0),
    "evaluation.splits": Rule(
        lambda v: isinstance(v, list) and v != [] and all(part in SPLITS for part in v),
        "a list of train, val, test",
    ),
    "evaluation.after": _FLAG,
    "evaluation.mix_samples": _whole(0),
    "engine.workers": _whole_or_null(1, "one a core"),
    "engine.threads_per_worker": _whole(1),
    "engine.gpus_per_worker": Rule(lambda v: number(v) and 0 <= v < inf, "a number from 0"),
    "engine.server": Rule(lambda v: v in ("driver", "task"), "driver or task"),
    "engine.server_cpus": Rule(lambda v: number(v) and 0 <= v < inf, "a number from 0"),
    "engine.address": Rule(
        lambda v: isinstance(v, str) and v != "", "local, auto or the address of a cluster"
    ),
    "engine.deadline": Rule(
        lambda v: v is None or (number(v) and v > 0), "a number of seconds above 0, or null,"
    ),
    "engine.raise_errors": _FLAG,
    "engine.vectorise": Rule(
        lambda v: v is None or isinstance(v, bool), "true, false, or null for where it pays,"
    ),
    "engine.cohort_size": _whole_or_null(1, "a size by how many clients are asked"),
    "teacher.rounds": _whole(1),
    "teacher.undo_gains": _FLAG,
    "teacher.calibrate": _FLAG,
    "student.rounds": _whole(1),
    "student.validation": Rule(lambda v: v in ("onehot", "teacher"), "onehot or teacher"),
    "student.labelled": Rule(lambda v: number(v) and 0 < v <= 1, "a fraction in (0, 1]"),
    "student.keep": Rule(lambda v: number(v) and 0 < v <= 1, "a fraction in (0, 1]"),
    "validation": Rule(lambda v: v in ("split", "test_half"), "split or test_half"),
    "threads": _whole(1),
    "overwrite": _FLAG,
    "track": Rule(lambda v: v in (None, "tensorboard"), "tensorboard or null"),
    "callbacks": Rule(
        lambda v: isinstance(v, list) and all(isinstance(path, str) for path in v),
        "a list of import paths such as [my_file.MyWatcher]",
    ),
    "out": _text_or_null("the path of a folder"),
    "tuned": _text_or_null("a folder that `fedkd tune` wrote"),
}


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse the first value (by dotted key) that its key does not accept."""
    for key, value in values.items():
        if key in RULES and not RULES[key].accepts(value):
            raise ConfigError(f"{key}={shown(value)}: {RULES[key].needed} is needed")


def check_together(config: Mapping[str, Any]) -> None:
    """Refuse values that exclude each other."""
    clients, share = config["clients"], config["participation"]
    if clients is not None and share > 1 and share > clients:
        raise ConfigError(
            f"participation={share}: there are only clients={clients}; a count up to that is needed"
        )
