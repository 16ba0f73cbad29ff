"""Every objective at every seat: a client that distils the received model, a server that distils its clients.

What does not make sense there is refused in one sentence, before anything is trained.
"""

from typing import Any

import pytest
import torch

from clients.distil import Distil
from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.generators.ensemble import Ensemble
from fedkd.generators.noise import Noise
from fedkd.generators.schemes import InTurns
from fedkd.generators.terms import Terms
from fedkd.generators.train import Optim
from fedkd.models.build import initialise
from fedkd.models.cnn import cnn4
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.catalog import catalog
from fedkd.objectives.combined import Combined
from fedkd.objectives.mst import MST
from fedkd.objectives.ofa import OFA
from fedkd.objectives.seats import check_server
from fedkd.training.loop import Trainer
from fedkd.training.program import part
from fedkd.training.settings import LocalSettings

SHAPE, CLASSES = (1, 16, 16), 3
VARIANTS: dict[str, Objective] = {
    **{name: cls() for name, cls in catalog().items()},
    "ofa_exits": Combined(["ce", OFA(exits=(1, -1))]),
    "kdpp": Combined(["ce", "kd", "nd"]),
}
REFUSED_AT_CLIENT = {
    "bdkd_online": "trains its teacher",
    "dett": "predicts with heads of its own",
    "dho": "predicts with heads of its own",
    "ffg2m": "needs edges",
    "kd3": "predicts with heads of its own",
    "lelp": "predicts with heads of its own",
    "mst": "needs ensemble_logits",
    "tgeo": "learns from validation data",
}
AT_SERVER = {"bdkd", "combined", "ce", "dackl", "jsd", "kd", "mst", "ofa", "pld", "reverse_kl"}
AT_SERVER |= {"ofa_exits", "selfdistill", "sinkd", "sinkd_sample", "taid"}

REFUSED_AT_SERVER = r"needs .*, which a server that distils|(trains its teacher|predicts|learns).*, which"


def network(seed: int) -> StagedModel:
    return initialise(lambda: cnn4(SHAPE, CLASSES, width=2), seed)


def samples(seed: int) -> Samples:
    draw = torch.Generator().manual_seed(seed)
    return Samples(torch.randn(10, *SHAPE, generator=draw), torch.arange(10) % CLASSES, torch.arange(10))


@pytest.mark.parametrize("name", VARIANTS)
def test_at_a_client(name: str) -> None:
    """One round moves every layer; parts move too, memory is kept, and nothing else is sent."""
    objective = VARIANTS[name]
    if name in REFUSED_AT_CLIENT:
        with pytest.raises(ConfigError, match=REFUSED_AT_CLIENT[name]):
            Distil(objective)
        return
    program = Distil(Combined(["ce", objective]))  # a model learns nothing from itself alone
    trainer = Trainer(network(0), LocalSettings(batch_size=5, lr=0.1, clip_norm=1.0))
    received = {n: t.clone() for n, t in network(1).state_dict().items()}
    data = ClientData(0, "0", samples(0), samples(1), samples(2), CLASSES)
    task = trainer.task(data, received, received, seed=3, server_round=1)
    reply = trainer.drive(program.work(task, {}), task)
    assert reply.upload.keys() == {"arrays"} and reply.upload["arrays"].keys() == received.keys()
    sent = reply.upload["arrays"]
    assert all(t.isfinite().all() for t in sent.values())
    assert all(t.dim() < 2 or not torch.equal(t, received[n]) for n, t in sent.items())
    assert part(reply.state, "memory").keys() == program.objective.init().keys()
    assert all(n.partition(".")[0] in ("parts", "memory") for n in reply.state)


@pytest.mark.parametrize("name", VARIANTS)
def test_at_a_server(name: str) -> None:
    """Two teachers speak about noise; the student moves, and so does a gate."""
    objective = VARIANTS[name]
    if name not in AT_SERVER:
        with pytest.raises(ConfigError, match=REFUSED_AT_SERVER):
            check_server(objective, labels=True)
        return
    check_server(objective, labels=True)
    teachers = Ensemble([network(1), network(2)], torch.ones(2, CLASSES))
    student, rng = network(0), torch.Generator().manual_seed(0)
    before = {n: t.clone() for n, t in student.state_dict().items()}
    settings: dict[str, Any] = {"generator_steps": 0, "student_steps": 2, "batch_size": 6, "loops": 2}
    scheme = InTurns(Terms(), objective=objective, student_optim=Optim("sgd", 0.1, clip=1.0), **settings)
    history = scheme(teachers, student, Noise({0: SHAPE}, CLASSES), rng)
    assert len(history) == 2 and all(torch.tensor(row["student"]).isfinite() for row in history)
    assert any(not torch.equal(before[n], t) for n, t in student.state_dict().items())


def test_exits_at_a_server_reach_the_layers_below_them() -> None:
    """The exit sits after the second block: with it the blocks above move as without, those below do not."""
    teachers, ends = Ensemble([network(1)], torch.ones(1, CLASSES)), []
    for weight in (0.0, 1.0):
        student, rng = network(0), torch.Generator().manual_seed(0)
        objective = OFA(exits=(2,), exit_weight=weight)
        steps: dict[str, Any] = {"generator_steps": 0, "student_steps": 1, "batch_size": 6, "loops": 1}
        scheme = InTurns(Terms(), objective=objective, student_optim=Optim("sgd", 0.1, momentum=0), **steps)
        scheme(teachers, student, Noise({0: SHAPE}, CLASSES), rng)
        ends.append(student.state_dict())
    moved = {int(n.split(".")[1]) for n, t in ends[0].items() if not torch.equal(t, ends[1][n])}
    assert moved == {0, 1}


def test_labels_only_where_inputs_have_them() -> None:
    check_server(MST(task=0.0), labels=False)
    with pytest.raises(ConfigError, match=r"objective=mst needs labels, which a server"):
        check_server(MST(), labels=False)
