"""Playing a prepared run into its folder, from the start or from a checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from clients.arrays import tensors_from_record
from fedkd.build import build
from fedkd.training.evaluate import Row, evaluate
from simulations.availability import Fleet
from simulations.checkpoint import Checkpoints
from simulations.engine.base import SimulationGrid
from simulations.interrupt import patient_interrupt
from simulations.loop import Plan, Watcher, play
from simulations.measure import Measures
from simulations.multipliers import MultiplierLog
from simulations.observe import ObservedGrid
from simulations.own_start import overrides_start, play_own
from simulations.pictures import Pictures
from simulations.progress import ProgressWatcher
from simulations.recorder import Recorder
from simulations.shown import Population
from simulations.tracking import trackers

if TYPE_CHECKING:
    from simulations.run import Prepared


PATIENCE = 3600.0
"""Seconds to wait for the replies of one exchange under Flower's own engines."""


def play_into(
    out: Path,
    prepared: "Prepared",
    grid: Grid,
    nodes: Sequence[int],
    attach_setup: bool = False,
    first: int = 1,
) -> None:
    """Play the rounds from `first` on and write the figures into the run folder `out`, which is held.

    nodes: node id of each partition, in partition order
    attach_setup: send the configuration with each message, for clients that start without one
    """
    config, federation, strategy = prepared.config, prepared.federation, prepared.strategy
    fleet = Fleet(build(config["availability"]), federation.num_clients) if config["availability"] else None
    sent = config if attach_setup else None
    observed = ObservedGrid(grid, nodes, federation.train_clients.tolist(), sent, fleet)
    own, plan = overrides_start(strategy), plan_of(prepared, first)
    if not isinstance(grid, SimulationGrid):  # ours notice by themselves what will never come
        plan = replace(plan, timeout=PATIENCE)
    watchers: list[Watcher] = [
        Recorder(out),
        MultiplierLog(out),
        Population(out, federation, config),
        Pictures(out, prepared, grid if isinstance(grid, SimulationGrid) else None),
        ProgressWatcher(out.name),
        *trackers(config, out),
    ]
    if isinstance(grid, SimulationGrid) and not own:
        watchers.append(Checkpoints(out, strategy, grid, config["checkpoint_every"]))
    with patient_interrupt() as stopping:
        (play_own if own else play)(
            strategy,
            observed,
            prepared.arrays,
            plan,
            watchers,
            global_test=global_test(prepared),
            measure=Measures(federation, config),
            stopping=stopping,
        )
    from simulations.report import write_report  # not before the first round: a second of imports

    write_report(out)
    if stopping():  # in the last round: the run is whole, but nothing comes after it
        raise KeyboardInterrupt


def plan_of(prepared: "Prepared", first: int) -> Plan:
    """When things happen, from the configuration."""
    config = prepared.config
    return Plan(
        config["seed"],
        config["rounds"],
        first,
        evaluate_every=config["evaluate_every"],
        max_failures=config["max_failures"],
        evaluate_after=config["evaluation"]["after"],
    )


def global_test(prepared: "Prepared") -> Callable[[ArrayRecord], Row | None]:
    """Evaluates the global arrays on the official test set, where they are a complete model."""
    trainer, initial = prepared.runtime.trainer(0)
    test = prepared.federation.global_test
    if test is None or not prepared.runtime.program.global_model:
        return lambda arrays: None

    def measure(arrays: ArrayRecord) -> Row | None:
        params = tensors_from_record(arrays)
        if params.keys() != initial.keys():
            return None
        classes = prepared.federation.num_classes
        return evaluate(
            lambda x: trainer.predict(params, x),
            test,
            classes,
            split="global_test",
            model="global",
            stage="before",
        )

    return measure
