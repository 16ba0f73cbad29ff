"""FedAvg whose clients learn from the model they receive, under any objective that a client can serve.

The student starts from the received weights w and is trained on `objective`, with w, frozen, as its teacher;
what it ends with is averaged. With `objective=ce` this is FedAvg, with [ce, kd] distillation against
forgetting. What an objective trains beside the student (exit heads, projectors) and what it remembers
(TAID's t) stay at the client, in its state, from its first participation on. What it learns from the teacher
once (class means, costs) is learnt anew each round, on the client's training split.
"""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective, Observed, Shapes, make_parts
from fedkd.objectives.combined import Combined
from fedkd.objectives.seats import check_client
from fedkd.objectives.signals import EMBEDDING, Signals
from fedkd.objectives.taps import head_of, observe, shapes_between, tap
from fedkd.protocol import ARRAYS
from fedkd.seeds import rng
from fedkd.training.program import Batch, ClientProgram, Loss, Phase, Reply, State, Task, Work, joined, part

STUDENT, PARTS, MEMORY = "student", "parts", "memory"


class Distil(ClientProgram):
    """Train under an objective towards the received model, and send the result.

    objective: by default CE + KD; see docs/objectives.md
    rounds: of the run, for objectives that go by how much of it is done (TAID)
    """

    search_space: ClassVar[dict[str, Any]] = ClientProgram.search_space

    def __init__(self, objective: Objective | None = None, rounds: int = 1) -> None:
        self.objective = Combined(("ce", "kd")) if objective is None else objective
        if rounds < 1:
            raise ConfigError(f"method.client.rounds={rounds}: a whole number from 1 is needed")
        self.rounds = rounds
        check_client(self.objective)

    def check(self, network: StagedModel) -> None:
        make_parts(self.objective, self._shapes(network), seed=0)

    def start(self, task: Task, state: State) -> dict[str, Tensor]:
        return dict(task.received)

    def work(self, task: Task, state: State) -> Work:
        seed = int(rng(task.seed, "objective parts", task.data.client).integers(2**31))
        parts = make_parts(self.objective, self._shapes(task.network), seed)
        parts.to(next(iter(task.received.values())).device)
        memory = part(state, MEMORY) or self.objective.init()
        held = part(state, PARTS) or {n: t.detach().clone() for n, t in parts.state_dict().items()}
        loss = self.towards(task, memory)
        trained = yield Phase(
            joined(student=task.received, parts=held),
            loss,
            networks=(STUDENT, PARTS),
            beside={PARTS: parts},
        )
        student = part(trained, STUDENT)
        kept = joined(parts=part(trained, PARTS), memory=memory)
        return Reply({ARRAYS: student}, state=kept, trained=student)

    def towards(self, task: Task, memory: State) -> Loss:
        """The objective's loss; `memory` is moved with every step."""
        teacher = copy.deepcopy(task.network).eval().requires_grad_(False)
        teacher.load_state_dict(task.received)
        once = self.learnt(task, teacher)
        draw, progress = task.rng("objective"), task.server_round / self.rounds

        def loss(models: Any, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
            with torch.no_grad():
                told = observe(self.objective, "teacher", teacher, batch.x)
            s = Signals(
                **observe(self.objective, "student", models[STUDENT], batch.x),
                **told,
                **once,
                labels=batch.y,
                generator=draw,
                server_round=task.server_round,
                parts=dict(models[PARTS].items()),
                state=dict(memory),
            )
            values = self.objective(s)
            memory.update(self.objective.advance(s, min(progress, 1.0)))
            return values

        return loss

    @torch.no_grad()
    def learnt(self, task: Task, teacher: StagedModel) -> dict[str, Any]:
        """What the objective takes from the teacher once, on the client's training split."""
        train = task.data.train
        if type(self.objective).learn is Objective.learn:
            return {}
        logits, features = tap(teacher, train.x, (EMBEDDING,))
        seen = Observed(logits, features[EMBEDDING], train.y, head_of(teacher))
        return self.objective.learn(seen, task.seed)

    def _shapes(self, network: StagedModel) -> Shapes:
        return shapes_between(self.objective, network, network, network.shapes[-1][0])
