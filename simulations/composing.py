"""The configuration's files, merged by Hydra."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from fedkd.errors import ConfigError


@lru_cache(maxsize=256)
def composed(conf: Path, file: str, words: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Hydra's part; kept, because the runs of a sweep mostly differ in plain values."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            merged = compose(file, list(words), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(
            f"the configuration cannot be put together: {' '.join(str(error).split())}"
        ) from error
    choices = {key.rpartition("@")[2]: name for key, name in merged.hydra.runtime.choices.items()}
    raw: Any = OmegaConf.to_container(merged, resolve=False)
    del raw["hydra"]
    return raw, choices
