"""`flwr_datasets` without its pictures until somebody wants them: their libraries are a second of imports."""

import importlib
import sys
from types import ModuleType
from typing import Any

PICTURES = "flwr_datasets.visualization"


class Pictures(ModuleType):
    """Stands where the module does, and gives way to it once anybody asks for something."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(PICTURES) is self:
            del sys.modules[PICTURES]
        return getattr(importlib.import_module(PICTURES), name)


def lighten() -> None:
    """From now on importing the package leaves its pictures out; too late where it has been imported."""
    if "flwr_datasets" not in sys.modules:
        sys.modules[PICTURES] = Pictures(PICTURES)
