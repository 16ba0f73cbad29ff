"""What shows only where data, model and method come together, told before the first of several runs."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedkd.data import build_federation
from fedkd.data.federation import Federation
from fedkd.errors import ConfigError
from simulations.run import prepare

FEDERATION = ("data", "partition", "clients", "unseen_clients", "split", "skew", "label_noise")
"""What decides who holds what, beside the seed."""

FREE = ("seed", "out", "overwrite")
"""What repeats of one run differ in."""


def check_fit(configs: Iterable[Mapping[str, Any]]) -> None:
    """Build all parts of the first of all repeats of each run; raises ConfigError with that run's name.

    configs: resolved, of runs that are still to be played
    """
    kinds: dict[str, Mapping[str, Any]] = {}
    for config in configs:
        kinds.setdefault(_text({key: value for key, value in config.items() if key not in FREE}), config)
    held: tuple[str, Federation] | None = None  # one at a time, for the runs that follow each other
    for config in kinds.values():
        dealt = _text({key: config.get(key) for key in (*FEDERATION, "seed")})
        try:
            if held is None or held[0] != dealt:
                held = None
                held = dealt, build_federation(config)
            prepare(dict(config), held[1])
        except ConfigError as error:
            raise ConfigError(f"{Path(config['out']).name}: {error}") from None


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=str)
