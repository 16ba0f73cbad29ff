"""The model as it was after some local steps, which DRFA's clients send beside the trained one."""

from collections.abc import Generator, Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.models.mlp import mlp
from fedkd.training.loop import Trainer
from fedkd.training.program import Batch, Params, Phase, Task
from fedkd.training.settings import LocalSettings

HEAD, BODY = "blocks.1", "blocks.0"


def ce(model: object, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y, reduction="none")  # type: ignore[operator]


def setup(**config: int) -> tuple[Trainer, Task]:
    draw = torch.Generator().manual_seed(0)
    samples = Samples(torch.randn(12, 3, generator=draw), torch.arange(12) % 2, torch.arange(12))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = mlp((3,), 2, hidden=(4,))
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trainer = Trainer(network, LocalSettings(steps=5, batch_size=4, lr=0.1))
    data = ClientData(0, "0", samples, samples, samples, 2)
    return trainer, trainer.task(data, start, start, seed=1, server_round=1, config=config)


def whole(task: Task, steps: int | None = None) -> Generator[Phase, Params, Params]:
    return (yield Phase(task.received, ce, steps=steps))


def split(task: Task) -> Generator[Phase, Params, tuple[Params, Params]]:
    """First the head, then the body, as FedRep trains."""
    first = yield Phase(task.received, ce, moves=lambda name: name.startswith(HEAD))
    return first, (yield Phase(first, ce, moves=lambda name: name.startswith(BODY)))


def assert_equal(got: Params, want: Params) -> None:
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in got)


@pytest.mark.parametrize("moment", [1, 3, 5])
def test_a_snapshot_is_the_model_that_fewer_steps_would_give(moment: int) -> None:
    trainer, task = setup()
    short = trainer.drive(whole(task, steps=moment), task)
    assert trainer.progress.snapshots == []
    trainer, task = setup(**{"snapshot-step": moment})
    trained = trainer.drive(whole(task), task)
    assert_equal(trainer.progress.snapshot_of(trained), short)
    part = {name: tensor for name, tensor in trained.items() if name.startswith(BODY)}
    assert_equal(trainer.progress.snapshot_of(part), {name: short[name] for name in part})


def test_the_snapshot_is_of_the_phase_that_trained_what_is_sent() -> None:
    trainer, task = setup(**{"snapshot-step": 2})
    _, second = trainer.drive(split(task), task)
    (_, head), (_, body) = trainer.progress.snapshots
    sent = {name: tensor for name, tensor in second.items() if name.startswith(BODY)}
    assert_equal(trainer.progress.snapshot_of(sent), {name: body[name] for name in sent})
    sent = {name: tensor for name, tensor in second.items() if name.startswith(HEAD)}
    assert_equal(trainer.progress.snapshot_of(sent), {name: head[name] for name in sent})


def test_what_was_not_trained_has_no_snapshot() -> None:
    trainer, task = setup(**{"snapshot-step": 2})
    trained = trainer.drive(whole(task), task)
    with pytest.raises(ConfigError, match="does not send the model it trained"):
        trainer.progress.snapshot_of({name: tensor + 1 for name, tensor in trained.items()})
