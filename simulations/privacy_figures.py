"""Figures of an audit: how well members are told apart, and what inputs are rebuilt from features."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from fedkd.privacy.membership import attack, pooled, roc
from simulations.canvas import FAINT, MUTED, PALETTE, STYLE, legend_below, new_figure, save
from simulations.samples_grid import draw_samples

NAMES = {
    "real": "real",
    "queries": "rebuilt, attacker may query the body",
    "collusion": "rebuilt, attacker has other clients' bodies",
    "mean": "mean sample, no features",
    "label_mean": "mean sample of the label",
}
LEAST = 1e-3


@matplotlib.rc_context(STYLE)
def membership_figure(
    folder: Path, scores: Mapping[str, Mapping[str, Mapping[int, tuple[Tensor, Tensor]]]], about: str
) -> Path:
    """ROC of all clients under one threshold, and every client's AUC from least to most exposed."""
    lines = [(model, name, by) for model, attacks in scores.items() for name, by in attacks.items()]
    over = "members: a client's training split, non-members: its test split"
    figure, (curve, profile) = new_figure("Membership inference", about, over, len(lines), panels=2)
    curve.plot([LEAST, 1], [LEAST, 1], color=MUTED, linestyle=":", linewidth=1.4)
    profile.axhline(0.5, color=MUTED, linestyle=":", linewidth=1.4)
    for number, (model, name, by) in enumerate(lines):
        colour, style = PALETTE[number % len(PALETTE)], "-" if model == "personal" else "--"
        false, true = roc(*pooled(list(by.values())))
        curve.plot(np.maximum(false, LEAST), np.maximum(true, LEAST), color=colour, linestyle=style)
        found = sorted((attack(*pair) for pair in by.values()), key=lambda one: one.auc)
        aucs = [one.auc for one in found]
        x = 100 * (np.arange(len(aucs)) + 0.5) / len(aucs)
        label = f"{model} model, {name}: mean AUC {np.mean(aucs):.3f}"
        profile.plot(x, aucs, color=colour, linestyle=style, marker="o", label=label)
    wide = 2 * float(np.mean([one.chance_sd for one in found]))
    profile.axhspan(0.5 - wide, 0.5 + wide, color=FAINT, alpha=0.7, linewidth=0)
    curve.set(xscale="log", yscale="log", xlim=(LEAST, 1), ylim=(LEAST, 1))
    curve.set(xlabel="false positive rate", ylabel="true positive rate, all clients")
    profile.set(
        xlim=(0, 100), xlabel="clients, least exposed first (%)", ylabel="AUC (band: two sd of chance)"
    )
    legend_below(figure, len(lines))
    return save(folder, privacy_membership=figure)[0]


@matplotlib.rc_context(STYLE)
def rebuilt_figure(folder: Path, cut: int, shown: Mapping[str, Tensor], about: str) -> Path:
    """Real samples of one client above what each attacker makes of their features at this cut."""
    figure = Figure(figsize=(9, 1.0 + 1.25 * len(shown)), layout="constrained")
    figure.suptitle(f"Inputs rebuilt from features at cut {cut}\n{about}", x=0.01, ha="left", fontsize=12)
    draw_samples(figure, {NAMES[name]: samples for name, samples in shown.items()}, shown["real"])
    return save(folder, **{f"privacy_inversion_cut{cut}": figure})[0]
