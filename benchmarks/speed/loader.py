"""A DataLoader loop as method suites write it: client after client, with PyTorch's default threads."""

import copy
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.speed.gate import Gate
from benchmarks.speed.workloads import BATCH, CLIENTS, LR, SAMPLED, network, samples, share


def play(gate: Gate, name: str) -> None:
    """Rounds of FedAvg with a model and a loader for each client."""
    x, y = samples()
    server = network(name)
    data = [TensorDataset(*share(client, x, y)) for client in range(CLIENTS)]
    loss = nn.CrossEntropyLoss()
    while gate():
        states = []
        for client in random.sample(range(CLIENTS), SAMPLED):
            model = copy.deepcopy(server)
            optimizer = torch.optim.SGD(model.parameters(), lr=LR)
            for images, labels in DataLoader(data[client], BATCH, shuffle=True):
                optimizer.zero_grad()
                loss(model(images), labels).backward()
                optimizer.step()
            states.append(model.state_dict())
        server.load_state_dict({k: torch.stack([s[k] for s in states]).mean(0) for k in states[0]})
