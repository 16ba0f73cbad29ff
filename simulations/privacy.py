"""`fedkd privacy`: what a finished run gives away, measured, in `privacy.json` and two kinds of figures.

Membership: members are a client's training split, non-members its test split, which was cut from the same
share. For protocols that send features: inversion, by an honest-but-curious server that holds samples of all
other clients (more than any real one would: an upper bound) and either may ask the victim's body about them
(`queries`), or has only what these clients' own bodies said (`collusion`). What is sent at all, by kind and
bytes, comes from the run's own count.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedkd.data.samples import Samples
from fedkd.errors import ConfigError
from fedkd.privacy import membership
from fedkd.privacy.inversion import Training, fidelity, label_guess, mean_guess, train_decoder
from fedkd.privacy.membership import Attack, attack, calibrated_score, phi
from fedkd.protocol import REPRESENTATIONS
from fedkd.seeds import rng, torch_rng
from fedkd.training.program import Params
from simulations.exposed import Exposed, exposed
from simulations.privacy_figures import membership_figure, rebuilt_figure
from simulations.recorder import read_rounds
from simulations.report import describe
from simulations.reporting.folder import AUDIT
from simulations.rundir import write_text

REFERENCES = 16
"""Other clients' models that an attacker asks."""
KNOWN = 2000
"""Samples that an inverting attacker holds."""
SHOWN = 8

Scores = dict[str, dict[int, tuple[Tensor, Tensor]]]
"""By attack and client: scores of members and of non-members."""


@dataclass(frozen=True)
class Options:
    """What is attacked.

    features: whether to invert them: auto (where the run sent some), yes, no
    victims: how many clients' inputs are rebuilt
    training: of each decoder
    """

    features: str = "auto"
    victims: int = 2
    training: Training = field(default_factory=Training)


def audit(out: Path, options: Options) -> list[Path]:
    """Measure a finished run and return the files written into its folder."""
    run = exposed(out)
    config = run.prepared.config
    about, figures = describe(config), out / "figures"
    sent = sent_bytes(out)
    scores = {model: found for model in ("personal", "global") if (found := scored(run, model))}
    result: dict[str, Any] = {
        "run": about,
        "round": run.round,
        "sent_bytes_per_participant_and_round": sent,
        "membership": {model: judged(found) for model, found in scores.items()},
    }
    files = [membership_figure(figures, scores, about)] if scores else []
    if options.features == "yes" or (options.features == "auto" and REPRESENTATIONS in sent):
        result["inversion"], pictures = inverted(run, options)
        files += [rebuilt_figure(figures, cut, shown, about) for cut, shown in pictures.items()]
    write_text(out / AUDIT, json.dumps(result, indent=1) + "\n")
    return [out / AUDIT, *files]


def sent_bytes(out: Path) -> dict[str, float]:
    """Array bytes that a participant sends in a round, by kind of record, from `rounds.csv`."""
    rows = read_rounds(out / "rounds.csv")
    asked = max(1, sum(int(row["participants"] or 0) for row in rows))
    kinds = dict.fromkeys(key for row in rows for key in row if key.startswith("bytes_up_"))
    return {key.removeprefix("bytes_up_"): sum(row[key] or 0 for row in rows) / asked for key in kinds}


# -- membership ----------------------------------------------------------------------------------------------


def scored(run: Exposed, which: str) -> Scores:
    """The scores of all attacks on the clients' own models, or on the received one."""
    models = run.personal if which == "personal" else {}
    if which == "global" and run.received is not None:
        models = dict.fromkeys(run.clients, run.received)
    scores: Scores = {}
    for client, model in models.items():
        data = run.data(client)
        if len(data.train) and len(data.test):
            both = [
                _scores(run, client, model, samples, which == "personal")
                for samples in (data.train, data.test)
            ]
            for name in both[0]:
                scores.setdefault(name, {})[client] = (both[0][name], both[1][name])
    return scores


def _scores(run: Exposed, client: int, model: Params, samples: Samples, own: bool) -> dict[str, Tensor]:
    architecture = client if own else 0
    logits = run.predict(architecture, model, samples.x)
    found = {
        "loss": membership.loss_score(logits, samples.y),
        "confidence": membership.confidence_score(logits, samples.y),
    }
    others = [k for k in run.personal if k != client]
    if own and others:
        chosen = rng(run.prepared.config["seed"], "references", client).permutation(others)[:REFERENCES]
        told = [(phi(run.predict(int(k), run.personal[k], samples.x), samples.y), int(k)) for k in chosen]
        asked = torch.stack([run.data(k).class_counts("train")[samples.y] > 0 for _, k in told])
        references = torch.stack([reference for reference, _ in told])
        found["calibrated"] = calibrated_score(phi(logits, samples.y), references, asked)
    return found


