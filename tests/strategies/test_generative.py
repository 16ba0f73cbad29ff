"""Servers with a generator: hand-made rounds, and tiny whole runs that fall back on FedAvg to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from fedkd.build import locate
from fedkd.data.samples import Samples
from fedkd.errors import ConfigError
from fedkd.generators.base import ema_
from fedkd.generators.ccvr import class_statistics, pool
from fedkd.generators.discriminator import discriminator_of
from fedkd.generators.ensemble import Domain, LabelShare
from fedkd.generators.noise import Held, Noise
from fedkd.generators.recipe import recipe
from fedkd.generators.schemes import InTurns
from fedkd.generators.terms import Fidelity, Terms
from fedkd.models.mlp import mlp
from fedkd.protocol import ARRAYS, ASK, CUT, DISCRIMINATOR, GENERATOR, LABEL_COUNTS, STAGE, STATISTICS
from fedkd.seeds import torch_rng
from fedkd.training.loop import Trainer
from fedkd.training.program import Params
from fedkd.training.settings import LocalSettings
from simulations.config import resolve
from simulations.flower_private import claim_identity
from simulations.run import run
from strategies.ccvr import CCVR
from strategies.distilled import Distilled
from strategies.fedgen import FedGen, Fitting
from strategies.generative import Upload, ensemble
from strategies.server import Server

LATENT = recipe({"_target_": "fedkd.generators.latent.Latent", "nz": 2, "hidden": 8})
SMALL: Any = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
PUBLIC = Samples(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, dtype=torch.int64), torch.arange(2))


@pytest.fixture(autouse=True)
def alone() -> None:
    """One thread; and Flower lets only the server of a run make messages."""
    torch.set_num_threads(1)
    claim_identity(run_id=1)


class Nodes:
    """As much of a grid as strategies use here: two nodes."""

    def get_node_ids(self) -> list[int]:
        return [70, 71]


GRID: Any = Nodes()


def attached(strategy: Any, public: Samples | None = None) -> Any:
    """At the server of a network 2 -> 3 -> 2."""
    network = mlp((2,), 2, hidden=(3,))
    initial = weights(0.0)
    strategy.attach(Server(Trainer(network, LocalSettings()), initial, 2, 2, 0, public=public))
    return strategy


def weights(shift: float) -> Params:
    """Some weights of that network, shifted."""
    chance = torch.Generator().manual_seed(1)
    network = mlp((2,), 2, hidden=(3,))
    return {n: torch.randn(p.shape, generator=chance) + shift for n, p in network.state_dict().items()}


def record(tensors: Params) -> ArrayRecord:
    return ArrayRecord({name: Array(value.detach().numpy()) for name, value in tensors.items()})


def tensors(arrays: ArrayRecord) -> Params:
    return {name: torch.tensor(array.numpy()) for name, array in arrays.items()}


def ask(strategy: Any, at: int = 1, arrays: ArrayRecord | None = None) -> list[Message]:
    config = ConfigRecord()
    messages = strategy.configure_train(at, arrays or record(weights(0.0)), config, GRID)
    return sorted(messages, key=lambda message: message.metadata.dst_node_id)


def answers(
    messages: list[Message], *more: dict[str, Params], sizes: tuple[int, int] = (4, 12)
) -> list[Message]:
    """Two clients: 1 and 3 quarters of the samples; the first holds class 0 alone."""
    replies = []
    counts = torch.tensor([[4, 0], [6, 6]])
    for k, message in enumerate(messages):
        records = {ARRAYS: weights(0.4 * k), LABEL_COUNTS: {"counts": counts[k]}, **(more[k] if more else {})}
        content = RecordDict({name: record(each) for name, each in records.items()})
        content["metrics"] = MetricRecord({"num-examples": sizes[k]})
        replies.append(Message(content, reply_to=message))
    return replies


def same(a: Params, b: Params) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- what all share ----------------------------------------------------------------------------------------


def test_the_ensemble_hears_clients_by_their_weight_relative_to_their_samples() -> None:
    network, counts = mlp((2,), 2, hidden=(3,)), torch.tensor([[4, 0], [6, 6]])
    sent = [Upload(weights(0.4 * k), weight, counts[k], {}) for k, weight in enumerate((4.0, 12.0))]
    plain = ensemble([network], sent)
    assert plain.weights.tolist() == [1.0, 1.0]
    assert plain.shares.flatten().tolist() == pytest.approx([0.4, 0.0, 0.6, 1.0])
    doubled = ensemble([network], [sent[0], Upload(sent[1].model, 24.0, counts[1], {})])
    assert doubled.weights.tolist() == [1.0, 2.0]
    x = torch.tensor([[1.0, -1.0]])
    for k, model in enumerate(plain.models):
        w1, b1, w2, b2 = weights(0.4 * k).values()
        z = torch.relu(x @ w1.T + b1)
        torch.testing.assert_close(model(x), z @ w2.T + b2)
        torch.testing.assert_close(ensemble([network], sent, cut=1).logits(z)[k], z @ w2.T + b2)


# -- FedGen ------------------------------------------------------------------------------------------------


def test_fedgen_averages_as_fedavg_and_sends_its_generator_from_the_second_round() -> None:
    strategy = attached(FedGen(LATENT, Fitting(steps=3, batch_size=8), **SMALL))
    before = {n: t.clone() for n, t in strategy.generator.state_dict().items()}
    first = ask(strategy)
    assert set(first[0].content) == {ARRAYS, "config"} and CUT not in first[0].content["config"]
    arrays, metrics = strategy.aggregate_train(1, answers(first))
    mean = {
        n: 0.25 * a + 0.75 * b for (n, a), b in zip(weights(0.0).items(), weights(0.4).values(), strict=True)
    }
    for name, value in tensors(arrays).items():
        torch.testing.assert_close(value, mean[name])
    assert {"generator_fidelity", "generator_diversity", "generator_accuracy"} <= set(metrics)
    assert not same(strategy.generator.state_dict(), before)
    sent = ask(strategy, 2)[0].content
    assert same(tensors(sent[GENERATOR]), strategy.generator.state_dict())
    assert tensors(sent[LABEL_COUNTS])["held"].tolist() == [True, True] and sent["config"][CUT] == 1
    for stage, there in (("before", False), ("after", True)):
        config = ConfigRecord({STAGE: stage})
        messages = list(strategy.configure_evaluate(2, record(weights(0.0)), config, GRID))
        assert (GENERATOR in messages[0].content) == there


def test_a_saved_server_goes_on_where_it_was() -> None:
    def made() -> FedGen:
        return attached(FedGen(LATENT, Fitting(steps=2, batch_size=4), **SMALL))

    strategy, other = made(), made()
    strategy.aggregate_train(1, answers(ask(strategy)))
    other.load_state_dict({name: value.clone() for name, value in strategy.state_dict().items()})
    for each in (strategy, other):
        each.aggregate_train(2, answers(ask(each, 2)))
    assert same(strategy.state_dict(), other.state_dict())
    assert tensors(ask(other, 3)[0].content[LABEL_COUNTS])["held"].tolist() == [True, True]


def test_fedgens_labels_are_those_that_somebody_holds() -> None:
    strategy = attached(FedGen(LATENT, Fitting(steps=1, batch_size=4), **SMALL))
    replies = answers(ask(strategy))
    for reply in replies:
        reply.content[LABEL_COUNTS] = record({"counts": torch.tensor([5, 0])})
    strategy.aggregate_train(1, replies)
    assert strategy.held.tolist() == [True, False]


# -- distilled ---------------------------------------------------------------------------------------------


def distilled(**changed: Any) -> Distilled:
    scheme = InTurns(Terms({"fidelity": Fidelity()}), loops=2, student_steps=1, batch_size=4)
    return Distilled(**{"scheme": scheme, "generator": LATENT, "weighting": LabelShare(), **SMALL, **changed})


def test_the_students_first_step_is_kl_towards_the_fused_clients_on_public_samples() -> None:
    """Two public samples, both drawn in any batch of one kind: a single step by hand on the drawn batch."""
    scheme = InTurns(Terms(), loops=1, generator_steps=0, student_steps=1, batch_size=6)
    strategy = attached(distilled(scheme=scheme, inputs="public", weighting=None), PUBLIC)
    assert isinstance(strategy.generator, Held)
    arrays, _ = strategy.aggregate_train(1, answers(ask(strategy)))
    rng = strategy.server.rng("distillation", 1)
    torch.multinomial(torch.tensor([10.0, 6.0]).double(), 6, replacement=True, generator=rng)
    x = PUBLIC.x[torch.randint(2, (6, 1), generator=rng)[:, 0]]
    start = {
        n: 0.25 * a + 0.75 * b for (n, a), b in zip(weights(0.0).items(), weights(0.4).values(), strict=True)
    }

    def logits(p: Params) -> Tensor:
        w1, b1, w2, b2 = p.values()
        return torch.relu(x @ w1.T + b1) @ w2.T + b2

    teacher = ((logits(weights(0.0)) + logits(weights(0.4))) / 2).log_softmax(1)
    leaves = {name: value.requires_grad_() for name, value in start.items()}
    student = logits(leaves).log_softmax(1)
    loss = (teacher.exp() * (teacher - student)).sum(1).mean()
    for name, slope in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        torch.testing.assert_close(tensors(arrays)[name], (start[name] - 0.01 * slope).detach())


def test_public_inputs_are_noise_where_there_are_none() -> None:
    assert isinstance(attached(distilled(inputs="public")).generator, Noise)


def test_the_slower_generator_starts_as_a_copy_and_then_moves_half_the_way() -> None:
    strategy = attached(distilled(ema=0.5))
    strategy.aggregate_train(1, answers(ask(strategy)))
    assert same(strategy.shadow.state_dict(), strategy.generator.state_dict())
    expected = strategy.shadow
    old = {name: value.clone() for name, value in expected.state_dict().items()}
    strategy.aggregate_train(2, answers(ask(strategy, 2)))
    new = strategy.generator.state_dict()
    for name, value in strategy.shadow.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.5 * old[name] + 0.5 * new[name])
    restored = attached(distilled(ema=0.5))
    restored.load_state_dict(strategy.state_dict())
    assert same(restored.state_dict(), strategy.state_dict()) and restored.shadow is not None
    ema_(restored.shadow, restored.generator, 0.0)
    assert not same(restored.state_dict(), strategy.state_dict())  # no memory is shared


def test_a_student_from_scratch_forgets_the_average() -> None:
    outcomes = []
    for shift in (0.0, 1.0):
        strategy = attached(distilled(student="initial"))
        replies = answers(ask(strategy))
        if shift:  # the average moves, the ensemble (class shares) does not
            replies[0].content["metrics"] = MetricRecord({"num-examples": 4})
        outcomes.append(tensors(strategy.aggregate_train(1, replies)[0]))
    assert same(*outcomes)
    assert not same(
        outcomes[0], tensors(attached(distilled()).aggregate_train(1, answers(ask(distilled_ready())))[0])
    )


def distilled_ready() -> Distilled:
    ready: Distilled = attached(distilled())
    return ready


def test_dafkds_server_averages_generators_and_asks_each_discriminator() -> None:
    scheme = InTurns(Terms(), loops=1, generator_steps=0, student_steps=1, batch_size=4)
    strategy = attached(distilled(scheme=scheme, weighting=Domain(), share_generator=True))
    first = ask(strategy)
    start = tensors(first[0].content[GENERATOR])
    moved = {n: t + 1.0 if t.is_floating_point() else t for n, t in start.items()}
    judges = [{"weight": torch.full((1, 3), 0.1 * (k + 1)), "bias": torch.tensor([0.5])} for k in range(2)]
    more = [{GENERATOR: g, DISCRIMINATOR: j} for g, j in zip((start, moved), judges, strict=True)]
    strategy.aggregate_train(1, answers(first, *more))
    for name, value in strategy.generator.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, start[name] + 0.75)
    x = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    network = mlp((2,), 2, hidden=(3,))
    heard = [discriminator_of(network, weights(0.4 * k), judges[k])(x) for k in range(2)]
    w1, b1 = list(weights(0.4).values())[:2]
    torch.testing.assert_close(heard[1], 0.2 * torch.relu(x @ w1.T + b1).sum(1) + 0.5)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"inputs": "own"}, "inputs"),
        ({"student": "x"}, "student"),
        ({"space": "x"}, "space"),
        ({"ema": 1.0}, "ema"),
    ],
)
def test_distilled_refuses_what_it_does_not_know(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"method.strategy.{key}"):
        distilled(**wrong)


def test_a_method_without_its_generator_says_so() -> None:
    with pytest.raises(ConfigError, match="generator=null"):
        attached(FedGen(recipe(None), **SMALL))


# -- CCVR --------------------------------------------------------------------------------------------------


def test_ccvr_evaluates_with_the_calibrated_classifier_and_trains_on_the_plain_one() -> None:
    strategy = attached(CCVR(per_class=200, epochs=2, **SMALL))
    replies = answers(ask(strategy))
    for reply in replies:
        del reply.content[LABEL_COUNTS]
    arrays, _ = strategy.aggregate_train(1, replies)
    plain = tensors(arrays)
    asked = list(strategy.follow_up(1, GRID))
    assert [m.metadata.dst_node_id for m in asked] == [70, 71]
    assert asked[0].content["config"][ASK] == STATISTICS
    assert same(tensors(asked[0].content[ARRAYS]), plain)
    chance = torch.Generator().manual_seed(0)
    y = torch.tensor([0, 1]).repeat(20)
    parts = [
        class_statistics(torch.randn(40, 3, generator=chance) + 3.0 * y[:, None], y, 2) for _ in range(2)
    ]
    told = []
    for message, part in zip(asked, parts, strict=True):
        sent = {
            "counts": part.counts.long(),
            "means": part.means.float(),
            "covariances": part.covariances.float(),
        }
        content = RecordDict({STATISTICS: record(sent), "metrics": MetricRecord({"num-examples": 1})})
        told.append(Message(content, reply_to=message))
    strategy.heard(1, told)
    calibrated = tensors(arrays)
    moved = {name for name in plain if not torch.equal(plain[name], calibrated[name])}
    assert moved == {"blocks.1.0.weight", "blocks.1.0.bias"}
    z = pool(parts).means.float()
    logits = z @ calibrated["blocks.1.0.weight"].T + calibrated["blocks.1.0.bias"]
    before = z @ plain["blocks.1.0.weight"].T + plain["blocks.1.0.bias"]
    truth = torch.arange(2)
    loss = torch.nn.functional.cross_entropy
    assert loss(logits, truth) < loss(before, truth)
    restored = attached(CCVR(**SMALL))
    restored.load_state_dict(strategy.state_dict())
    for each in (strategy, restored):
        assert same(tensors(ask(each, 2, arrays)[0].content[ARRAYS]), plain)


# -- whole runs --------------------------------------------------------------------------------------------

TINY = (
    "engine=inline",
    "model=mlp",
    "model.hidden=[16]",
    "clients=3",
    "data.max_samples=200",
    "rounds=2",
    "local.steps=3",
    "evaluation.after=false",
)
SCHEME = "method.strategy.scheme"
QUICK: dict[str, tuple[str, ...]] = {
    "fedgen": ("method.strategy.fitting.steps=3", "method.client.steps=2"),
    "fedftg": (f"{SCHEME}.loops=1", "generator.channels=2"),
    "dfrd": (f"{SCHEME}.loops=1", "generator.channels=2"),
    "dense": (f"{SCHEME}.epochs=2", f"{SCHEME}.steps=2", "generator.channels=2"),
    "dafl": (f"{SCHEME}.loops=1", "generator.channels=2"),
    "zskt": (f"{SCHEME}.loops=1", "generator.channels=2"),
    "deepinversion": (f"{SCHEME}.epochs=1", f"{SCHEME}.steps=2"),
    "fast": (f"{SCHEME}.epochs=2", f"{SCHEME}.steps=2", "generator.channels=2"),
    "dafkd": (f"{SCHEME}.loops=1", "generator.channels=2", "method.client.game.steps=1"),
    "feddf": (f"{SCHEME}.student_steps=3",),
    "ccvr": ("method.strategy.per_class=50",),
}
OFF: dict[str, tuple[str, ...]] = {
    "fedgen": ("method.client.label_weight=0", "method.client.latent_weight=0"),
    "fedftg": (f"{SCHEME}.loops=0",),
    "dfrd": (f"{SCHEME}.student_steps=0",),
    "dense": (f"{SCHEME}.epochs=0",),
    "dafl": (f"{SCHEME}.loops=0",),
    "zskt": (f"{SCHEME}.loops=0",),
    "deepinversion": (f"{SCHEME}.epochs=0",),
    "fast": (f"{SCHEME}.epochs=0",),
    "dafkd": (f"{SCHEME}.loops=0",),
    "feddf": (f"{SCHEME}.loops=0",),
    "ccvr": ("method.strategy.per_class=0",),
}


def play(out: Path, *overrides: str) -> pd.DataFrame:
    run(resolve([*TINY, *overrides, f"out={out}"]), out)
    return pd.read_parquet(out / "clients.parquet")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return play(tmp_path_factory.mktemp("base") / "run", "method=fedavg")


@pytest.mark.parametrize("method", OFF)
def test_switched_off_it_is_fedavg_bit_for_bit_and_switched_on_it_is_not(
    method: str, base: pd.DataFrame, tmp_path: Path
) -> None:
    off = play(tmp_path / "off", f"method={method}", *QUICK[method], *OFF[method])
    pd.testing.assert_frame_equal(off, base, check_exact=True)
    on = play(tmp_path / "on", f"method={method}", *QUICK[method])
    assert len(on) == len(base) and not on["loss"].equals(base["loss"]) and on["loss"].notna().all()


@pytest.mark.parametrize("method", ["fedgen", "fedftg", "ccvr"])
def test_client_weights_reach_generator_and_teachers(method: str, tmp_path: Path) -> None:
    quick = (f"method={method}", *QUICK[method])
    plain, robust = (
        play(tmp_path / name, *quick, "weighting=eg", f"weighting.alpha={alpha}")
        for name, alpha in (("a", 0), ("b", 1))
    )
    pd.testing.assert_frame_equal(plain, play(tmp_path / "c", *quick), check_exact=True)
    assert not np.array_equal(plain["loss"], robust["loss"])
    if method == "ccvr":  # its second exchange takes place under a weighting, too
        off = play(tmp_path / "d", *quick, *OFF[method], "weighting=eg")
        assert not np.array_equal(off["loss"], robust["loss"])


def test_batch_norm_statistics_need_batch_norm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no BatchNorm layer"):
        play(tmp_path / "a", "method=dense", *QUICK["dense"], f"{SCHEME}.bn=1")
    play(tmp_path / "b", "method=dense", *QUICK["dense"], f"{SCHEME}.bn=1", "model.norm=batch")


def test_clients_of_different_architectures_teach_one_student(tmp_path: Path) -> None:
    mixed = ("method=dense", *QUICK["dense"], "model.per_client=[mlp,cnn]", "clients=4", "rounds=1")
    rows = play(tmp_path / "a", *mixed, "method.client.own_model=true")
    assert rows.groupby("model")["client"].nunique().to_dict() == {"global": 4, "personal": 4}
    with pytest.raises(ConfigError, match=r"model\.per_client does not go with method=dense"):
        play(tmp_path / "b", *mixed)
    with pytest.raises(ConfigError, match="student=initial is needed"):
        play(tmp_path / "c", *mixed, "method.client.own_model=true", "method.strategy.student=average")


def test_feddfs_clients_may_have_models_of_their_own(tmp_path: Path) -> None:
    own = ("method.client.own_model=true", "method.strategy.student=initial")
    rows = play(tmp_path / "a", "method=feddf", "model.per_client=[mlp,cnn]", "clients=4", "rounds=1", *own)
    assert rows.groupby("model")["client"].nunique().to_dict() == {"global": 4, "personal": 4}


def test_a_model_is_the_architecture_that_has_all_of_its_weights_and_no_more() -> None:
    deep, flat = (mlp((4,), 3, hidden=hidden) for hidden in ([5, 3], [5]))
    flat_upload = Upload(flat.state_dict(), 1.0, torch.ones(3), {})
    teachers = ensemble([deep, flat], [flat_upload])
    x = torch.randn(6, 4, generator=torch_rng(0, "x"))
    torch.testing.assert_close(teachers(x), flat.eval()(x))


def test_a_placebo_takes_the_generators_place(tmp_path: Path) -> None:
    rows = play(tmp_path / "a", "method=fedftg", "generator=noise", f"{SCHEME}.loops=1")
    assert rows["loss"].notna().all()


@pytest.mark.parametrize("method", OFF)
def test_what_is_tuned_are_keys_of_the_method(method: str) -> None:
    space = locate(resolve([f"method={method}"])["method"]["client"]["_target_"]).search_space
    for key, choices in space.items():
        value = choices["low"] if isinstance(choices, dict) else choices[0]
        resolve([f"method={method}", f"{key}={value}"])
