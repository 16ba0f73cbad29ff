"""FedD2S's client by hand: where the KL term flows, who is matched with what, what is sent, who is chosen."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clients.fedd2s import FedD2S
from clients.local import Local
from fedkd.errors import ConfigError
from fedkd.models.mlp import mlp
from fedkd.personalization.heads import above, head_with
from fedkd.personalization.soft_labels import soft
from fedkd.training.program import Batch, Reply, State
from tests.clients.fedd2s_bench import Client, Q, told

PATHS = ["output_frozen_head", "output_full", "body_via_global_head"]


@pytest.fixture
def client(bench: Callable[..., Any]) -> Client:
    return Client(bench)


def gradients(client: Client, program: FedD2S, path: str) -> dict[str, Tensor]:
    """Of the mean loss, by parameter, with a shifted global head at hand."""
    client.network.load_state_dict(client.bench.initial)
    client.network.zero_grad()
    extras = {"teacher": Q, "known": torch.ones(5, dtype=torch.bool)}
    batch = Batch(client.bench.x, client.bench.y, extras)
    loss = program.distil(client.task(config={"distill-path": path}).config)
    loss(client.network, batch, above(client.shifted(0.3), 1)).mean().backward()
    return {name: parameter.grad.clone() for name, parameter in client.network.named_parameters()}  # type: ignore[union-attr]


@pytest.mark.parametrize("path", PATHS)
def test_the_kl_term_flows_where_its_path_says(client: Client, path: str) -> None:
    kl = gradients(client, FedD2S(kl_weight=1.0), path)  # no cross entropy
    private = [kl[name].abs().max() for name in client.network.keys(1)]
    shared = [kl[name].abs().max() for name in client.network.keys(0, 1)]
    assert min(shared) > 1e-3
    if path == "output_full":
        assert min(private) > 1e-3
    else:
        assert max(private) == 0


def test_the_loss_is_the_specified_one(client: Client) -> None:
    weights = {name: v.clone().requires_grad_() for name, v in client.bench.initial.items()}
    logits = torch.func.functional_call(client.network, weights, (client.bench.x,))
    kl = F.kl_div(torch.log_softmax(logits / 3, 1), Q, reduction="batchmean")
    (0.75 * F.cross_entropy(logits, client.bench.y) + 0.25 * 9 * kl).backward()
    got = gradients(client, FedD2S(kl_weight=0.25), "output_full")
    for name, weight in weights.items():
        torch.testing.assert_close(got[name], weight.grad)


def test_fedgkt_is_ce_plus_alpha_kl_through_every_block(client: Client) -> None:
    both = gradients(client, FedD2S(kl_weight=0.7, ce_weight=1.0), "output_full")
    ce = gradients(client, FedD2S(kl_weight=0.0, ce_weight=1.0), "output_full")
    kl = gradients(client, FedD2S(kl_weight=1.0), "output_full")
    for name in both:
        torch.testing.assert_close(both[name], ce[name] + 0.7 * kl[name])


def test_the_students_head_of_the_global_path_is_the_servers(client: Client) -> None:
    client.network.load_state_dict(client.bench.initial)
    head = above(client.shifted(0.3), 1)
    z = client.network.features(client.bench.x, 1)
    log_s = torch.log_softmax(head_with(client.network, head, z, 1) / 3, 1)
    (9 * F.kl_div(log_s, Q, reduction="batchmean")).backward()
    wanted = {name: p.grad.clone() for name, p in client.network.named_parameters() if p.grad is not None}
    got = gradients(client, FedD2S(kl_weight=1.0), "body_via_global_head")
    assert wanted.keys() == set(client.network.keys(0, 1))
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_without_kl_weight_the_work_is_local_only_training(bench: Callable[..., Any], norm: str) -> None:
    client = Client(bench, norm=norm, batch_size=3, epochs=2)
    state: State = {}
    alone: State = {}
    for number in (1, 2):
        state = client.work(FedD2S(kl_weight=0.0), client.task(told(), number), state).state or {}
        alone = client.work(Local(), client.task({}, number), alone).state or {}
        assert client.bench.same(state, alone)


def test_without_soft_labels_for_a_sample_it_has_cross_entropy_alone(client: Client) -> None:
    program, task = FedD2S(), client.task()
    trained = client.work(program, task).trained
    for nothing in (told(Q[:0], torch.arange(0)), told(Q, torch.arange(5) + 50)):
        other = client.work(program, client.task(nothing)).trained
        assert other is not None and trained is not None
        for name, value in trained.items():
            torch.testing.assert_close(other[name], value)
    assert not client.bench.same(client.work(program, client.task(told())).trained, trained)


def test_only_soft_labels_that_agree_with_the_label_are_trusted_where_so_chosen(client: Client) -> None:
    y = client.bench.y
    agrees = torch.nn.functional.one_hot(y, Q.shape[1]).float() * 0.8 + 0.2 / Q.shape[1]
    wrong = agrees.clone()
    wrong[0] = agrees[0].roll(1)
    others = torch.arange(1, len(y))
    strict = client.work(FedD2S(trust="correct"), client.task(told(wrong))).trained
    without = client.work(FedD2S(), client.task(told(agrees[others], others))).trained
    assert client.bench.same(strict, without)
    assert not client.bench.same(strict, client.work(FedD2S(), client.task(told(wrong))).trained)


def test_teacher_rows_follow_their_ids_through_any_order(bench: Callable[..., Any]) -> None:
    client = Client(bench, batch_size=2, epochs=2)
    order = torch.tensor([3, 0, 4, 2, 1])
    straight = client.work(FedD2S(), client.task(told())).trained
    shuffled = client.work(FedD2S(), client.task(told(Q[order], order))).trained
    wrong = client.work(FedD2S(), client.task(told(Q[order]))).trained
    assert client.bench.same(straight, shuffled) and not client.bench.same(straight, wrong)


def test_rows_meet_their_samples_when_the_split_comes_in_another_order(client: Client) -> None:
    program, task = FedD2S(), client.task(told())
    rows, known = program.soft_labels(task, {}) or (Q, Q)
    order = torch.tensor([3, 0, 4, 2, 1])
    object.__setattr__(task.data, "train", task.data.train.take(order))
    again, _ = program.soft_labels(task, {}) or (Q, Q)
    torch.testing.assert_close(again, rows[order])
    assert known.all()


def test_a_class_table_and_a_global_head_are_teachers_too(client: Client) -> None:
    program = FedD2S()
    table = {"soft_labels": {"table": Q[:2], "seen": torch.tensor([True, False])}}
    rows, known = program.soft_labels(client.task(table), {}) or (Q, Q)
    torch.testing.assert_close(rows, Q[client.bench.y])
    assert known.tolist() == [y == 0 for y in client.bench.y.tolist()]

    own, head = client.shifted(0.1), above(client.shifted(-0.2), 1)
    rows, known = program.soft_labels(client.task({"head": head}), own) or (Q, Q)
    z = client.bench.trainer.predict(own, client.bench.x, 1)
    torch.testing.assert_close(rows, soft(head_with(client.network, head, z, 1), 3.0))
    assert known.all() and program.soft_labels(client.task(), own) is None


def test_what_is_sent_in_each_protocol(client: Client) -> None:
    reply = client.work(FedD2S(upload_dtype="float32"), client.task())
    assert reply.trained is not None and client.bench.same(reply.state, reply.trained)
    assert {name: set(record) for name, record in reply.upload.items()} == {
        "representations": {"ids", "z", "y"},
        "soft_labels": {"p"},
    }
    z = client.bench.trainer.predict(reply.trained, client.bench.x, 1)
    p = soft(client.bench.trainer.predict(reply.trained, client.bench.x), 3.0)
    torch.testing.assert_close(reply.upload["representations"]["z"], z)
    torch.testing.assert_close(reply.upload["soft_labels"]["p"], p)
    assert reply.metrics == {"num-examples": 5}

    heads = client.work(FedD2S(), client.task(config={"protocol": "heads"})).upload
    assert heads.keys() == {"representations", "head"} and heads["head"].keys() == client.bench.head
    latent = client.work(FedD2S(), client.task(config={"protocol": "generator"}))
    assert latent.upload.keys() == {"label_counts", "head"} and "num-examples" not in latent.metrics
    assert latent.upload["label_counts"]["counts"].tolist() == [2, 3]


def test_uploads_are_capped_drawn_anew_and_halved(client: Client) -> None:
    def sent(at: int) -> tuple[list[int], Reply]:
        reply = client.work(FedD2S(max_upload=3), client.task(at=at))
        return reply.upload["representations"]["ids"].tolist(), reply

    ids, reply = sent(1)
    record = reply.upload["representations"]
    assert len(ids) == 3 and ids == sorted(set(ids)) and reply.metrics["num-examples"] == 3
    assert record["y"].tolist() == client.bench.y[ids].tolist()
    assert record["z"].dtype == reply.upload["soft_labels"]["p"].dtype == torch.float16
    assert sent(1)[0] == ids and len({tuple(sent(at)[0]) for at in range(1, 9)}) > 1


def test_blocks_are_sent_when_the_server_asks(bench: Callable[..., Any]) -> None:
    client = Client(bench)
    asked = {"send-blocks": 2, "average-body": True, "report-accuracy": True}
    reply = client.work(FedD2S(), client.task(config=asked))
    assert reply.trained is not None
    assert reply.upload["head"].keys() == set(client.network.keys(1, 2))
    assert reply.upload["arrays"].keys() == set(client.network.keys(0, 1))
    right = client.bench.trainer.predict(reply.trained, client.bench.x).argmax(1) == client.bench.y
    assert reply.metrics["val_accuracy"] == pytest.approx(float(right.double().mean()))


def test_a_received_body_takes_the_place_of_ones_own(client: Client) -> None:
    task = client.task()
    own, body = client.shifted(1.0), client.shifted(2.0)
    task.received = {name: body[name] for name in client.network.keys(0, 1)}
    start = FedD2S().start(task, own)
    for name, value in start.items():
        assert torch.equal(value, (task.received if name in task.received else own)[name])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"max_upload": 0}, r"method\.client\.max_upload=0"),
        ({"upload_dtype": "int8"}, "one of float16, float32"),
        ({"kl_weight": 2.0}, r"method\.client\.kl_weight=2\.0"),
        ({"trust": "nobody"}, "one of all, correct"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        FedD2S(**wrong)


def test_a_network_of_one_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="one block and cannot be cut"):
        FedD2S().check(mlp((2,), 2, hidden=()))