def judged(scores: Scores) -> dict[str, Any]:
    """Figures of each attack: mean over clients, all clients under one threshold, and client by client."""
    return {name: _judged({k: attack(*pair) for k, pair in by.items()}, by) for name, by in scores.items()}


def _judged(attacks: Mapping[int, Attack], scores: Mapping[int, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    together = attack(*membership.pooled(list(scores.values())))
    each = list(attacks.values())
    return {
        "auc_mean": float(np.mean([one.auc for one in each])),
        "auc_worst": max(one.auc for one in each),
        "auc_chance": 0.5,
        "auc_mean_chance_sd": float(np.sqrt(np.sum([one.chance_sd**2 for one in each])) / len(each)),
        "pooled": _plain(together),
        "clients": [{"client": client, **_plain(one)} for client, one in attacks.items()],
    }


def _plain(one: Attack) -> dict[str, Any]:
    figures: dict[str, Any] = {"members": one.members, "others": one.others, "auc": one.auc}
    figures["chance_sd"] = one.chance_sd
    for share, found in one.tpr.items():
        figures[f"tpr_at_{share:g}"] = found
        figures[f"tpr_at_{share:g}_chance"] = one.tpr_chance[share]
    return figures


# -- inversion -----------------------------------------------------------------------------------------------


def inverted(run: Exposed, options: Options) -> tuple[dict[str, Any], dict[int, dict[str, Tensor]]]:
    """Figures by cut and guess, means over victims; what the first victim's samples became, by cut."""
    seed, holders = run.prepared.config["seed"], list(run.personal)
    if len(holders) < 2 or not run.data(holders[0]).train.x.is_floating_point():
        raise ConfigError(
            "an inversion needs two clients with models of their own, and images, windows or tables; "
            "--features no leaves it out"
        )
    victims = sorted(int(k) for k in rng(seed, "inversion victims").permutation(holders)[: options.victims])
    figures: dict[int, dict[str, list[dict[str, float]]]] = {}
    pictures: dict[int, dict[str, Tensor]] = {}
    sizes = []
    for victim in victims:
        wanted, known, owners = run.data(victim).train, *_known(run, victim)
        sizes.append(len(known))
        span = float(known.x.max() - known.x.min())
        blind = {"mean": mean_guess(known, wanted), "label_mean": label_guess(known, wanted)}
        for cut in range(1, run.network(victim).num_blocks):
            guesses = blind | _attacks(run, victim, cut, known, owners, options.training)
            for name, guess in guesses.items():
                kept = figures.setdefault(cut, {}).setdefault(name, [])
                kept.append(fidelity(guess.contiguous(), wanted.x, span))
            shown = {name: guess[:SHOWN] for name, guess in ({"real": wanted.x} | guesses).items()}
            pictures.setdefault(cut, shown)
    cuts = {str(cut): {name: _mean(each) for name, each in by.items()} for cut, by in figures.items()}
    return {"victims": victims, "attacker_samples": min(sizes), "cuts": cuts}, pictures


def _mean(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([one[key] for one in figures])) for key in figures[0]}


def _attacks(
    run: Exposed, victim: int, cut: int, known: Samples, owners: Tensor, training: Training
) -> dict[str, Tensor]:
    """What decoders make of the victim's features: one that may query its body, one of colluding clients."""
    seed, model = run.prepared.config["seed"], run.personal[victim]
    z = run.predict(victim, model, run.data(victim).train.x, cut)
    asked = run.predict(victim, model, known.x, cut)
    theirs = torch.empty_like(asked)
    for other in owners.unique().tolist():
        rows = owners == other
        theirs[rows] = run.predict(other, run.personal[other], known.x[rows], cut)
    return {
        name: train_decoder(held, known.x, training, torch_rng(seed, f"decoder {name}", victim, cut))(z)
        for name, held in (("queries", asked), ("collusion", theirs))
    }


def _known(run: Exposed, victim: int) -> tuple[Samples, Tensor]:
    """Up to `KNOWN` training samples of all other clients, and whose they are (n,)."""
    others = [k for k in run.personal if k != victim]
    held = [run.data(k).train for k in others]
    x, y, ids = (torch.cat([getattr(samples, part) for samples in held]) for part in ("x", "y", "ids"))
    owners = torch.tensor(others).repeat_interleave(torch.tensor([len(samples) for samples in held]))
    chosen = torch.randperm(len(y), generator=torch_rng(run.prepared.config["seed"], "known", victim))[:KNOWN]
    return Samples(x, y, ids).take(chosen), owners[chosen]
