"""What an objective trains and remembers while a student is distilled at the server; anew in each round."""

from dataclasses import dataclass

import torch
from torch import nn

from fedkd.generators.ensemble import Ensemble
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective, Shapes, make_parts
from fedkd.objectives.signals import State
from fedkd.objectives.taps import places, shapes_between


@dataclass
class Kept:
    """Through several calls of `distill`.

    parts: among the optimizer's parameters; state: its memory
    done, share: how much of the whole training lies behind, and how much one call is
    """

    parts: nn.ModuleDict
    state: State
    share: float = 1.0
    done: float = 0.0

    @classmethod
    def of(
        cls, objective: Objective, teachers: Ensemble, student: StagedModel, rng: torch.Generator, calls: int
    ) -> "Kept":
        """As it is before the first of `calls` calls; draws from `rng` only where there are parts."""
        classes, count = teachers.counts.shape[1], len(teachers.models)
        shapes = Shapes(classes, teachers=count)
        if places(
            objective, "student"
        ):  # clients may have many embeddings: parts are as wide as the student's
            shapes = shapes_between(objective, student, student, classes, count)
        if not objective.modules(shapes):
            return cls(nn.ModuleDict(), objective.init(), 1 / max(calls, 1))
        seed = int(torch.randint(2**31, (), generator=rng))
        parts = make_parts(objective, shapes, seed).to(teachers.counts.device)
        return cls(parts, objective.init(), 1 / max(calls, 1))
