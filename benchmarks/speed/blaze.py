"""BlazeFL with its own FedAvg on one thread a core; runs in `.bench-venv` (Python 3.12)."""

import os

import torch
from blazefl.contrib.fedavg import FedAvgBaseServerHandler, FedAvgThreadPoolClientTrainer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.speed.gate import Gate
from benchmarks.speed.workloads import BATCH, CLIENTS, LR, SAMPLED, network, samples, share


class Data:
    """The clients' samples under BlazeFL's interface."""

    def __init__(self) -> None:
        x, y = samples()
        self.clients = [TensorDataset(*share(client, x, y)) for client in range(CLIENTS)]

    def get_dataloader(self, type_, cid, batch_size, generator=None):
        return DataLoader(self.clients[cid], batch_size, shuffle=True, generator=generator)


class Models:
    """The workload's network by its name."""

    def select_model(self, model_name):
        return network(model_name)


def play(gate: Gate, name: str) -> None:
    """Its rounds."""
    torch.set_num_threads(1)
    data, models, share_of = Data(), Models(), SAMPLED / CLIENTS
    server = FedAvgBaseServerHandler(models, name, data, 10**9, CLIENTS, share_of, "cpu", BATCH, 0)
    threads = len(os.sched_getaffinity(0))
    clients = FedAvgThreadPoolClientTrainer(models, name, data, "cpu", CLIENTS, 1, BATCH, LR, 0, threads)
    while gate():
        chosen = server.sample_clients()
        clients.local_process(server.downlink_package(), chosen)
        for package in clients.uplink_package():
            server.load(package)
