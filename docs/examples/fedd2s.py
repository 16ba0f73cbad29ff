"""FedD2S as specified in fedkd (after Atapour et al. 2024, arXiv 2402.10846) in one file.

Every client keeps a whole model. Client and server meet at a cut: below it the client makes features z, above
it the server holds a head G. One round:

    clients   train on (1 - a) CE + a tau^2 KL(q || s), then send z, y and p = softmax(P(z) / tau)
    server    trains G on the same two terms towards p, and returns q = softmax(G(z) / tau)

The cut falls from the deepest boundary to the first block: deep layers leave the federation one by one.
No weights travel. The package has more: other protocols, schedules per client, adaptive dropping.

    python docs/examples/fedd2s.py --rounds 12
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedkd.data import build_federation
from simulations.config import resolve

TAU, SHARE = 3.0, 0.5


def blocks():
    """784 - 64 - 64 - 10, as three blocks that can be cut between."""
    return nn.ModuleList(
        [
            nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU()),
            nn.Sequential(nn.Linear(64, 64), nn.ReLU()),
            nn.Linear(64, 10),
        ]
    )


def run(parts, x):
    """Blocks one after another."""
    for part in parts:
        x = part(x)
    return x


def loss(logits, y, soft):
    """Cross entropy, and where there is a soft label the distance to it."""
    hard = F.cross_entropy(logits, y)
    if soft is None:
        return hard
    told = F.kl_div((logits / TAU).log_softmax(1), soft, reduction="batchmean")
    return (1 - SHARE) * hard + SHARE * TAU**2 * told


def fit(parts, x, y, soft, order, epochs=1, lr=0.05):
    """SGD on these blocks, from these inputs; soft labels are matched by position."""
    optimizer = torch.optim.SGD(parts.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=order).split(32):
            optimizer.zero_grad()
            loss(run(parts, x[rows]), y[rows], None if soft is None else soft[rows]).backward()
            optimizer.step()


def federate(clients, rounds, alone=False, seed=0):
    """Play the rounds; the test accuracies, worst first. alone: nobody is told anything."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    common = blocks().state_dict()
    models = [blocks() for _ in clients]
    for model in models:
        model.load_state_dict(common)
    told, at = [None] * len(clients), None
    for number in range(rounds):
        cut = 2 - (2 * number) // rounds  # the deepest boundary first, then below the second block
        if cut != at:  # a new global head from the common start; what was told for the old cut no longer fits
            head = blocks()
            head.load_state_dict(common)
            head, told, at = head[cut:], [None] * len(clients), cut
        for model, client, soft in zip(models, clients, told, strict=True):
            fit(model, client.train.x, client.train.y, soft, order)
        if alone:
            continue
        with torch.no_grad():
            z = [run(model[:cut], client.train.x) for model, client in zip(models, clients, strict=True)]
            p = [(run(model[cut:], own) / TAU).softmax(1) for model, own in zip(models, z, strict=True)]
        fit(head, torch.cat(z), torch.cat([client.train.y for client in clients]), torch.cat(p), order)
        with torch.no_grad():
            told = [(run(head, own) / TAU).softmax(1) for own in z]
    with torch.no_grad():
        guesses = [run(model, client.test.x).argmax(1) for model, client in zip(models, clients, strict=True)]
    pairs = zip(guesses, clients, strict=True)
    return np.sort([float((guess == client.test.y).float().mean()) for guess, client in pairs])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--samples", type=int, default=4000)
    options = parser.parse_args()
    words = [f"clients={options.clients}", f"data.max_samples={options.samples}", "partition.alpha=0.3"]
    federation = build_federation(resolve(words))
    clients = [federation.client(k) for k in range(federation.num_clients)]
    for name, alone in (("each alone", True), ("FedD2S", False)):
        tests = federate(clients, options.rounds, alone)
        tail = max(1, len(clients) // 10)
        print(f"{name:<11} mean {tests.mean():.3f}  worst tenth {tests[:tail].mean():.3f}")


if __name__ == "__main__":
    main()
