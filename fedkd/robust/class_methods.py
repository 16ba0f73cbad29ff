"""How a training run treats its classes, as a transform around any distillation objective.

    state = method.begin(prior, margins)            before training
    state = method.update(val_risks, state)         once a round
    s     = method.adjust(s, state)                 the signals of a batch, before the objective
    loss, state = method.total(values, labels, state)
    shift = method.finish(val_logits, val_targets, state)     added to the finished network's logits

`risk` names the objective over class risks (`fedkd.robust.worst_class`): standard, balanced, robust, or
tradeoff with `alpha`. Methods that are an objective of their own take `risk=standard` alone. A state is a
plain dict; `gains (M,)` and `multipliers (M,)` in it are what a run folder records.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.errors import ConfigError
from fedkd.objectives.signals import Signals
from fedkd.robust.class_baselines import GroupDRO, ada_alpha, ada_margin_gains, logit_adjusted, post_shift
from fedkd.robust.prior_shift import prior_shift
from fedkd.robust.worst_class import OBJECTIVES, ClassMultipliers, shift
from fedkd.schedule import Value

State = dict[str, Any]


class ClassMethod:
    """Base: training as if there were no classes. Subclasses override what differs.

    risk, alpha: see above; who trains passes them on
    """

    name = ""
    risks: ClassVar[tuple[str, ...]] = ("standard",)
    needs: ClassVar[frozenset[str]] = frozenset()
    """Signals that `adjust` reads, by the names of `Signals`."""
    weighs: ClassVar[bool] = False
    """Whether `total` weights samples, so that the objective must give one value a sample."""

    def __init__(self, risk: str, alpha: float) -> None:
        if risk not in OBJECTIVES:
            raise ConfigError(f"risk={risk}: one of {', '.join(OBJECTIVES)} is needed")
        if risk not in self.risks:
            raise ConfigError(f"risk={risk} with method={self.name}: {' or '.join(self.risks)} is needed")
        self.risk, self.alpha = risk, alpha

    def shifts(self, signals: frozenset[str]) -> bool:
        """Whether `adjust` must find the student's logits among the objective's `signals`, for it to act."""
        return False

    def begin(self, prior: np.ndarray, margins: Tensor | None = None) -> State:
        """The state before training.

        prior: (M,) class priors of the training targets; margins: (M,) the teacher's, `teacher_margins`
        """
        uniform = np.full(len(prior), 1 / len(prior))
        return {"prior": prior, "gains": np.ones(len(prior)), "multipliers": uniform}

    def update(self, risks: np.ndarray, state: State) -> State:
        """The state after validation risks (M,), NaN where a class is absent."""
        return state

    def adjust(self, s: Signals, state: State) -> Signals:
        """The signals as the objective is to see them."""
        return s

    def total(self, values: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        """The loss of a batch from the objective's values, (B,) or a scalar."""
        return values.mean(), state

    def finish(self, logits: Tensor, targets: Tensor, state: State) -> Tensor | None:
        """A shift (M,) of the finished network's logits, from validation data; None for none."""
        return None


class Margin(ClassMethod):
    """Worst-class training by margins (Wang et al., UAI 2023, arXiv 2206.06479); `risk` decides the gains.

    An objective that reads `class_costs` gets the gains there; any other sees shifted student logits. At
    `risk=standard` nothing at all is changed.

    gamma: step of the multipliers, one a round; warmup: rounds without a step; floor: smallest multiplier
    """

    name = "margin"
    risks = OBJECTIVES

    def __init__(
        self, risk: str, alpha: float, gamma: Value = 0.1, warmup: int = 5, floor: float = 1e-6
    ) -> None:
        super().__init__(risk, alpha)
        self.adversary = ClassMultipliers(risk, alpha, gamma, warmup, floor)

    def shifts(self, signals: frozenset[str]) -> bool:
        return self.risk != "standard" and "class_costs" not in signals

    def begin(self, prior: np.ndarray, margins: Tensor | None = None) -> State:
        return self._seen(super().begin(prior) | {"adversary": self.adversary.init(len(prior))})

    def update(self, risks: np.ndarray, state: State) -> State:
        return self._seen({**state, "adversary": self.adversary.update(risks, state["adversary"])})

    def adjust(self, s: Signals, state: State) -> Signals:
        if self.risk == "standard":
            return s
        if s.class_costs is not None:
            return replace(s, class_costs=torch.as_tensor(state["gains"], dtype=s.class_costs.dtype))
        return replace(s, student_logits=shift(s.student_logits, state["gains"]))

    def _seen(self, state: State) -> State:
        adversary = state["adversary"]
        gains = self.adversary.gains(adversary, state["prior"])
        return {**state, "gains": gains, "multipliers": self.adversary.multipliers(adversary)}


