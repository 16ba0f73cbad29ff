"""What `fedkd tune` chose, on its way into the configuration of a run: `tuned=FOLDER`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fedkd.errors import ConfigError
from simulations.overrides import Override, parse


def chosen(values: Sequence[Override], method: str | None, folder: Any) -> list[Override]:
    """What was chosen for this method, as overrides that the user's own (`values`) come after."""
    folder = next((value.value for value in reversed(values) if value.key == "tuned"), folder)
    file = Path(str(folder)) / f"{method}.yaml"
    if not file.is_file():
        raise ConfigError(
            f"tuned={folder}: no {file.name} there; a folder where `fedkd tune` tuned {method} is needed"
        )
    found = yaml.safe_load(file.read_text())["chosen"]
    return parse([f"{key}={json.dumps(value)}" for key, value in found.items()])


def blamed(error: ConfigError, tuned: Sequence[Override]) -> ConfigError:
    """The error; where its key is one that the tuning set and not the user, it says so."""
    key = next((value.key for value in tuned if f"'{value.key}'" in str(error)), None)
    if key is None:
        return error
    return ConfigError(f"{error}; tuned=... sets it, of something that is not chosen here")
