"""The loss terms of generators as pure functions of tensors; each returns the scalar to be minimised.

Shapes: B samples, M classes, K clients. Sums over classes, means over samples, as everywhere in this project:
element-wise means of a KL, as in ZSKT's release, are smaller by the factor M.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.objectives.ops import kl, log_probs

Divergence = Literal["kl", "l1", "js", "softmax_l1"]
Mask = Literal["agree", "disagree", "transfer", "none"]

DIVERGENCES: tuple[Divergence, ...] = ("kl", "l1", "js", "softmax_l1")
MASKS: tuple[Mask, ...] = ("agree", "disagree", "transfer", "none")


def fidelity(teacher: Tensor, labels: Tensor) -> Tensor:
    """CE(t(x~), y): the teacher `(B, M)` should see the label that was asked for."""
    return F.cross_entropy(teacher, labels)


def client_fidelity(votes: Tensor, labels: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k mean_b a_k^{y_b} CE(f_k(x~_b), y_b): every client answers for its share of a class (FedGen).

    votes: logits (K, B, M); shares: a (K, M), see `class_shares`; weights: w (K,), ones for the plain method
    """
    log_p = votes.permute(2, 0, 1).log_softmax(0)  # over a last axis of ten it takes several times as long
    picked = -log_p.gather(0, labels.expand(1, len(votes), -1)).squeeze(0)
    return (weights[:, None] * shares[:, labels] * picked).mean(1).sum()


def confidence(teacher: Tensor) -> Tensor:
    """CE(t(x~), argmax t(x~)): the teacher `(B, M)` should be sure, of whatever (`oh` of DAFL)."""
    return F.cross_entropy(teacher, teacher.argmax(-1))


def balance(teacher: Tensor) -> Tensor:
    """sum_m pbar_m log pbar_m with pbar the batch's mean prediction: negative entropy, least when uniform."""
    log_mean = teacher.log_softmax(-1).logsumexp(0) - math.log(len(teacher))
    return (log_mean.exp() * log_mean).sum()


def activation(features: Tensor) -> Tensor:
    """- mean |phi(x~)|: the teacher's penultimate features should be strong (DAFL)."""
    return -features.abs().mean()


def divergence(teacher: Tensor, student: Tensor, kind: Divergence, temperature: float = 1.0) -> Tensor:
    """How far the student is from the teacher, per sample: logits `(..., M)` to `(...)`.

    kl: tau^2 KL(sigma(t/tau) || sigma(s/tau)); l1: mean_m |t - s| between logits (FedFTG's release);
    js: Jensen-Shannon at tau, at most log 2 (DeepInversion's competition, without its clamps);
    softmax_l1: || sigma(t/tau) - sigma(s/tau) ||_1 (FedZKT: bounded, and does not vanish as KL does)
    """
    if kind == "l1":
        return (teacher - student).abs().mean(-1)
    log_t, log_s = log_probs(teacher, temperature), log_probs(student, temperature)
    if kind == "softmax_l1":
        return (log_t.exp() - log_s.exp()).abs().sum(-1)
    if kind == "js":
        log_m = torch.logaddexp(log_t, log_s) - math.log(2.0)
        return 0.5 * (kl(log_t, log_m) + kl(log_s, log_m))
    return temperature**2 * kl(log_t, log_s)


def mask_of(teacher: Tensor, student: Tensor, labels: Tensor, mask: Mask) -> Tensor:
    """Which samples count, bool `(B,)`.

    agree: both predict the same class (CMI, Fast); disagree: they do not (DENSE); transfer: the teacher is
    right about the label and the student is not (DFRD); none: all
    """
    t, s = teacher.argmax(-1), student.argmax(-1)
    if mask == "transfer":
        return (t == labels) & (s != labels)
    if mask == "none":
        return torch.ones_like(t, dtype=torch.bool)
    return (t == s) if mask == "agree" else (t != s)


def adversarial(
    teacher: Tensor,
    student: Tensor,
    labels: Tensor,
    mask: Mask,
    kind: Divergence = "kl",
    temperature: float = 1.0,
) -> Tensor:
    """- mean_b 1[mask_b] D(t, s)_b: samples that the student has yet to learn; 0 where the mask is empty."""
    active = mask_of(teacher, student, labels, mask)
    return -torch.where(active, divergence(teacher, student, kind, temperature), 0.0).mean()


def client_adversarial(
    votes: Tensor,
    student: Tensor,
    labels: Tensor,
    shares: Tensor,
    weights: Tensor,
    kind: Divergence = "l1",
    temperature: float = 1.0,
) -> Tensor:
    """- sum_k w_k mean_b a_k^{y_b} D(f_k, s)_b: samples hard for the student, client by client (FedFTG)."""
    apart = divergence(votes, student.expand_as(votes), kind, temperature)
    return -(weights[:, None] * shares[:, labels] * apart).mean(1).sum()


def noise_diversity(x: Tensor, noise: Tensor) -> Tensor:
    """exp(- mean_{i,j} mean (eps_i - eps_j)^2 mean |x_i - x_j|): in (0, 1] (FedGen).

    Blind to the label, so it also pushes samples of one class apart.
    """
    flat = x.flatten(1)
    apart = F.pdist(flat, p=1.0) / flat.shape[1]  # each pair once
    squares = F.pdist(noise).square() / noise.shape[1]
    return (-2.0 * (squares * apart).sum() / len(x) ** 2).exp()


def label_diversity(x: Tensor, merged: Tensor) -> Tensor:
    """exp(- mean_{i,j} d(x_i, x_j) d(v_i, v_j)), v noise and label merged (DFRD).

    d is the root mean square difference. Plain L2 norms, as the formula is remembered, grow with the width:
    an untrained generator of 200 features has exp(-60) and no gradient.
    """
    scale = (x[0].numel() * merged.shape[1]) ** -0.5
    return (-scale * (_distances(x.flatten(1)) * _distances(merged)).mean()).exp()


def statistics(mean: Tensor, var: Tensor, target_mean: Tensor, target_var: Tensor) -> Tensor:
    """||mean - target||_2 + ||var - target||_2 by channel: plain norms, neither squared nor averaged."""
    return (mean - target_mean).norm() + (var - target_var).norm()


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance by channel of `(B, C, ...)`, each `(C,)`."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    return x.mean(axes), x.var(axes, correction=0)


def variation(x: Tensor) -> Tensor:
    """Total variation: the sum of the L2 norms of the differences along and across (DeepInversion's units).

    Images (B, C, H, W): rows, columns and both diagonals; windows (B, C, T): along T.
    """
    if x.dim() == 3:
        return x.diff(dim=2).norm()
    falling = x[..., 1:, 1:] - x[..., :-1, :-1]
    rising = x[..., :-1, 1:] - x[..., 1:, :-1]
    return x.diff(dim=3).norm() + x.diff(dim=2).norm() + falling.norm() + rising.norm()


def magnitude(x: Tensor) -> Tensor:
    """mean_b ||x_b||_2."""
    return x.flatten(1).norm(dim=1).mean()


def spread(x: Tensor) -> Tensor:
    """Mean L2 distance between different samples of one class; 0 tells of collapse. A figure, not a loss.

    x: (C, N, d), N samples of each of C classes
    """
    pairs = len(x) * x.shape[1] * (x.shape[1] - 1)
    return _distances(x).sum() / max(pairs, 1)


def _distances(flat: Tensor) -> Tensor:
    """(..., B, d) to (..., B, B); the exact form, whose gradient at distance 0 is 0."""
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
