"""The flagship's idea in one file: FedD2S without activations, a latent generator, worst-client weights.

Clients keep whole models and send only their heads (the blocks above the cut) and label counts. The server
learns a generator of features from the heads, teaches a global head G on what it generates, and sends G back.
Clients ask G about their own features. A client's part is weighted by w_k, which climbs its validation error:

    generator   min  sum_k w_k a_k^y CE(P_k(Gen(eps, y)), y)
    G           CE(G(z), y) + tau^2 KL(p || G),   p = sum_k w_k a_k^y softmax(P_k(z) / tau) / sum
    w_k         proportional to exp(eta * sum of client k's errors so far)

    python docs/examples/flagship.py --rounds 12
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedkd.data import build_federation
from simulations.config import resolve

CLASSES, NOISE, WIDTH, TAU, SHARE = 10, 16, 64, 3.0, 0.5


class Net(nn.Module):
    """784 - 64 | 64 - 10, cut in the middle."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))

    def forward(self, x):
        return self.head(self.body(x))


def loss(logits, y, soft):
    """Cross entropy, and where there is a soft label the distance to it."""
    hard = F.cross_entropy(logits, y)
    if soft is None:
        return hard
    told = F.kl_div((logits / TAU).log_softmax(1), soft, reduction="batchmean")
    return (1 - SHARE) * hard + SHARE * TAU**2 * told


def fit(model, x, y, soft, order, lr=0.05):
    """One pass of SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for rows in torch.randperm(len(y), generator=order).split(32):
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows], None if soft is None else soft[rows]).backward()
        optimizer.step()


def imagine(generator, heads, counts, weights, order, steps=30, batch=64):
    """Teach the generator; then features, labels and the ensemble's soft labels for a lesson."""
    share = weights[:, None] * counts / counts.sum(0).clamp_min(1)
    share = share / share.sum(0).clamp_min(1e-9)

    def draw(count):
        y = torch.multinomial((weights[:, None] * counts).sum(0), count, replacement=True, generator=order)
        noise = torch.randn(count, NOISE, generator=order)
        return generator(torch.cat([noise, F.one_hot(y, CLASSES).float()], 1)), y

    optimizer = torch.optim.Adam(generator.parameters(), lr=3e-3)
    for _ in range(steps):
        z, y = draw(batch)
        each = [
            w[y] * F.cross_entropy(head(z), y, reduction="none") for head, w in zip(heads, share, strict=True)
        ]
        optimizer.zero_grad()
        sum(each).mean().backward()
        optimizer.step()
    with torch.no_grad():
        z, y = draw(1000)
        p = sum(w[y][:, None] * (head(z) / TAU).softmax(1) for head, w in zip(heads, share, strict=True))
    return z, y, p


def federate(clients, rounds, step, seed=0):
    """Play the rounds; test accuracies, worst first, and the weights. step: eta; None: everybody alone."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    common, top = Net().state_dict(), Net().head
    generator = nn.Sequential(nn.Linear(NOISE + CLASSES, 64), nn.ReLU(), nn.Linear(64, WIDTH), nn.ReLU())
    models = [Net() for _ in clients]
    for model in models:
        model.load_state_dict(common)
    counts = torch.stack([client.class_counts("train") for client in clients]).float()
    errors, weights, known = torch.zeros(len(clients)), torch.ones(len(clients)), False
    for _ in range(rounds):
        for model, client in zip(models, clients, strict=True):
            with torch.no_grad():
                soft = (top(model.body(client.train.x)) / TAU).softmax(1) if known else None
            fit(model, client.train.x, client.train.y, soft, order)
        if step is None:
            continue
        errors += torch.tensor(
            [1 - accuracy(model, client.val) for model, client in zip(models, clients, strict=True)]
        )
        weights = len(clients) * (step * errors).softmax(0)
        fit(top, *imagine(generator, [model.head for model in models], counts, weights, order), order)
        known = True
    return np.sort([accuracy(m, c.test) for m, c in zip(models, clients, strict=True)]), weights


@torch.no_grad()
def accuracy(model, samples):
    """The fraction of samples that the model gets right."""
    return float((model(samples.x).argmax(1) == samples.y).float().mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--samples", type=int, default=4000)
    options = parser.parse_args()
    words = [f"clients={options.clients}", f"data.max_samples={options.samples}", "partition.alpha=0.3"]
    federation = build_federation(resolve(words))
    clients = [federation.client(k) for k in range(federation.num_clients)]
    for name, step in (("each alone", None), ("equal weights", 0.0), ("flagship", 0.5)):
        tests, weights = federate(clients, options.rounds, step)
        tail = max(1, len(clients) // 10)
        figures = f"mean {tests.mean():.3f}  worst tenth {tests[:tail].mean():.3f}"
        print(f"{name:<14} {figures}  largest weight {float(weights.max()):.2f}")


if __name__ == "__main__":
    main()
