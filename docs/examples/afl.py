"""Agnostic federated learning (Mohri et al., ICML 2019, arXiv 1902.00146) in one file.

    min_w max_q sum_k q_k L_k(w),   q in the simplex over clients

The server averages the clients' models with weights q, and q climbs the clients' errors:
q <- P(q + eta * error), with P the projection onto the simplex. The weights then stand at the clients for
whom the model is worst.

    python docs/examples/afl.py --rounds 20
"""

import argparse
import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedkd.data import build_federation
from simulations.config import resolve


def network():
    """784 - 64 - 10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def train(model, samples, epochs, order, lr=0.05):
    """Plain SGD over shuffled batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.randperm(len(samples), generator=order).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(samples.x[rows]), samples.y[rows]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model, samples):
    """The fraction of samples that the model gets right."""
    return float((model(samples.x).argmax(1) == samples.y).float().mean())


def project(v):
    """The nearest point of the simplex: subtract what makes the positive part sum to one."""
    ordered = np.sort(v)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, v.size + 1)
    last = np.flatnonzero(ordered > excess)[-1]
    return np.maximum(v - excess[last], 0.0)


def average(models, weights):
    """The weighted mean of the models' parameters."""
    states = [model.state_dict() for model in models]
    return {
        name: sum(float(w) * state[name] for w, state in zip(weights, states, strict=True))
        for name in states[0]
    }


def federate(clients, rounds, step, epochs=1, seed=0):
    """Play the rounds; step 0 keeps the weights equal."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    model = network()
    q = np.full(len(clients), 1 / len(clients))
    for _ in range(rounds):
        local = [copy.deepcopy(model) for _ in clients]
        for own, client in zip(local, clients, strict=True):
            train(own, client.train, epochs, order)
        model.load_state_dict(average(local, q))
        errors = np.array([1 - accuracy(model, client.val) for client in clients])
        q = project(q + step * errors)
    return np.sort([accuracy(model, client.test) for client in clients]), q


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--samples", type=int, default=4000)
    options = parser.parse_args()
    words = [f"clients={options.clients}", f"data.max_samples={options.samples}", "partition.alpha=0.2"]
    federation = build_federation(resolve(words))
    clients = [federation.client(k) for k in range(federation.num_clients)]
    for name, step in (("equal weights", 0.0), ("AFL", 0.2)):
        tests, q = federate(clients, options.rounds, step)
        tail = max(1, len(clients) // 10)
        figures = f"mean {tests.mean():.3f}  worst tenth {tests[:tail].mean():.3f}"
        print(f"{name:<14} {figures}  largest weight {q.max():.2f}")


if __name__ == "__main__":
    main()
