"""CCVR: M. Luo et al., "No Fear of Heterogeneity", NeurIPS 2021, arXiv 2106.05001.

Clients send count, mean and covariance of their features by class; the server pools them,

    mu_y  = sum_k (n_ky / n_y) mu_ky
    Sig_y = ( sum_k (n_ky - 1) Sig_ky + sum_k n_ky (mu_ky - mu_y)(mu_ky - mu_y)^T ) / (n_y - 1),

which is the paper's formula in the form that does not cancel; it equals the covariance of the pooled samples
and is computed in float64. Virtual features from N(mu_y, Sig_y) retrain the classifier alone. The features
are those after the last ReLU; M (1 + d + d^2) numbers leave a client.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.generators.base import Generator
from fedkd.generators.sources import from_samples
from fedkd.generators.train import History, Optim, distill
from fedkd.models.staged import StagedModel
from fedkd.objectives.logits import CE
from fedkd.objectives.signals import Signals


def last_layer(network: StagedModel) -> tuple[nn.Module, nn.Linear]:
    """What turns the last block's input into features `(B, d)`, and the classifier on these.

    Raises ConfigError unless the last block is a sequence of layers without weights and one linear layer.
    """
    block = network.blocks[-1]
    layers = list(block) if isinstance(block, nn.Sequential) else [block]
    if not isinstance(layers[-1], nn.Linear) or any(list(layer.parameters()) for layer in layers[:-1]):
        raise ConfigError(
            "CCVR retrains the last layer: a model whose last block ends in its one linear layer is needed"
        )
    return nn.Sequential(*layers[:-1]), layers[-1]


class ClassStatistics(NamedTuple):
    """Features of M classes: counts (M,), means (M, d), unbiased covariances (M, d, d), all float64.

    A class of fewer than two samples has covariance 0, an absent one mean 0.
    """

    counts: Tensor
    means: Tensor
    covariances: Tensor


def class_statistics(features: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
    """What a client sends about its features `(n, d)`."""
    z = features.double()
    counts = torch.bincount(labels, minlength=num_classes).double()
    means = z.new_zeros(num_classes, z.shape[1])
    covariances = z.new_zeros(num_classes, z.shape[1], z.shape[1])
    for y in labels.unique().tolist():
        own = z[labels == y]
        means[y] = own.mean(0)
        if len(own) > 1:
            centred = own - means[y]
            covariances[y] = centred.T @ centred / (len(own) - 1)
    return ClassStatistics(counts, means, covariances)


def pool(clients: list[ClassStatistics]) -> ClassStatistics:
    """Statistics of the union of the clients' samples, exactly."""
    counts, means, covariances = (torch.stack(parts) for parts in zip(*clients, strict=True))
    total = counts.sum(0)
    mean = (counts[..., None] * means).sum(0) / total.clamp_min(1.0)[:, None]
    apart = means - mean
    within = ((counts - 1.0).clamp_min(0.0)[..., None, None] * covariances).sum(0)
    between = torch.einsum("km,kmi,kmj->mij", counts, apart, apart)
    return ClassStatistics(total, mean, (within + between) / (total - 1.0).clamp_min(1.0)[:, None, None])


class Gaussian(Generator):
    """Features `(B, d)` of class y from N(mu_y, Sig_y + jitter I), for classes of two samples and more.

    counts: samples by class, 0 where there are fewer than two: the distribution to draw labels from
    """

    means: Tensor
    factors: Tensor

    def __init__(self, statistics: ClassStatistics, cut: int = 0, jitter: float = 1e-5) -> None:
        classes, width = statistics.means.shape
        super().__init__({cut: (width,)}, classes, nz=width)
        fitted = statistics.counts >= 2
        if not fitted.any():
            raise ConfigError(
                "no class has the two samples that a Gaussian needs: fewer clients or more data"
            )
        ridge = jitter * torch.eye(width, dtype=torch.float64)
        self.counts = torch.where(fitted, statistics.counts, 0.0)
        self.register_buffer("means", statistics.means.float())
        self.register_buffer("factors", torch.linalg.cholesky(statistics.covariances + ridge).float())

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        x = self.means[labels]
        for y in labels.unique().tolist():  # a factor for each sample at once would fill the memory
            rows = labels == y
            x[rows] += noise[rows] @ self.factors[y].T
        return x


def calibrate(
    classifier: nn.Module,
    gaussian: Gaussian,
    rng: torch.Generator,
    per_class: int = 2000,
    epochs: int = 10,
    batch_size: int = 64,
    optim: Optim | None = None,
) -> History:
    """Retrain the classifier `(B, d) -> (B, M)` on virtual features, equally many of every fitted class."""
    labels = gaussian.counts.nonzero().flatten().repeat_interleave(per_class)
    labels = labels.to(gaussian.means.device)
    with torch.no_grad():
        features = gaussian.sample(labels, rng)
    optimizer = (optim or Optim("sgd", 1e-3))(classifier.parameters())
    steps = epochs * -(-len(labels) // batch_size)
    return distill(
        classifier, _labels, from_samples(features, labels, batch_size), CE(), optimizer, steps, rng
    )


def _labels(x: Tensor, labels: Tensor | None) -> Signals:
    assert labels is not None
    return Signals(labels=labels)
