"""Flower's own simulation with its FedAvg; and the cost of its messages."""

import os
import time

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.speed.gate import Gate
from benchmarks.speed.stock_app import app as client_app
from benchmarks.speed.workloads import CLIENTS, SAMPLED, network


def play(gate: Gate, name: str) -> None:
    """Rounds of FedAvg, as `Strategy.start` runs them."""
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_train=SAMPLED / CLIENTS, fraction_evaluate=0.0)
        arrays, number = ArrayRecord(network(name).state_dict()), 0
        while gate():
            number += 1
            config = ConfigRecord({"workload": name})
            messages = strategy.configure_train(number, arrays, config, grid)
            replies = grid.send_and_receive(messages, timeout=3600)
            new, _ = strategy.aggregate_train(number, replies)
            assert new is not None
            arrays = new

    simulate(server_app, CLIENTS)


def messages(gate: Gate, parameters: str, clients: str) -> None:
    """Exchanges with distinct replies."""
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        arrays = ArrayRecord([np.zeros(int(parameters), np.float32)])
        while len(nodes := list(grid.get_node_ids())) < int(clients):
            time.sleep(0.1)
        while gate():
            content = RecordDict({"arrays": arrays})
            asked = [Message(content, dst_node_id=node, message_type="query") for node in nodes]
            assert len(list(grid.send_and_receive(asked))) == len(nodes)

    simulate(server_app, int(clients))


def simulate(server_app: ServerApp, clients: int) -> None:
    """One client a core."""
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server_app, client_app, num_supernodes=clients, backend_config=resources)  # type: ignore[arg-type]
