"""The practical limit: nothing but the training, on one process a core with one thread each.

Global weights and results lie in shared memory as flat vectors; nothing is serialised.
"""

import os
import random

import torch
from torch import multiprocessing
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from benchmarks.speed.gate import Gate
from benchmarks.speed.workloads import CLIENTS, SAMPLED, network, samples, share, train


def _work(
    name: str, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, results: torch.Tensor, pipe: object
) -> None:
    torch.set_num_threads(1)
    model = network(name)
    data = [share(client, x, y) for client in range(CLIENTS)]
    pipe.send("ready")
    while True:
        for place, client in pipe.recv():
            vector_to_parameters(weights.clone(), model.parameters())
            train(model, *data[client])
            results[place] = parameters_to_vector(model.parameters()).detach()
        pipe.send("done")


def play(gate: Gate, name: str) -> None:
    """Rounds of FedAvg by hand."""
    x, y = (tensor.share_memory_() for tensor in samples())
    weights = parameters_to_vector(network(name).parameters()).detach().share_memory_()
    results = torch.zeros(SAMPLED, len(weights)).share_memory_()
    context = multiprocessing.get_context("spawn")
    pipes = []
    for _ in os.sched_getaffinity(0):
        mine, theirs = context.Pipe()
        context.Process(target=_work, args=(name, x, y, weights, results, theirs), daemon=True).start()
        mine.recv()
        pipes.append(mine)
    while gate():
        jobs = list(enumerate(random.sample(range(CLIENTS), SAMPLED)))
        for k, pipe in enumerate(pipes):
            pipe.send(jobs[k :: len(pipes)])
        for pipe in pipes:
            pipe.recv()
        weights.copy_(results.mean(0))
