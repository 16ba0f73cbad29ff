"""The models and data of a finished run, as whoever audits it holds them: rebuilt from its checkpoint.

Each client's model is the one it would use after the last round, made by the client program itself on the
messages that its evaluation would get; nothing is written, and no state of the run changes.
"""

import os
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict

from clients.app import opened as opened_task
from fedkd.data.samples import ClientData
from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.protocol import PARTITION_ID, SERVER_ROUND, STAGE
from fedkd.training.program import Params
from simulations.config import resolve
from simulations.hooks import configuring
from simulations.observe import ObservedGrid
from simulations.run import Prepared, opened
from simulations.rundir import load_config, standing
from simulations.saved import Saved, newest
from simulations.strategy_state import load_strategy_state


@dataclass
class Exposed:
    """All models of a run after its last round.

    round: the last one
    personal: the clients' own models by number; empty where the method makes none
    received: what clients receive, where that is a complete model
    """

    prepared: Prepared
    round: int
    personal: dict[int, Params]
    received: Params | None

    @property
    def clients(self) -> list[int]:
        """The clients that train."""
        return [int(client) for client in self.prepared.federation.train_clients]

    def data(self, client: int) -> ClientData:
        """A client's data."""
        return self.prepared.runtime.client(client)

    def network(self, client: int) -> StagedModel:
        """The architecture of a client's model."""
        return self.prepared.runtime.trainer(client)[0].network

    def predict(self, client: int, params: Params, *arguments: Any) -> Any:
        """Logits of a model of this client's architecture, or its features at a cut."""
        return self.prepared.runtime.trainer(client)[0].predict(params, *arguments)


def exposed(out: Path) -> Exposed:
    """Read a finished run; ConfigError where there is no model to be read."""
    config = load_config(out)
    if config["choices"]["method"] == "distill":
        raise ConfigError(f"{out}: a run of `fedkd distill` has no clients; one of `fedkd run` is needed")
    if config["method"]["client_app"]:
        raise ConfigError(f"{out}: what the clients of method.client_app keep is unknown to this program")
    if standing(out) != "finished":
        raise ConfigError(f"{out}: this run is not finished; `fedkd resume {out}` goes on")
    saved = newest(out)
    if saved is None:
        raise ConfigError(f"{out}: there is no checkpoint to read the models from")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own modules, as when the run was made
    with opened(_here(config)) as (prepared, grid):
        load_strategy_state(prepared.strategy, saved.strategy)
        observed = ObservedGrid(grid, grid.get_node_ids(), prepared.federation.train_clients.tolist())
        return _exposed(prepared, observed, saved)


def _here(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with everybody evaluated, in this process."""
    config = deepcopy(config)
    config["choices"]["engine"] = "inline"
    threads = config["engine"]["threads_per_worker"]
    config["engine"] = {**resolve(["engine=inline"])["engine"], "threads_per_worker": threads}
    return config | {"evaluate_clients": None}


def _exposed(prepared: Prepared, grid: ObservedGrid, saved: Saved) -> Exposed:
    strategy, config = prepared.strategy, ConfigRecord({SERVER_ROUND: saved.round, STAGE: "before"})
    with configuring(strategy, grid, prepared.config["seed"], MessageType.EVALUATE, saved.round):
        messages = list(strategy.configure_evaluate(saved.round, saved.arrays, config, grid))
    trained = set(prepared.federation.train_clients.tolist())
    personal: dict[int, Params] = {}
    received: Params | None = None
    for message in messages:
        client = message.metadata.dst_node_id - 1
        if client in trained:
            state = saved.clients.get(client, RecordDict())
            own, whole = _models(message, Context(1, client + 1, {PARTITION_ID: client}, state, {}))
            received = whole if received is None else received
            if own is not None:
                personal[client] = own
    return Exposed(prepared, saved.round, dict(sorted(personal.items())), received)


def _models(message: Message, context: Context) -> tuple[Params | None, Params | None]:
    """The client's own model, and the received one where it is complete; None where there is none."""
    run, trainer, task, state = opened_task(message, context)
    own = trainer.drive(run.program.personalize(task, state), task)
    complete = run.program.global_model and task.received.keys() == task.initial.keys()
    return own, task.received if complete else None
