"""FD, FedProto, FML, FedKD, FedDBE, FedMD clients against reference steps made without the training loop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clients.classwise import FD, ClassWise, FedProto
from clients.fedavg import FedAvg
from clients.feddbe import FedDBE
from clients.fedmd import FedMD
from clients.local import Local
from clients.mutual import FML, FedKD
from fedkd.data.samples import Samples
from fedkd.errors import ConfigError
from fedkd.personalization.lowrank import compress, restore
from fedkd.training.program import Params, joined, part
from tests.clients.test_corrections import B2, SEVERAL, W2, ce, close, features, logits, slope, step, told

Make = Callable[..., Any]
COUNTS = [2, 3, 0]  # of the client's samples, by class


def rows(kind: str, table: Tensor, seen: list[bool]) -> dict[str, Params]:
    return {kind: {"table": table, "seen": torch.tensor(seen)}}


def class_means(outputs: Tensor, y: Tensor) -> Tensor:
    return torch.stack([outputs[y == c].mean(0) if (y == c).any() else outputs[0] * 0 for c in range(3)])


def test_fd_learns_from_the_mean_logits_of_the_class(bench: Make) -> None:
    local = bench(classes=3)
    table = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 1.0], [0.0, 0.0, 9.0]])

    def loss(p: Params) -> Tensor:
        q, own = F.softmax(table[local.y], 1), F.log_softmax(logits(p, local.x), 1)
        return ce(local)(p) + 0.5 * (q * (q.log() - own)).sum(1).mean()

    reply = told(local, FD(strength=0.5), rows("class_logits", table, [True] * 3))
    close(reply.trained, step(local.initial, slope(loss, local.initial)))
    sent = reply.upload["class_logits"]
    torch.testing.assert_close(sent["table"], class_means(logits(reply.trained, local.x), local.y))
    assert sent["counts"].tolist() == COUNTS and reply.upload.keys() == {"class_logits"}
    assert local.same(reply.state, reply.trained)
    assert local.trainer.progress.first_loss == pytest.approx(float(ce(local)(local.initial)))


def test_fedproto_draws_features_to_the_prototype_of_the_class(bench: Make) -> None:
    local = bench(classes=3)
    table = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.5, 0.0], [7.0, 7.0, 7.0]])

    def loss(p: Params) -> Tensor:
        return ce(local)(p) + 2.0 * (features(p, local.x) - table[local.y]).square().mean()

    reply = told(local, FedProto(strength=2.0), rows("prototypes", table, [True] * 3))
    close(reply.trained, step(local.initial, slope(loss, local.initial)))
    sent = reply.upload["prototypes"]
    torch.testing.assert_close(sent["table"], class_means(features(reply.trained, local.x), local.y))


@pytest.mark.parametrize("program", [FD, FedProto])
def test_without_rows_or_strength_it_is_local_training_bit_for_bit(
    bench: Make, program: type[ClassWise]
) -> None:
    local = bench(classes=3, **SEVERAL)
    alone = local.work(Local(), {}).trained
    table = torch.full((3, 3), 5.0) * torch.eye(3)
    known, unknown = (rows(program.kind, table, [seen] * 3) for seen in (True, False))
    assert local.same(told(local, program(strength=0.0), known).trained, alone)
    assert local.same(local.work(program(), {}).trained, alone)
    close(told(local, program(), unknown).trained, alone)
    some = told(local, program(), known).trained
    only_absent = told(local, program(), rows(program.kind, table, [False, False, True])).trained
    assert not local.same(some, alone)
    close(only_absent, alone)  # a class that the client does not hold changes nothing


# -- FML and FedKD -----------------------------------------------------------------------------------------


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    p = F.softmax(teacher.detach(), 1)
    return (p * (p.log() - F.log_softmax(student, 1))).sum(1)


def test_fml_trains_both_models_towards_the_labels_and_each_other(bench: Make) -> None:
    local = bench(epochs=2)
    shared, private = local.shifted(0.2), local.shifted(-0.3)
    f, g = private, shared
    for _ in range(2):
        own, common = logits(f, local.x), logits(g, local.x)

        def loss_f(p: Params, teacher: Tensor = common) -> Tensor:
            return 0.3 * ce(local)(p) + 0.7 * kl(teacher, logits(p, local.x)).mean()

        def loss_g(p: Params, teacher: Tensor = own) -> Tensor:
            return 0.8 * ce(local)(p) + 0.2 * kl(teacher, logits(p, local.x)).mean()

        f, g = step(f, slope(loss_f, f)), step(g, slope(loss_g, g))
    reply = local.work(FML(alpha=0.3, beta=0.8), shared, joined(private=private))
    close(reply.trained, f)
    close(reply.upload["arrays"], g)
    assert local.same(part(reply.state, "private"), reply.trained)
    assert local.same(local.personal(FML(), shared, reply.state), reply.trained)


def test_fml_of_labels_alone_is_fedavg_beside_local_training(bench: Make) -> None:
    local = bench(**SEVERAL)
    received = local.shifted(0.3)
    reply = local.work(FML(alpha=1.0, beta=1.0), received)
    close(reply.upload["arrays"], local.work(FedAvg(), received).trained)
    close(reply.trained, local.work(Local(), {}).trained)
    assert local.same(local.personal(FML(), received), local.initial)


def test_fedkd_divides_what_is_taught_by_how_wrong_both_are(bench: Make) -> None:
    local = bench()
    shared, private = local.shifted(0.2), local.shifted(-0.3)

    def total(p: Params, q: Params) -> Tensor:
        own, common = logits(p, local.x), logits(q, local.x)
        hard = [F.cross_entropy(z, local.y, reduction="none") for z in (own, common)]
        hidden = (features(p, local.x) - features(q, local.x)).square().mean(1)
        taught = kl(common, own) + kl(own, common) + 2 * hidden
        return (hard[0] + hard[1] + taught / (hard[0] + hard[1]).detach()).mean()

    task = local.task(shared)
    task.config = {"energy": 1.0}
    reply = local.trainer.drive(FedKD().work(task, joined(private=private)), task)
    close(reply.trained, step(private, slope(lambda p: total(p, shared), private)))
    after = step(shared, slope(lambda q: total(private, q), shared))
    change = restore(reply.upload["update"], shared)
    close({name: shared[name] + change[name] for name in shared}, after)


def test_a_change_is_sent_as_the_fewest_factors_that_hold_its_energy() -> None:
    u, v = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).Q, torch.eye(8)
    change = {"w": (u * torch.tensor([4.0, 2.0, 1.0, 0, 0, 0, 0, 0])) @ v, "b": torch.ones(3)}
    for energy, rank in ((0.7, 1), (0.9, 2), (0.99, 3)):  # 16, 20, 21 of 21
        sent = compress(change, energy)
        assert (
            sent["w/s"].shape == (rank,)
            and sent["w/u"].shape == (8, rank)
            and torch.equal(sent["b"], change["b"])
        )
        lost = (restore(sent, change)["w"] - change["w"]).square().sum()
        assert lost == pytest.approx([5.0, 1.0, 0.0][rank - 1], abs=1e-4)
    assert compress({"k": torch.eye(4).view(4, 2, 2, 1)}, 1.0).keys() == {"k"}  # factors would be larger
    kernel = {"k": torch.ones(6, 4, 3, 3)}
    torch.testing.assert_close(restore(compress(kernel, 0.9), kernel), kernel)
    assert compress({"w": torch.zeros(5, 5)}, 0.9)["w/s"].tolist() == [0.0]


# -- FedDBE and FedMD --------------------------------------------------------------------------------------


def test_feddbe_first_tells_its_mean_feature_then_learns_a_bias_beside_the_model(bench: Make) -> None:
    local = bench()
    first = local.work(FedDBE())
    assert local.same(first.trained, local.work(FedAvg()).trained) and first.state is None
    torch.testing.assert_close(first.upload["feature_mean"]["mean"], features(first.trained, local.x).mean(0))
    mean, own = torch.tensor([1.0, -1.0, 0.5]), torch.tensor([0.3, 0.0, -0.2])

    def loss(p: Params) -> Tensor:
        z = features(p, local.x)
        hard = F.cross_entropy((z + p["own"]) @ p[W2].T + p[B2], local.y)
        return hard + 3.0 * 0.5 * (z.mean(0) - mean).square().mean()

    start = {**local.initial, "own": own}
    expected = step(start, slope(loss, start))
    reply = told(local, FedDBE(strength=3.0), {"feature_mean": {"mean": mean}}, {"bias": own})
    bias = expected.pop("own")
    close(reply.upload["arrays"], expected)
    torch.testing.assert_close(reply.state["bias"], bias)
    used = local.personal(FedDBE(), local.initial, reply.state)
    z = features(local.initial, local.x) + bias
    torch.testing.assert_close(
        local.trainer.predict(used, local.x), z @ local.initial[W2].T + local.initial[B2]
    )


def test_fedmd_digests_the_consensus_before_its_own_data(bench: Make) -> None:
    local = bench()
    public = torch.tensor([[1.0, -1.0], [0.0, 3.0], [2.0, 2.0]])
    asked, digested = torch.tensor([0, 1]), torch.tensor([2, 0])
    consensus = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    samples = Samples(public, torch.zeros(3, dtype=torch.int64), torch.arange(3))
    knowledge = {"public_logits": {"ask": asked, "digest": digested, "consensus": consensus}}
    task = replace(local.task({}), knowledge=knowledge, public=samples)

    def distance(p: Params) -> Tensor:
        return (logits(p, public[digested]) - consensus).abs().mean()

    after = step(local.initial, slope(distance, local.initial))
    expected = step(after, slope(ce(local), after))
    reply = local.trainer.drive(FedMD().work(task, {}), task)
    close(reply.trained, expected)
    torch.testing.assert_close(reply.upload["public_logits"]["logits"], logits(expected, public[asked]))


def test_fedmd_without_digestion_is_local_training_bit_for_bit(bench: Make) -> None:
    local = bench(**SEVERAL)
    asked = {"ask": torch.tensor([5]), "digest": torch.tensor([1]), "consensus": torch.zeros(1, 2)}
    reply = told(local, FedMD(digest_epochs=0), {"public_logits": asked})
    assert local.same(reply.trained, local.work(Local(), {}).trained)
    assert reply.upload["public_logits"]["logits"].shape == (1, 2)  # on noise, where nothing is public


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FD(strength=-1), "strength=-1"),
        (lambda: FML(alpha=2.0), "alpha=2.0"),
        (lambda: FML(beta=-0.1), "beta=-0.1"),
        (lambda: FedDBE(strength=-1.0), "strength=-1.0"),
        (lambda: FedMD(digest_epochs=-1), "digest_epochs=-1"),
    ],
)
def test_mistakes_are_told_by_key(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
