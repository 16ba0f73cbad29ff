"""The training loop against hand-computed steps, and what must hold for every method that uses it."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.models.mlp import mlp
from fedkd.training.batches import slices
from fedkd.training.loop import DivergedError, Trainer
from fedkd.training.program import Batch, ClientProgram, Params, Phase, Task, proximal
from fedkd.training.settings import LocalSettings

X = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [2.0, 1.0], [0.5, 1.5]])
Y = torch.tensor([0, 1, 1, 0, 1])


def client(x: Tensor = X, y: Tensor = Y) -> ClientData:
    samples = Samples(x, y, torch.arange(len(y)) + 100)
    return ClientData(3, "three", samples, samples, samples, 2)


def setup(hidden: tuple[int, ...] = (), **settings: object) -> tuple[Trainer, Task, Params]:
    torch.manual_seed(0)
    network = mlp((2,), 2, hidden=hidden)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trainer = Trainer(network, LocalSettings(**settings))  # type: ignore[arg-type]
    return trainer, trainer.task(client(), start, start, seed=7, server_round=2), start


def ce(model: object, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y, reduction="none")  # type: ignore[operator]


def run(trainer: Trainer, task: Task, phase: Phase) -> Params:
    return trainer.train(phase, task, task.rng("batches"))


def same(a: Params, b: Params) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_one_full_batch_step_is_softmax_regression_by_hand() -> None:
    trainer, task, start = setup(epochs=1, batch_size=5, lr=0.5)
    trained = run(trainer, task, Phase(start, ce))
    weight = next(value for name, value in start.items() if name.endswith("weight"))
    bias = next(value for name, value in start.items() if name.endswith("bias"))
    error = (torch.softmax(X @ weight.T + bias, 1) - F.one_hot(Y, 2)) / 5
    moved = next(value for name, value in trained.items() if name.endswith("weight"))
    torch.testing.assert_close(moved, weight - 0.5 * error.T @ X)
    moved = next(value for name, value in trained.items() if name.endswith("bias"))
    torch.testing.assert_close(moved, bias - 0.5 * error.sum(0))


def test_steps_count_batches_and_the_last_batch_is_kept() -> None:
    sizes: list[int] = []

    def spy(model: object, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
        sizes.append(len(batch.y))
        return ce(model, batch, fixed)

    trainer, task, start = setup(epochs=2, batch_size=2)
    run(trainer, task, Phase(start, spy))
    assert sizes == [2, 2, 1, 2, 2, 1]
    sizes.clear()
    run(trainer, task, Phase(start, spy, steps=4))
    assert sizes == [2, 2, 1, 2]


def test_batch_normalisation_never_meets_a_single_sample() -> None:
    assert slices(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert slices(5, 2, pairs=True) == [slice(0, 2), slice(2, 5)] and slices(6, 2, pairs=True) == slices(6, 2)
    assert slices(1, 2) == [slice(0, 1)] and slices(1, 2, pairs=True) == slices(0, 2) == []
    network = mlp((2,), 2, hidden=(3,), norm="batch")
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trainer = Trainer(network, LocalSettings(batch_size=2, epochs=3))
    task = trainer.task(client(), start, start, seed=7, server_round=2)
    assert run(trainer, task, Phase(start, ce))["blocks.0.2.num_batches_tracked"] == 6
    assert trainer.progress.samples == 15
    alone = trainer.task(client(X[:1], Y[:1]), start, start, seed=7, server_round=2)
    assert same(run(trainer, alone, Phase(start, ce)), start)


def test_a_start_is_left_untouched_and_nothing_is_remembered() -> None:
    trainer, task, start = setup(hidden=(3,), momentum=0.9, batch_size=2)
    before = {name: value.clone() for name, value in start.items()}
    first = run(trainer, task, Phase(start, ce))
    run(trainer, task, Phase(first, ce, epochs=3))
    assert same(start, before)
    assert same(run(trainer, task, Phase(start, ce)), first)
    assert not same(first, start)


def test_only_what_moves_moves() -> None:
    trainer, task, start = setup(hidden=(3,), momentum=0.9, weight_decay=0.1)
    last = max(name.split(".")[1] for name in start)
    trained = run(trainer, task, Phase(start, ce, moves=lambda name: name.split(".")[1] == last))
    for name, value in trained.items():
        assert torch.equal(value, start[name]) == (name.split(".")[1] != last)


def test_proximal_rule_by_hand_and_absent_at_zero() -> None:
    assert proximal({"w": X}, 0.0) is None
    rule = proximal({"w": torch.tensor([1.0, 2.0])}, 0.5)
    gradient = torch.tensor([10.0, 20.0])
    assert rule is not None
    rule(["w"], [torch.tensor([3.0, 2.0])], [gradient])
    assert gradient.tolist() == [11.0, 20.0]


def test_extras_travel_with_their_samples() -> None:
    def check(model: object, batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
        assert torch.equal(batch.extras["twice"], 2 * batch.x) and fixed["one"] == 1
        return ce(model, batch, fixed)

    trainer, task, start = setup(batch_size=2, epochs=2)
    run(trainer, task, Phase(start, check, extras={"twice": 2 * X}, fixed={"one": torch.tensor(1)}))


def test_several_networks_train_together_each_as_if_alone() -> None:
    trainer, task, start = setup(hidden=(3,), batch_size=2)

    def both(models: Mapping[str, object], batch: Batch, fixed: Mapping[str, Tensor]) -> Tensor:
        return ce(models["a"], batch, fixed) + ce(models["b"], batch, fixed)

    params = {f"{which}.{name}": value for which in "ab" for name, value in start.items()}
    trained = run(trainer, task, Phase(params, both, networks=("a", "b")))
    alone = run(trainer, task, Phase(start, ce))
    for name, value in alone.items():
        torch.testing.assert_close(trained[f"a.{name}"], value)
        assert torch.equal(trained[f"a.{name}"], trained[f"b.{name}"])


def test_divergence_is_an_error_that_says_what_to_do() -> None:
    trainer, task, start = setup(hidden=(3,), lr=1e30, epochs=3, batch_size=2)
    with pytest.raises(DivergedError, match=r"lower local\.lr"):
        run(trainer, task, Phase(start, ce))


def test_the_default_program_trains_what_it_received_and_reports_the_first_loss() -> None:
    trainer, task, start = setup(batch_size=5)
    reply = trainer.drive(ClientProgram().work(task, {}), task)
    assert same(reply.upload["arrays"], trainer.train(Phase(start, ce), task, task.rng("batches")))
    logits = trainer.predict(start, X)
    assert trainer.progress.first_loss == pytest.approx(float(F.cross_entropy(logits, Y)), rel=1e-6)


@pytest.mark.parametrize(
    ("bad", "said"),
    [({"epochs": 0}, "local.epochs"), ({"lr": 0.0}, "local.lr"), ({"optimizer": "sdg"}, "sgd, adam, adamw")],
)
def test_bad_settings_are_refused(bad: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LocalSettings(**bad)  # type: ignore[arg-type]
