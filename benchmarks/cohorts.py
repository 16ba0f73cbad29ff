"""Clients trained together against one after another: what the rule in `fedkd.training.cohort` rests on.

python -m benchmarks.cohorts            on this machine's CPU, one thread
python -m benchmarks.gpu                on a GPU: docs/results/gpu.md
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from fedkd.data.samples import ClientData, Samples
from fedkd.models import build_model
from fedkd.training.cohort import Seat, drive_together
from fedkd.training.loop import Trainer
from fedkd.training.program import ClientProgram
from fedkd.training.settings import LocalSettings

MODELS: dict[str, dict[str, Any]] = {
    "MLP 784-16-10": {"_target_": "fedkd.models.mlp.mlp", "hidden": [16]},
    "MLP 784-32-10": {"_target_": "fedkd.models.mlp.mlp", "hidden": [32]},
    "MLP 784-200-10": {"_target_": "fedkd.models.mlp.mlp"},
    "small CNN": {"_target_": "fedkd.models.cnn.cnn", "channels": [6, 16], "hidden": 75},
    "FedAvg's CNN": {"_target_": "fedkd.models.cnn.cnn"},
}
HEAD = ["| network | parameters | cohort | together, ms a client | in turn | times as fast |"]
HEAD.append("|---|---|---|---|---|---|")


class Bench:
    """Clients of one network on one device."""

    def __init__(self, node: Mapping[str, Any], device: str, samples: int) -> None:
        network = build_model(node, (1, 28, 28), 10, seed=0)
        self.size = sum(parameter.numel() for parameter in network.parameters())
        self.trainer = Trainer(network, LocalSettings(), device=device)
        self.initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        draw = torch.Generator().manual_seed(0)
        x, y = torch.randn(samples, 1, 28, 28, generator=draw), torch.randint(10, (samples,), generator=draw)
        self.samples = Samples(x, y, torch.arange(samples)).to(self.trainer.device)

    def seconds(self, clients: int, together: bool) -> float:
        """One epoch of each of the clients."""
        tasks = [
            self.trainer.task(
                ClientData(k, str(k), self.samples, self.samples, self.samples, 10),
                *(self.initial, self.initial),
                seed=0,
                server_round=1,
            )
            for k in range(clients)
        ]
        program = ClientProgram()
        began = time.perf_counter()
        seats = [Seat(program.work(task, {}), task) for task in tasks]
        for group in [seats] if together else [[seat] for seat in seats]:
            drive_together(self.trainer, group)
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def rows(device: str, cohorts: Sequence[int], samples: int = 600, repeats: int = 5) -> Iterator[str]:
    """The table, line by line; both ways in turns."""
    yield from HEAD
    for name, node in MODELS.items():
        bench = Bench(node, device, samples)
        bench.seconds(2, True)  # what is imported and prepared at the first stacked network is not counted
        for clients in cohorts:
            pairs = [(bench.seconds(clients, True), bench.seconds(clients, False)) for _ in range(repeats)]
            both, single = (median(times) / clients * 1e3 for times in zip(*pairs, strict=True))
            gain = median(alone / stacked for stacked, alone in pairs)
            yield f"| {name} | {bench.size:,} | {clients} | {both:.1f} | {single:.1f} | {gain:.2f} |"


def main() -> None:
    """Print the table of this machine's CPU."""
    torch.set_num_threads(1)
    for line in rows("cpu", (1, 5, 10, 20), repeats=3):
        print(line, flush=True)


if __name__ == "__main__":
    main()
