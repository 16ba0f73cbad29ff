"""Clients trained together equal clients trained one after another: float64, 1e-12, models and methods."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from clients.apfl import APFL
from clients.ditto import Ditto
from clients.fedala import FedALA
from clients.fedavg import FedAvg
from clients.feddyn import FedDyn
from clients.fednova import FedNova
from clients.fedntd import FedNTD
from clients.fedrod import FedRoD
from clients.local import Local
from clients.moon import Moon
from clients.mutual import FML
from clients.perfedavg import PerFedAvg
from clients.pfedme import PFedMe
from clients.scaffold import Scaffold
from clients.split import FedRep
from fedkd.data.samples import ClientData, Samples
from fedkd.models import build_model
from fedkd.models.staged import StagedModel
from fedkd.protocol import ARRAYS, CONTROL, SNAPSHOT_STEP
from fedkd.training import cohort
from fedkd.training.cohort import Seat, drive_together
from fedkd.training.loop import Trainer
from fedkd.training.program import ClientProgram, Phase, State, Task, Work
from fedkd.training.progress import DivergedError
from fedkd.training.settings import LocalSettings

MODELS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "mlp": ((1, 8, 8), {"hidden": [6]}),
    "mlp norm": ((1, 8, 8), {"_target_": "fedkd.models.mlp.mlp", "hidden": [6], "norm": "batch"}),
    "tabular": ((7,), {"_target_": "fedkd.models.mlp.tabular"}),
    "cnn": ((1, 8, 8), {"_target_": "fedkd.models.cnn.cnn", "channels": [2, 3], "hidden": 5}),
    "cnn4": ((3, 16, 16), {"_target_": "fedkd.models.cnn.cnn4", "width": 2}),
    "cnn4 batch": ((3, 16, 16), {"_target_": "fedkd.models.cnn.cnn4", "width": 2, "norm": "batch"}),
    "cnn1d": ((2, 16), {"_target_": "fedkd.models.cnn.cnn1d", "channels": [2, 3], "hidden": 4}),
    "resnet8": ((3, 8, 8), {"_target_": "fedkd.models.resnet.resnet8", "width": 2}),
    "resnet18": ((3, 16, 16), {"_target_": "fedkd.models.resnet.resnet18", "width": 2, "norm": "batch"}),
    "charlm": ((9,), {"_target_": "fedkd.models.charlm.charlm", "width": 4}),
}
SIZES = (11, 8, 11, 5, 3)
"""Training samples of each client: with batches of four some end early, or in a smaller batch."""


def network_of(name: str) -> StagedModel:
    shape, node = MODELS[name]
    node = {"_target_": "fedkd.models.mlp.mlp", **node}
    return build_model(node, shape, 3, seed=0).double()


def samples(network: StagedModel, size: int, draw: torch.Generator) -> Samples:
    text = network.dtype == torch.int64
    shape = (size, *network.input_shape)
    x = torch.randint(3, shape, generator=draw) if text else torch.randn(shape, generator=draw).double()
    return Samples(x, torch.randint(3, (size,), generator=draw), torch.arange(size))


class Group:
    """Five clients of one program, for as many rounds as a test wants."""

    def __init__(self, program: ClientProgram, model: str = "cnn", **settings: Any) -> None:
        network = network_of(model)
        self.program, self.initial = program, {k: v.clone() for k, v in network.state_dict().items()}
        self.trainer = Trainer(network, LocalSettings(**{"batch_size": 4, "lr": 0.05, **settings}))
        draw = torch.Generator().manual_seed(1)
        self.data = [samples(network, size, draw) for size in SIZES]
        self.states: list[State] = [{} for _ in SIZES]

    def task(self, k: int, number: int, **config: Any) -> Task:
        data = ClientData(k, str(k), self.data[k], self.data[k], self.data[k], 3)
        shift = 0.01 * number  # what a server would have made of the rounds before
        received = {n: v + shift if v.is_floating_point() else v for n, v in self.initial.items()}
        control = {n: torch.full_like(v, 0.02) for n, v in received.items() if v.is_floating_point()}
        rest = {"config": config, "knowledge": {CONTROL: control}}
        return self.trainer.task(data, self.initial, received, seed=3, server_round=number, **rest)

    def seats(self, number: int, **config: Any) -> list[Seat]:
        tasks = [self.task(k, number, **config) for k in range(len(SIZES))]
        return [
            Seat(self.program.work(task, state), task) for task, state in zip(tasks, self.states, strict=True)
        ]

    def rounds(self, together: bool, **config: Any) -> list[Seat]:
        """Two rounds; the seats of the last one."""
        for number in (1, 2):
            seats = self.seats(number, **config)
            if together:
                drive_together(self.trainer, seats)
            else:
                for seat in seats:
                    drive_together(self.trainer, [seat])
            self.states = [seat.result.state or {} for seat in seats]
        return seats


def furthest(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((float((one[n].double() - other[n].double()).abs().max()) for n in one), default=0.0)


def assert_same(program: Any, model: str = "cnn", stacked: bool = True, **settings: Any) -> None:
    cohort._told.clear()
    together = Group(program, model, **settings).rounds(True)
    assert bool(cohort._told) != stacked, cohort._told
    for seat, alone in zip(together, Group(program, model, **settings).rounds(False), strict=True):
        assert seat.error is None and alone.error is None
        mine, theirs = seat.result, alone.result
        assert mine.upload.keys() == theirs.upload.keys() and mine.metrics == pytest.approx(theirs.metrics)
        assert all(furthest(mine.upload[name], theirs.upload[name]) < 1e-12 for name in mine.upload)
        assert furthest(mine.state or {}, theirs.state or {}) < 1e-12
        assert furthest(mine.trained, theirs.trained) < 1e-12
        assert seat.progress.samples == alone.progress.samples
        assert seat.progress.first_loss == pytest.approx(alone.progress.first_loss, abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_trained_as_if_alone(model: str) -> None:
    assert_same(FedAvg(), model, momentum=0.5, weight_decay=0.01)


PROGRAMS = [
    Local(),
    Ditto(strength=0.5),
    FedDyn(),
    FedNova(),
    FedNTD(),
    FedRoD(),
    Moon(),
    FML(),
    PFedMe(),
    Scaffold(),
    FedRep(),
    APFL(),
    FedALA(),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: type(program).__name__)
def test_every_method_is_trained_as_if_alone(program: ClientProgram) -> None:
    assert_same(program)


def test_local_settings_hold_for_each_client() -> None:
    assert_same(FedAvg(), clip_norm=0.01)
    assert_same(FedAvg(), optimizer="adam", steps=3)
    assert_same(FedAvg(), epochs=2, augment="crop_flip")


def test_what_cannot_be_vectorised_is_trained_one_after_another_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert_same(PerFedAvg(), stacked=False)
    assert "clients are trained one after another under clients.perfedavg" in caplog.text

    class Closure(ClientProgram):
        def work(self, task: Task, state: State) -> Work:
            trained = yield Phase(task.received, lambda model, batch, fixed: self.loss(model, batch, fixed))
            return self.reply(trained)

    caplog.clear()
    assert_same(Closure(), stacked=False)
    assert "no two clients' phases are alike" in caplog.text


def test_snapshots_are_those_of_each_client() -> None:
    together = Group(FedAvg()).rounds(True, **{SNAPSHOT_STEP: 2})
    alone = Group(FedAvg()).rounds(False, **{SNAPSHOT_STEP: 2})
    assert [len(seat.progress.snapshots) for seat in together] == [1, 1, 1, 1, 0]  # three samples: one step
    for mine, theirs in zip(together[:4], alone[:4], strict=True):
        moments = [seat.progress.snapshot_of(seat.result.upload[ARRAYS]) for seat in (mine, theirs)]
        assert furthest(*moments) < 1e-12
        moved = furthest(moments[0], mine.result.trained) > 0
        assert moved == (mine.progress.samples > 8)  # with eight or five samples the second step is the last


def test_a_client_that_diverges_or_raises_leaves_the_others_alone() -> None:
    group = Group(FedAvg())
    group.data[1] = Samples(group.data[1].x * 1e300, group.data[1].y, group.data[1].ids)
    seats = group.seats(1)
    seats[3].work.close()  # a generator that ends without a word
    drive_together(group.trainer, seats)
    alone = Group(FedAvg()).seats(1)
    assert isinstance(seats[1].error, DivergedError)
    for k in (0, 2, 4):
        drive_together(group.trainer, [alone[k]])
        assert furthest(seats[k].result.trained, alone[k].result.trained) < 1e-12


def test_the_rule_is_a_function_of_the_device() -> None:
    assert cohort.stacks("cuda") and not cohort.stacks("cpu")