class GroupDROTraining(ClassMethod):
    """Group DRO on training losses (Sagawa et al., arXiv 1911.08731), or group-DRO distillation.

    gamma: step of the multipliers, one a batch
    """

    name = "group_dro"
    weighs = True

    def __init__(self, risk: str, alpha: float, gamma: Value = 0.01) -> None:
        super().__init__(risk, alpha)
        self.dro = GroupDRO(gamma)

    def begin(self, prior: np.ndarray, margins: Tensor | None = None) -> State:
        return super().begin(prior) | {"dro": self.dro.init(len(prior))}

    def total(self, values: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        loss, dro = self.dro.step(values, labels, state["dro"])
        return loss, {**state, "dro": dro, "multipliers": np.exp(dro["tilt"]) / np.exp(dro["tilt"]).sum()}


class LogitAdjustment(ClassMethod):
    """Logit adjustment (Menon et al., arXiv 2007.07314): the balanced objective at tau = 1."""

    name = "logit_adjustment"

    def __init__(self, risk: str, alpha: float, tau: float = 1.0) -> None:
        super().__init__(risk, alpha)
        self.tau = tau

    def shifts(self, signals: frozenset[str]) -> bool:
        return True

    def adjust(self, s: Signals, state: State) -> Signals:
        return replace(s, student_logits=logit_adjusted(s.student_logits, state["prior"], self.tau))


class AdaAlpha(ClassMethod):
    """AdaAlpha (Lukasik et al., arXiv 2106.10494; reconstructed): no teacher where it is wrong on average."""

    name = "ada_alpha"
    needs = frozenset({"teacher_logits", "labels"})

    def begin(self, prior: np.ndarray, margins: Tensor | None = None) -> State:
        return super().begin(prior) | {"margins": margins}

    def adjust(self, s: Signals, state: State) -> Signals:
        mixed = ada_alpha(F.softmax(s.teacher_logits, dim=1), s.labels, state["margins"].to(s.teacher_logits))
        return replace(s, teacher_logits=mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log())


class AdaMargin(ClassMethod):
    """AdaMargin (Lukasik et al., arXiv 2106.10494; this form is ours): margins from the teacher's margins.

    least: smallest teacher margin that is told apart
    """

    name = "ada_margin"
    needs = frozenset({"teacher_logits"})

    def __init__(self, risk: str, alpha: float, least: float = 0.05) -> None:
        super().__init__(risk, alpha)
        if not least > 0:
            raise ConfigError(f"least={least} of ada_margin: a positive number is needed")
        self.least = least

    def shifts(self, signals: frozenset[str]) -> bool:
        return True

    def begin(self, prior: np.ndarray, margins: Tensor | None = None) -> State:
        assert margins is not None
        return super().begin(prior) | {"gains": ada_margin_gains(margins, self.least)}

    def adjust(self, s: Signals, state: State) -> Signals:
        return replace(s, student_logits=shift(s.student_logits, state["gains"]))


class PostShift(ClassMethod):
    """Standard training, then a shift of the logits for `risk` that is fitted on validation data."""

    name = "post_shift"
    risks = OBJECTIVES[1:]

    def __init__(self, risk: str, alpha: float, gamma: float = 0.1, updates: int = 200) -> None:
        super().__init__(risk, alpha)
        self.settings: Mapping[str, Any] = {"gamma": gamma, "updates": updates}

    def finish(self, logits: Tensor, targets: Tensor, state: State) -> Tensor | None:
        return post_shift(logits, targets, state["prior"], self.risk, self.alpha, **self.settings)


class PriorShift(ClassMethod):
    """Standard training, then a shift robust to class priors within `delta` of uniform; see `prior_shift`."""

    name = "prior_shift"

    def __init__(
        self, risk: str, alpha: float, delta: float = 0.9, gamma: float = 0.1, updates: int = 200
    ) -> None:
        super().__init__(risk, alpha)
        self.settings: Mapping[str, Any] = {"delta": delta, "gamma": gamma, "updates": updates}

    def finish(self, logits: Tensor, targets: Tensor, state: State) -> Tensor | None:
        return prior_shift(logits, targets, state["prior"], **self.settings)
