"""What `fedkd privacy` found: who is told to be a member, and how well inputs are rebuilt from features."""

from pathlib import Path
from typing import Any

import numpy as np

from simulations.canvas import FAINT, MUTED, PALETTE
from simulations.comparing.present import MISSING
from simulations.privacy_figures import NAMES
from simulations.reporting.folder import RunFolder
from simulations.reporting.gallery import gallery
from simulations.reporting.headline import size
from simulations.reporting.html import Section, beside, chart, folded, numbers, paragraph, table
from simulations.reporting.plot import faded, figure, line

HEAD = ("model", "attack", "mean AUC", "by chance", "most exposed client")
SHARES = {"0.1": "10 %", "0.01": "1 %"}
FIDELITY = {"ssim": "structural similarity (1: the same)", "psnr": "signal to noise (dB)"}
"""What is drawn of an inversion: the first of these that was measured."""

Found = dict[str, Any]
"""A part of `privacy.json`."""


def section(run: RunFolder) -> Section | None:
    """Where the audit was made: membership, then inversion."""
    found = run.privacy
    if not found:
        return None
    sent = found["sent_bytes_per_participant_and_round"]
    told = ", ".join(f"{kind.replace('_', ' ')} {size(count)}" for kind, count in sent.items())
    says = (
        f"Attacks on the models and messages of round {found['round']}, made by `fedkd privacy`; another "
        f"attacker may do better. What a participant sends in a round: {told or 'nothing'}."
    )
    body = _membership(run, found["membership"]) + _inversion(run, found.get("inversion", {}))
    return Section("privacy", "What the run gives away", says, body, wide=True)


def _membership(run: RunFolder, found: Found) -> str:
    """Each client's AUC, the table of all attacks, and their ROC curves."""
    attacks = [(model, name, of) for model, by in found.items() for name, of in by.items()]
    if not attacks:
        return ""
    wide = 2 * float(np.mean([one["chance_sd"] for _, _, of in attacks for one in of["clients"]]))
    band = {
        "type": "rect",
        "xref": "paper",
        "yref": "y",
        "x0": 0,
        "x1": 1,
        "y0": 0.5 - wide,
        "y1": 0.5 + wide,
    }
    drawn = figure(
        [_exposed(run, attack, PALETTE[k % len(PALETTE)]) for k, attack in enumerate(attacks)],
        x={"title": "clients, least exposed first (%)", "range": [0, 100]},
        y="AUC",
        height=380,
        shapes=[{**band, "layer": "below", "fillcolor": faded(FAINT, 0.6), "line": {"width": 0}}],
    )
    text = (
        "Was a sample in a client's training split? AUC is how often a member looks more like one than a "
        "sample of the client's test split does: 1 is certainty, 0.5 chance (grey: two standard deviations "
        "of it). Found at 10 %: the share of members found where a tenth of the others is wrongly accused, "
        "all clients under one threshold."
    )
    found_at = [word for share in SHARES.values() for word in (f"found at {share}", "by chance")]
    lines = table([*HEAD, *found_at], map(_row, attacks), "membership-table")
    curves = _existing({"ROC": run.out / "figures" / "privacy_membership.png"})
    rest = folded("ROC curves", gallery(curves)) if curves else ""
    return beside(chart("membership-chart", drawn), paragraph(text) + lines + rest)


def _exposed(run: RunFolder, attack: tuple[str, str, Found], colour: str) -> Found:
    """The AUC of every client, least exposed first."""
    model, name, of = attack
    each = sorted(of["clients"], key=lambda one: one["auc"])
    x = numbers(100 * (np.arange(len(each)) + 0.5) / len(each), 2)
    style = {"dash": "solid" if model == "personal" else "dash"}
    label = f"{model} model, {name}"
    return line(
        x,
        [one["auc"] for one in each],
        label,
        colour,
        line=style,
        text=run.describe(np.array([one["client"] for one in each])),
        hovertemplate=f"%{{text}}<br>AUC %{{y:.3f}}<extra>{label}</extra>",
    )


def _row(attack: tuple[str, str, Found]) -> tuple[Any, ...]:
    model, name, of = attack
    shares = [of["pooled"][f"tpr_at_{share}{end}"] for share in SHARES for end in ("", "_chance")]
    chance = f"{of['auc_chance']:.3f}\u00a0±\u00a0{of['auc_mean_chance_sd']:.3f}"
    return (
        model,
        name,
        of["auc_mean"],
        chance,
        of["auc_worst"],
        *(MISSING if s is None else s for s in shares),
    )


def _inversion(run: RunFolder, found: Found) -> str:
    """How much of the inputs comes back, by cut, and what it looks like."""
    if not found:
        return ""
    cuts = {int(cut): by for cut, by in found["cuts"].items()}
    guesses = list(next(iter(cuts.values())))
    key = next(key for key in FIDELITY if all(key in by[guess] for by in cuts.values() for guess in guesses))
    traces = []
    for k, guess in enumerate(guesses):
        blind = guess in ("mean", "label_mean")
        colour, style = MUTED if blind else PALETTE[k % len(PALETTE)], {"dash": "dot" if blind else "solid"}
        y = [by[guess][key] for by in cuts.values()]
        traces.append(line(list(cuts), y, NAMES[guess], colour, line=style))
    drawn = figure(traces, x={"title": "cut", "dtick": 1}, y=FIDELITY[key], height=320)
    text = (
        f"Inputs of {len(found['victims'])} clients, rebuilt from their features at each cut by an attacker "
        f"that holds {found['attacker_samples']} samples of the others, more than a real one would. Dotted: "
        "guesses that need no features."
    )
    files = {f"Cut {cut}": run.out / "figures" / f"privacy_inversion_cut{cut}.png" for cut in cuts}
    return beside(chart("inversion-chart", drawn) + paragraph(text), gallery(_existing(files)))


def _existing(files: dict[str, Path]) -> dict[str, Path]:
    return {name: file for name, file in files.items() if file.exists()}
