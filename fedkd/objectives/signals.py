"""What a distillation step hands to an objective: optional tensors, by name.

A step provides what it can; an objective declares what it `needs` under the same names, and
`student_features@2` for the output of the student's first two blocks. `@embedding` is what enters the last
linear layer. Negative places count from the end: `@-1` is the input of the last block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedkd.errors import ConfigError

EMBEDDING = "embedding"
"""The place just before the last linear layer: features (B, D)."""

Place = int | str
"""Where a network is tapped: after this many blocks (negative: from the end), or EMBEDDING."""

State = dict[str, Tensor]
"""An objective's memory between steps: plain tensors by name, so that it can be stored and sent."""

Parts = Mapping[str, Callable[..., Tensor]]
"""An objective's trainable parts, bound to their parameters."""


class SubClasses(NamedTuple):
    """The sub-classes of LELP, learnt once from a teacher (C classes, S each, embeddings of width D).

    directions: (C, S, D), scaled to unit variance; offsets: (C, S); present: (C, S), 0 where there is none
    """

    directions: Tensor
    offsets: Tensor
    present: Tensor


ABSENT: Any = None
"""Default of every signal. Typed as anything: inside a loss, what its objective needs has been checked."""


@dataclass(frozen=True)
class Signals:
    """The signals of one batch of B samples and C classes; None is "this step cannot tell".

    student_logits, teacher_logits: (B, C)
    ensemble_logits: (M, B, C), the logits of M teachers
    labels: (B,) class indices
    mask: (B,), 0 leaves a sample out of the mean
    labelled: (B,) what each label counts, 0 where it must not be used; without it all count 1
    student_features, teacher_features: place -> features (B, ...)
    teacher_head: weight (C, D) and bias (C,) of the teacher's last linear layer
    class_means: (C, D) means of the teacher's embeddings; a row of zeros is an absent class
    class_predictions: (C, C) mean prediction of the teacher for the samples of each class
    class_costs: (C,) cost of missing each class; 0 leaves a class alone
    subclasses: see SubClasses
    edges: (2, E) a graph on the samples, both directions, no self-loops
    student_from: `student_from(place, features) -> (B, D)`, the student's embedding computed from there on
    generator: source of the objective's own draws
    server_round: the round, for weights that are schedules
    parts, state: of this objective, see `Objective`
    """

    student_logits: Tensor = ABSENT
    teacher_logits: Tensor = ABSENT
    ensemble_logits: Tensor = ABSENT
    labels: Tensor = ABSENT
    mask: Tensor | None = None
    labelled: Tensor | None = None
    student_features: Mapping[Place, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[Place, Tensor] = field(default_factory=dict)
    teacher_head: tuple[Tensor, Tensor] = ABSENT
    class_means: Tensor = ABSENT
    class_predictions: Tensor = ABSENT
    class_costs: Tensor = ABSENT
    subclasses: SubClasses = ABSENT
    edges: Tensor = ABSENT
    student_from: Callable[[Place, Tensor], Tensor] = ABSENT
    generator: torch.Generator = ABSENT
    server_round: int = 0
    parts: Parts = field(default_factory=dict)
    state: State = field(default_factory=dict)

    @property
    def available(self) -> frozenset[str]:
        """The names of what is there, as `needs` spells them."""
        plain = {f.name for f in fields(self) if getattr(self, f.name) is not None} - _STRUCTURAL
        places = {
            f"{side}@{place}"
            for side in ("student_features", "teacher_features")
            for place in getattr(self, side)
        }
        return frozenset(plain | places)

    def frozen_teacher(self) -> "Signals":
        """The same signals without a path for gradients into any teacher."""
        names = ("teacher_logits", "ensemble_logits", "class_means", "class_predictions")
        head = self.teacher_head
        return replace(
            self,
            **{name: x.detach() for name in names if (x := getattr(self, name)) is not None},
            teacher_features={place: z.detach() for place, z in self.teacher_features.items()},
            teacher_head=None if head is None else (head[0].detach(), head[1].detach()),
        )

    def part(self, name: str) -> Callable[..., Tensor]:
        """The trainable part `name`; ConfigError where the step does not train the objective's parts."""
        if name not in self.parts:
            raise ConfigError(f"this step trains no '{name}' for the objective; make_parts creates it")
        return self.parts[name]

    def within(self, prefix: str) -> "Signals":
        """The signals of one term of a combination: its own parts and state."""
        return replace(self, parts=inner(self.parts, prefix), state=inner(self.state, prefix))


_STRUCTURAL = {"student_features", "teacher_features", "server_round", "parts", "state"}


def inner(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose names begin with `prefix/`, without it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in entries.items() if name.startswith(start)}
