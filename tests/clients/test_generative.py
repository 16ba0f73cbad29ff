"""FedGen's, DaFKD's and CCVR's clients: losses by hand, what they send, and FedAvg where switched off."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from clients.ccvr import CCVR
from clients.dafkd import DaFKD
from clients.fedavg import FedAvg
from clients.fedgen import FedGen, LabelCounts, generator_terms
from fedkd.errors import ConfigError
from fedkd.generators.base import Generator, volume
from fedkd.generators.discriminator import Discriminator, Game, discriminator_of
from fedkd.generators.recipe import recipe
from fedkd.models.mlp import mlp
from fedkd.protocol import ARRAYS, ASK, CUT, DISCRIMINATOR, GENERATOR, LABEL_COUNTS, STATISTICS
from fedkd.schedule import Step
from fedkd.seeds import torch_rng
from fedkd.training.program import Batch, Params, Reply, Task

Make = Callable[..., Any]
LATENT = recipe({"_target_": "fedkd.generators.latent.Latent", "nz": 2, "hidden": 8})


class Table(Generator):
    """Sample y is row y of a table, whatever the noise."""

    def __init__(self, shapes: Any, num_classes: int) -> None:
        super().__init__(shapes, num_classes, nz=1)
        self.rows = torch.nn.Parameter(torch.zeros(num_classes, volume(self.shape)))

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.rows[labels]


def table(shapes: Any, num_classes: int, rng: torch.Generator) -> Table:
    return Table(shapes, num_classes)


def told(local: Any, held: list[bool], rows: torch.Tensor, server_round: int = 2) -> Task:
    knowledge = {GENERATOR: {"rows": rows}, LABEL_COUNTS: {"held": torch.tensor(held)}}
    return replace(local.task(server_round=server_round), knowledge=knowledge, config={CUT: 1})


def drive(local: Any, program: FedAvg, task: Task) -> Reply:
    reply: Reply = local.trainer.drive(program.work(task, {}), task)
    return reply


# -- FedGen ------------------------------------------------------------------------------------------------


def test_the_terms_are_kl_towards_the_own_latents_and_ce_on_drawn_ones_in_proportion() -> None:
    network = mlp((2,), 2, hidden=(2,))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.blocks[1][0].weight.copy_(torch.eye(2))  # the head hands latents through as logits
    own = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    drawn = {"z": torch.tensor([[1.0, 0.0], [0.0, 0.0], [3.0, 0.0]]), "y": torch.tensor([0, 1, 1])}
    logits = torch.tensor([[0.5, 0.0], [0.0, 0.0]], requires_grad=True)
    batch = Batch(torch.zeros(2, 2), torch.tensor([0, 1]), {"z": own})
    p, log_q = own.softmax(1), logits.log_softmax(1)
    divergence = -(p * log_q).sum(1)  # but for a constant
    drawn_loss = sum(-drawn["z"].log_softmax(1)[i, y] for i, y in enumerate(drawn["y"].tolist())) / 2
    terms = generator_terms(network, log_q, batch, drawn, 1, 0.5, 2.0)
    torch.testing.assert_close(terms, 2.0 * divergence + 0.5 * drawn_loss)
    only_kl = generator_terms(network, logits.log_softmax(1), batch, drawn, 1, 0.0, 1.0).sum()
    head = network.blocks[1][0].weight
    of_target, of_logits = torch.autograd.grad(only_kl, [head, logits], allow_unused=True)
    assert of_logits.abs().sum() > 0 and (of_target is None or not of_target.any())


def test_one_guided_step_by_hand_and_the_reported_loss_is_the_cross_entropy(bench: Make) -> None:
    """Only class 1 is held, so every drawn sample is row 1; the own latents are the rows of the labels."""
    local, rows = bench(), torch.tensor([[0.1, 0.5, -0.3], [0.7, -0.2, 0.4]])
    program = FedGen(table, label_weight=0.5, latent_weight=2.0, steps=1, batch_size=10)
    reply = drive(local, program, told(local, [False, True], rows))
    leaves = {name: value.clone().requires_grad_() for name, value in local.initial.items()}
    w1, b1, w2, b2 = leaves.values()
    logits = torch.relu(local.x @ w1.T + b1) @ w2.T + b2
    hard = F.cross_entropy(logits, local.y)
    target = (rows[local.y] @ w2.T + b2).detach().log_softmax(1)
    towards = F.kl_div(logits.log_softmax(1), target, reduction="batchmean", log_target=True)
    drawn = F.cross_entropy(rows[1:] @ w2.T + b2, torch.tensor([1]))
    loss = hard + 2.0 * towards + 0.5 * (10 / 5) * drawn
    for name, slope in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        torch.testing.assert_close(reply.upload[ARRAYS][name], local.initial[name] - 0.1 * slope)
    assert local.trainer.progress.first_loss == pytest.approx(hard.item())
    assert reply.upload[LABEL_COUNTS]["counts"].tolist() == [2, 3]


def test_after_its_steps_the_generator_is_silent(bench: Make) -> None:
    """Batches of 2: three steps a pass. One guided step, then what FedAvg would do from there."""
    local, rows = bench(batch_size=2), torch.randn(2, 3, generator=torch_rng(0, "rows"))
    one, two, all_ = (
        drive(local, FedGen(table, steps=steps), told(local, [True, True], rows)).upload[ARRAYS]
        for steps in (1, 3, 100)
    )
    assert local.same(two, all_) and not local.same(one, two)


@pytest.mark.parametrize("settings", [{"momentum": 0.9, "epochs": 2, "batch_size": 2}, {}])
def test_without_a_generator_or_with_weights_zero_it_is_fedavg_bit_for_bit(
    bench: Make, settings: Any
) -> None:
    local = bench(**settings)
    rows = torch.ones(2, 3)
    plain = local.work(FedAvg(), at=2).upload[ARRAYS]
    off = FedGen(table, label_weight=Step([1.0, 0.0], [2]), latent_weight=0.0)
    for reply in (
        local.work(FedGen(table), at=2),
        local.work(LabelCounts(), at=2),
        drive(local, off, told(local, [True, True], rows)),
    ):
        assert local.same(reply.upload[ARRAYS], plain)
        assert set(reply.upload) == {ARRAYS, LABEL_COUNTS}
    on = drive(local, FedGen(table), told(local, [True, True], rows))
    assert not local.same(on.upload[ARRAYS], plain)


@pytest.mark.parametrize(
    "wrong", [{"label_weight": -1.0}, {"latent_weight": -0.1}, {"steps": 0}, {"batch_size": 0}]
)
def test_fedgen_refuses_what_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FedGen(table, **wrong)


# -- DaFKD -------------------------------------------------------------------------------------------------


def judge_of(weight: list[float], bias: float) -> Discriminator:
    judge = Discriminator(torch.nn.Identity(), torch.nn.Linear(len(weight), 1))
    with torch.no_grad():
        judge.judge.weight.copy_(torch.tensor([weight]))
        judge.judge.bias.fill_(bias)
    return judge


def test_the_discriminators_loss_is_two_cross_entropies_and_a_penalty() -> None:
    real, fake = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    judge = judge_of([3.0, 4.0], 0.5)
    right, wrong = torch.tensor([3.5, 8.5]).sigmoid().log(), (-torch.tensor([0.5, 7.5])).sigmoid().log()
    expected = -right.mean() - wrong.mean() + 0.1 * (5.0 - 1.0) ** 2
    torch.testing.assert_close(Game(penalty=0.1).told(judge, real, fake), expected)


def test_a_game_tells_real_from_generated_and_moves_the_generator_towards_real() -> None:
    """Real samples lie at 4; the table starts at 0. Features of the trunk do not move."""
    generator, trunk = Table({0: (1,)}, 2), torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        trunk.weight.fill_(1.0)
    judge = Discriminator(trunk, torch.nn.Linear(1, 1))
    history = Game(steps=40, lr=0.05)(
        generator, judge, torch.full((6, 1), 4.0), torch.tensor([1, 0]), torch_rng(0, "game")
    )
    assert history[0]["discriminator"] == pytest.approx(2 * 0.6931 + 1.0, abs=1e-3)
    assert judge(torch.full((1, 1), 4.0)) > judge(torch.zeros(1, 1))
    assert generator.rows[0, 0] > 0.5 and generator.rows[1, 0] == 0  # class 1 is not held
    assert trunk.weight.item() == 1.0 and not trunk.training


def test_dafkds_classifier_is_fedavgs_and_its_discriminator_its_own(bench: Make) -> None:
    local = bench(epochs=2)
    made = LATENT({0: (2,)}, 2, torch_rng(0, "g")).state_dict()
    program = DaFKD(LATENT, Game(steps=3, batch_size=4), game_rounds=1)

    def once(client: int, at: int, state: Params) -> Reply:
        task = replace(local.task(server_round=at), knowledge={GENERATOR: made})
        task = replace(task, data=replace(task.data, client=client))
        reply: Reply = local.trainer.drive(program.work(task, state), task)
        return reply

    first, other = once(3, 1, {}), once(4, 1, {})
    assert local.same(first.upload[ARRAYS], local.work(FedAvg()).upload[ARRAYS])
    assert set(first.upload) == {ARRAYS, LABEL_COUNTS, GENERATOR, DISCRIMINATOR}
    assert not local.same(first.upload[GENERATOR], made)
    assert not local.same(first.upload[DISCRIMINATOR], other.upload[DISCRIMINATOR])
    later = once(3, 2, first.state)
    assert GENERATOR not in later.upload and local.same(
        later.upload[DISCRIMINATOR], first.upload[DISCRIMINATOR]
    )
    judge = discriminator_of(local.trainer.network, first.trained, first.upload[DISCRIMINATOR])
    weight, bias = first.upload[DISCRIMINATOR]["weight"], first.upload[DISCRIMINATOR]["bias"]
    w1, b1 = list(first.trained.values())[:2]
    torch.testing.assert_close(judge(local.x), (torch.relu(local.x @ w1.T + b1) @ weight.T + bias)[:, 0])


# -- CCVR --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["full", "diagonal", "by_width"])
def test_ccvr_tells_class_statistics_of_the_received_models_features(bench: Make, covariance: Any) -> None:
    local = bench()
    task = replace(local.task(local.shifted(0.2)), config={ASK: STATISTICS})
    reply = drive(local, CCVR(covariance), task)
    w1, b1 = list(local.shifted(0.2).values())[:2]
    z = torch.relu(local.x @ w1.T + b1)
    sent = reply.upload.pop(STATISTICS)
    assert not reply.upload and reply.state is None and reply.trained is None
    assert sent["counts"].tolist() == [2, 3]
    for label in (0, 1):
        own = z[local.y == label]
        torch.testing.assert_close(sent["means"][label], own.mean(0))
        found = own.T.cov().diagonal() if covariance == "diagonal" else own.T.cov()
        torch.testing.assert_close(
            sent["variances" if covariance == "diagonal" else "covariances"][label], found
        )
    assert local.same(local.work(CCVR(covariance)).upload[ARRAYS], local.work(FedAvg()).upload[ARRAYS])


def test_ccvr_refuses_a_last_block_with_other_weights() -> None:
    network = mlp((2,), 2, hidden=(3,))
    network.blocks[-1] = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    with pytest.raises(ConfigError, match="last layer"):
        CCVR().check(network)
