"""FedD2S as specified here, under the no-harm rule: a client ends at a cut, or alone, as validation says.

Each client also trains a twin that never hears of the federation, on the same batches: the very model of
local-only training. It uses what its validation split prefers among the present model, the best of those with
which it left earlier cuts, and the twin; the twin wins ties of accuracy only by a lower loss. Local work
doubles. Reconstructed (section 5 of the specification); see `fedkd.personalization.no_harm` for the bound.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, ClassVar

import torch

from clients.fedd2s import FedD2S
from fedkd.personalization.no_harm import accuracy, margin, preferred
from fedkd.protocol import ALONE, CUT, HARM_MARGIN, HARMED
from fedkd.training.program import ClientProgram, Params, Phase, State, Task, Work, joined, part

_TWIN, _KEPT, _CUT, _LEFT = "twin", "kept", "cut", "cuts_left"


class NoHarm(FedD2S):
    """FedD2S beside a local twin, of which a client uses the better one."""

    search_space: ClassVar[dict[str, Any]] = {
        **{key: values for key, values in FedD2S.search_space.items() if not key.endswith(".rate")},
        "method.strategy.schedule.patience": [1, 2, 4],
    }

    def work(self, task: Task, state: State) -> Work:
        twin = yield Phase(part(state, _TWIN) or task.initial, self.loss)
        trained = yield replace(self.phase(task, self.start(task, state)), replay=True)
        kept, left = self._kept(task, state)
        candidates = [trained, *([kept] if kept else []), twin]
        chosen = candidates[preferred(task.predict, candidates, task.data.val)]
        reply = self.answer(task, trained)
        marks = {_CUT: torch.tensor(int(task.config[CUT])), _LEFT: torch.tensor(left)}
        reply.state = trained | joined(**{_TWIN: twin, _KEPT: kept}) | marks
        reply.trained = chosen
        reply.metrics |= self._harm(task, chosen, twin, (left + 1) * len(self._present(task, state)))
        return reply

    def personalize(self, task: Task, state: State) -> Generator[Phase, Params, Params | None]:
        models = [
            model for model in (*self._present(task, state), part(state, _KEPT), part(state, _TWIN)) if model
        ]
        return models[preferred(task.predict, models, task.data.val)]
        yield  # a generator that trains nothing

    def _present(self, task: Task, state: State) -> list[Params]:
        """The client's model; where bodies are averaged also as the client itself left it."""
        start = self.start(task, state)
        return [start, ClientProgram.start(self, task, state)] if task.received and state else [start]

    def _kept(self, task: Task, state: State) -> tuple[Params, int]:
        """The best of the models with which earlier cuts were left, and how many cuts that were."""
        kept, left = part(state, _KEPT), int(state.get(_LEFT, torch.tensor(0)))
        if _CUT not in state or int(state[_CUT]) == int(task.config[CUT]):
            return kept, left
        leaving = [*self._present(task, state), *([kept] if kept else [])]
        return leaving[preferred(task.predict, leaving, task.data.val)], left + 1

    def _harm(self, task: Task, chosen: Params, twin: Params, choices: int) -> dict[str, float]:
        """For the record alone: whether the twin is used, is better on the test split, and the margin."""
        test = task.data.test
        worse = len(test) > 0 and accuracy(task.predict, chosen, test) < accuracy(task.predict, twin, test)
        return {
            ALONE: float(chosen is twin),
            HARMED: float(worse),
            HARM_MARGIN: margin(choices, len(task.data.val)),
        }
