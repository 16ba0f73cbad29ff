"""Options that change any method in one place, and whom they do not go with."""

from collections.abc import Mapping
from typing import Any

from flwr.serverapp.strategy import Strategy

from fedkd.build import build
from fedkd.errors import ConfigError
from fedkd.training.program import ClientProgram
from simulations.own_start import overrides_start
from strategies.around import innermost
from strategies.class_weighted import ClassWeighted


def class_weighted(strategy: Strategy, config: Mapping[str, Any], program: ClientProgram) -> Strategy:
    """The strategy under `class_weighting=...`; itself, untouched, without."""
    if not config["class_weighting"]:
        return strategy
    name = f"method={config['choices']['method']}"
    if config["method"]["client_app"] or not program.class_margins or overrides_start(innermost(strategy)):
        raise ConfigError(
            f"class_weighting does not go with {name}, whose losses are not known to have margins; "
            "class_weighting=null, or a method such as fedavg, fedavg_ft, fedprox, ditto or fedd2s is needed"
        )
    return ClassWeighted(strategy, build(config["class_weighting"]), name)


def check_attack(strategy: Strategy, config: Mapping[str, Any]) -> None:
    """Refuse `attack=...` where clients send no model updates that could be changed."""
    if config["attack"] and (
        config["method"]["client_app"] or not getattr(innermost(strategy), "averages_models", True)
    ):
        raise ConfigError(
            f"attack={config['choices']['attack']} changes model updates, which clients under "
            f"method={config['choices']['method']} do not send; attack=null is needed"
        )
