"""One run: from the resolved configuration to a finished run folder.

`prepare` builds everything that can be wrong before anything is written or started; `run` plays it on this
project's engine, `run_on` on any Flower grid.
"""

import importlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from clients.arrays import record_from_tensors
from clients.runtime import Runtime, device_for
from fedkd.build import accepted, build, locate
from fedkd.data import build_federation
from fedkd.data.federation import Federation
from fedkd.errors import ConfigError
from fedkd.generators.recipe import recipe
from fedkd.robust.weighting import Samples
from fedkd.training.cohort import COHORT, stacks
from simulations.engine.base import SimulationGrid
from simulations.engine.opening import open_grid
from simulations.engine.pools import warm_up
from simulations.engine.runner import Program
from simulations.engine.server_task import executor
from simulations.own_start import overrides_start
from simulations.reference import reference_errors
from simulations.rundir import claim
from simulations.session import play_into
from simulations.tracking import check_tracking
from simulations.transforms import check_attack, class_weighted
from strategies.server import Server, ServerSide
from strategies.weighted import Weighted

TOGETHER = "train_together"
"""The function beside a ClientApp that trains several clients as one stacked network."""


@dataclass
class Prepared:
    """A run that is known to fit together: data, model, client program and strategy agree."""

    config: dict[str, Any]
    federation: Federation
    runtime: Runtime
    strategy: Strategy
    arrays: ArrayRecord

    def cost(self, client: int) -> float:
        """How much work a client is, relative to others: its training samples."""
        return float(self._sizes[client])

    @cached_property
    def _sizes(self) -> np.ndarray:
        return self.federation.sizes("train")


def prepare(config: dict[str, Any], federation: Federation | None = None) -> Prepared:
    """Build all parts of a run in this process; raises ConfigError in one sentence where they do not fit.

    federation: where it was built before
    """
    check_tracking(config)
    if federation is None:
        federation = build_federation(config)
    runtime = Runtime(config, federation)
    given = strategy_arguments(config, federation) | {"generator": recipe(config["generator"])}
    strategy = build(config["method"]["strategy"], **given)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"method.strategy._target_={config['method']['strategy']['_target_']}: no Flower Strategy"
        )
    check_attack(strategy, config)
    strategy = class_weighted(weighted(strategy, config, federation), config, runtime.program)
    if config["model"]["per_client"]:
        check_mixed(strategy, runtime, config)
    if isinstance(strategy, ServerSide):
        strategy.attach(server(config, runtime))
    return Prepared(config, federation, runtime, strategy, shared_arrays(runtime))


def check_mixed(strategy: Strategy, runtime: Runtime, config: Mapping[str, Any]) -> None:
    """Refuse architectures that differ from client to client where the method cannot serve them."""
    if not runtime.program.mixed_models:
        raise ConfigError(
            f"model.per_client does not go with method={config['choices']['method']}, whose clients exchange "
            "weights and need the same model; fd, fedproto, fml and others that exchange knowledge take it, "
            "and feddf and dense do with method.client.own_model=true"
        )
    networks = [runtime.trainer(k)[0].network for k in range(len(config["model"]["per_client"]))]
    for network in networks:
        runtime.program.check(network)
    if isinstance(strategy, ServerSide):
        strategy.check_networks(networks)


def weighted(strategy: Strategy, config: Mapping[str, Any], federation: Federation) -> Strategy:
    """The strategy under `weighting=...`; itself, untouched, where that leaves the method's own weights."""
    weighting = build(config["weighting"]) if config["weighting"] else Samples()
    if weighting.neutral:
        return strategy
    if overrides_start(strategy):
        raise ConfigError(
            f"weighting={config['choices']['weighting']} does not go with {type(strategy).__name__}, which "
            "brings its own start(); weighting=samples is needed"
        )
    clients, excess = federation.train_clients, weighting.risk == "excess"
    return Weighted(
        strategy,
        weighting,
        sizes=federation.sizes("train")[clients],
        clients=clients,
        references=reference_errors(weighting.reference, config) if excess else None,
        name=f"method={config['choices']['method']}",
    )


def shared_arrays(runtime: Runtime) -> ArrayRecord:
    """The initial weights, as far as the clients share them; the rest they have from the seed."""
    trainer, initial = runtime.trainer(0)
    runtime.program.check(trainer.network)
    private = runtime.program.private(trainer.network)
    return record_from_tensors({name: value for name, value in initial.items() if name not in private})


