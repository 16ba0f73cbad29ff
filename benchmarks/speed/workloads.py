"""What every competitor trains: plain PyTorch alone, so that other environments can import it.

100 clients of 600 samples 28 x 28, ten of them a round, one epoch of SGD in batches of 32.
"""

import torch
from torch import Tensor, nn

CLIENTS, SAMPLES, SAMPLED, BATCH, LR = 100, 600, 10, 32, 0.05
NAMES = ("mlp", "small_cnn", "cnn")


def network(name: str) -> nn.Module:
    """MLP 784-200-10 (159 k parameters), a small CNN (62 k), FedAvg's CNN (1.66 M), as mostly written."""
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))
    first, second, hidden = (6, 16, 75) if name == "small_cnn" else (32, 64, 512)
    return nn.Sequential(
        *(nn.Conv2d(1, first, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(second * 49, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
    )


def samples() -> tuple[Tensor, Tensor]:
    """Images (60000, 1, 28, 28) uint8 and labels (60000,), the same in every process."""
    draw = torch.Generator().manual_seed(0)
    count = CLIENTS * SAMPLES
    x = torch.randint(256, (count, 1, 28, 28), generator=draw, dtype=torch.uint8)
    return x, torch.randint(10, (count,), generator=draw)


def share(client: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One client's samples, as float32 around zero."""
    rows = slice(client * SAMPLES, (client + 1) * SAMPLES)
    return x[rows].float().div_(128).sub_(1), y[rows]


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """One epoch over resident tensors."""
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=LR), nn.CrossEntropyLoss()
    model.train()
    for rows in torch.randperm(len(y)).split(BATCH):
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
