"""FedGen (Zhu et al., ICML 2021, arXiv 2105.10056) in one file: data-free distillation by a latent generator.

The server averages models as FedAvg does, and learns a generator G(noise, label) of features from the heads
that it received: every client's head, in proportion to its samples of the label, should recognise them.
Clients train beside generated features, so that each sees classes it does not hold:

    server    min_G  sum_k a_k^y CE(h_k(G(eps, y)), y) + diversity
    client    CE(f(x), y) + CE(h(G(eps, y~)), y~)

    python docs/examples/fedgen.py --rounds 10
"""

import argparse
import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedkd.data import build_federation
from simulations.config import resolve

CLASSES, NOISE, WIDTH = 10, 16, 64


class Net(nn.Module):
    """784 - 64 - 10: a body, and the head that the generator speaks to."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.head(self.body(x))


class Generator(nn.Module):
    """Features from noise and label."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(NOISE + CLASSES, 64), nn.ReLU(), nn.Linear(64, WIDTH), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise, y):
        return self.layers(torch.cat([noise, F.one_hot(y, CLASSES).float()], dim=1))


def teach(generator, heads, counts, chance, steps=30, lr=3e-3):
    """Fit the generator to the clients' heads, each counting by its share of a label's samples."""
    optimizer = torch.optim.Adam(generator.parameters(), lr=lr)
    share = counts / counts.sum(0).clamp_min(1)
    for _ in range(steps):
        y = torch.multinomial(counts.sum(0), 64, replacement=True, generator=chance)
        noise = torch.randn(64, NOISE, generator=chance)
        z = generator(noise, y)
        fit = sum(
            (w[y] * F.cross_entropy(h(z), y, reduction="none")).mean()
            for h, w in zip(heads, share, strict=True)
        )
        apart = (torch.cdist(z, z) * torch.cdist(noise, noise)).mean() / WIDTH
        optimizer.zero_grad()
        (fit + torch.exp(-apart)).backward()
        optimizer.step()


def train(model, samples, generator, held, order, weight, lr=0.05):
    """One pass of SGD; with a generator, also on features of the labels that anybody holds."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for rows in torch.randperm(len(samples), generator=order).split(32):
        loss = F.cross_entropy(model(samples.x[rows]), samples.y[rows])
        if generator is not None and weight:
            y = torch.multinomial(held, 32, replacement=True, generator=order)
            with torch.no_grad():
                z = generator(torch.randn(32, NOISE, generator=order), y)
            loss = loss + weight * F.cross_entropy(model.head(z), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def federate(clients, rounds, weight, seed=0):
    """Play the rounds; the test accuracies, worst first. weight: of the generated features; 0 is FedAvg."""
    torch.manual_seed(seed)
    order, chance = (torch.Generator().manual_seed(seed + k) for k in (0, 1))
    model, generator, made = Net(), Generator(), None
    counts = torch.stack([client.class_counts("train") for client in clients]).float()
    sizes = counts.sum(1) / counts.sum()
    held = (counts.sum(0) > 0).float()
    for _ in range(rounds):
        local = [copy.deepcopy(model) for _ in clients]
        for own, client in zip(local, clients, strict=True):
            train(own, client.train, made, held, order, weight)
        states = [own.state_dict() for own in local]
        mean = {name: sum(w * s[name] for w, s in zip(sizes, states, strict=True)) for name in states[0]}
        model.load_state_dict(mean)
        if weight:
            teach(generator, [own.head.requires_grad_(False) for own in local], counts, chance)
            made = generator
    with torch.no_grad():
        right = [(model(client.test.x).argmax(1) == client.test.y).float().mean() for client in clients]
    return np.sort([float(share) for share in right])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--samples", type=int, default=4000)
    options = parser.parse_args()
    words = [f"clients={options.clients}", f"data.max_samples={options.samples}", "partition.alpha=0.1"]
    federation = build_federation(resolve(words))
    clients = [federation.client(k) for k in range(federation.num_clients)]
    for name, weight in (("FedAvg", 0.0), ("FedGen", 0.3)):
        tests = federate(clients, options.rounds, weight)
        tail = max(1, len(clients) // 10)
        print(f"{name:<7} mean {tests.mean():.3f}  worst tenth {tests[:tail].mean():.3f}")


if __name__ == "__main__":
    main()