def server(config: Mapping[str, Any], runtime: Runtime) -> Server:
    """What a strategy that does more than averaging may use."""
    trainer, initial = runtime.trainer(0)
    return Server(
        trainer=trainer,
        initial=initial,
        federation_size=runtime.federation.num_clients,
        num_classes=runtime.federation.num_classes,
        seed=runtime.seed,
        training_size=len(runtime.federation.train_clients),
        public=runtime.public,
        execute=executor(config["engine"]),
    )


def strategy_arguments(config: Mapping[str, Any], federation: Federation) -> dict[str, Any]:
    """How many clients train and are evaluated a round, under the names of Flower's constructors.

    Every minimum is set: with fewer nodes than its minimum, a stock strategy waits for ever. A fraction that
    the user set on the strategy itself is left alone.
    """
    names, anything = accepted(locate(config["method"]["strategy"]["_target_"]))
    node = config["method"]["strategy"]
    sampled = participants(config["participation"], len(federation.train_clients))
    everybody = federation.num_clients
    evaluated = min(config["evaluate_clients"] or everybody, everybody)
    wanted: dict[str, float] = {"min_available_nodes": 1}
    if node.get("fraction_train", 1.0) == 1.0:
        share = sampled / len(federation.train_clients)
        wanted |= {"fraction_train": share, "min_train_nodes": sampled}
    if node.get("fraction_evaluate", 1.0) == 1.0:
        wanted |= {"fraction_evaluate": evaluated / everybody, "min_evaluate_nodes": evaluated}
    return {key: value for key, value in wanted.items() if key in names or anything}


def participants(participation: float, clients: int) -> int:
    """How many clients train a round: a fraction in (0, 1], rounded up, or a count from 2."""
    if participation <= 1:
        return max(1, math.ceil(participation * clients - 1e-9))
    if participation > clients:
        raise ConfigError(f"participation={participation} is more than the {clients} clients that train")
    return int(participation)


def run(config: dict[str, Any], out: Path) -> None:
    """Play a run on this project's engine and write its folder `out`."""
    with opened({**config, "out": str(out)}) as (prepared, grid):
        run_on(prepared, grid, grid.get_node_ids())


@contextmanager
def opened(config: dict[str, Any]) -> Iterator[tuple[Prepared, SimulationGrid]]:
    """A prepared run and this project's engine for it, for a while."""
    logging.getLogger("flwr").setLevel(logging.WARNING)  # our progress display says it better
    warm_up(config)
    prepared = prepare(config)
    settle_cohorts(prepared)
    grid = open_grid(config, client_program(prepared), cost=prepared.cost)
    try:
        yield prepared, grid
    finally:
        grid.close()


def settle_cohorts(prepared: Prepared) -> None:
    """Write into the configuration what the rule says about cohorts: numbers depend on it."""
    engine = prepared.config["engine"]
    if engine.get("vectorise") is None:
        engine["vectorise"] = stacks(device_for(engine))
    if engine["vectorise"] and engine.get("cohort_size") is None:
        engine["cohort_size"] = COHORT[device_for(engine)]


def client_program(prepared: Prepared) -> Program:
    """What the workers run: our ClientApp, or the user's own, with the data in shared memory."""
    config, federation = prepared.config, prepared.federation
    app, engine = config["method"]["client_app"] or "clients.app:app", config["engine"]
    module = app.replace(":", ".").rpartition(".")[0]
    can_stack = engine.get("vectorise") and hasattr(importlib.import_module(module), TOGETHER)
    return Program(
        app=app,
        num_clients=federation.num_clients,
        setup="clients.runtime:setup",
        config={"config": config, "federation": federation.meta()},
        arrays=federation.arrays(),
        together=f"{module}:{TOGETHER}" if can_stack else None,
        cohort=engine.get("cohort_size"),
    )


def run_on(prepared: Prepared, grid: Grid, nodes: Sequence[int], attach_setup: bool = False) -> None:
    """Play a prepared run on a Flower grid and write its folder.

    nodes: node id of each partition, in partition order
    attach_setup: send the configuration with each message, for clients that start without one
    """
    with claim(prepared.config) as out:
        play_into(out, prepared, grid, nodes, attach_setup)
