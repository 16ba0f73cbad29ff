"""Few labels, proxy data and their selection: which labels count, and that no other is ever read."""

from dataclasses import replace

import pytest
import torch

from fedkd.data.samples import Samples
from fedkd.errors import ConfigError
from fedkd.objectives.base import Objective
from fedkd.objectives.dackl import DACKL
from fedkd.objectives.dho import DHO
from fedkd.objectives.kd3 import KD3
from fedkd.objectives.logits import CE, KD
from fedkd.objectives.pld import PLD
from fedkd.objectives.signals import EMBEDDING, Signals
from fedkd.robust.class_methods import GroupDROTraining, Margin
from fedkd.training.distill import Distillation
from fedkd.training.lessons import Lessons, some_labels
from fedkd.training.settings import LocalSettings
from tests.training.test_distill import DATA, network, play, same, stage

PLAIN = Margin("standard", 0.5)


def taught(objective: Objective, lessons: Lessons, data: object = DATA, rounds: int = 2) -> Distillation:
    settings = LocalSettings(batch_size=16, lr=0.1)
    teachers = [network(100, width=8)]
    return Distillation(
        objective,
        PLAIN,
        network(1),
        teachers,
        data,
        settings,
        rounds,
        seed=5,
        lessons=lessons,  # type: ignore[arg-type]
    )


def test_the_share_is_of_each_class_and_one_at_least() -> None:
    y = torch.tensor([0] * 40 + [1] * 10 + [2])
    chosen = some_labels(y, 0.1, seed=0)
    assert torch.bincount(y[chosen]).tolist() == [4, 1, 1]
    assert torch.equal(chosen, some_labels(y, 0.1, seed=0))
    assert not torch.equal(chosen, some_labels(y, 0.1, seed=1))


def test_few_labels_weigh_so_that_their_mean_is_that_of_the_labelled() -> None:
    logits, y = torch.eye(4, 3), torch.tensor([0, 1, 2, 0])
    labelled = torch.tensor([True, False, False, True])
    weights = Lessons(labelled).extras(4)["labelled"]
    assert weights.tolist() == [2.0, 0.0, 0.0, 2.0]
    loss = CE()(Signals(student_logits=logits, labels=y, labelled=weights)).mean()
    torch.testing.assert_close(loss, CE()(Signals(student_logits=logits[[0, 3]], labels=y[[0, 3]])).mean())


@pytest.mark.parametrize("objective", [CE(), KD(), DHO(), DACKL()], ids=lambda o: o.about.name)
def test_hidden_labels_change_nothing(objective: Objective) -> None:
    labelled = some_labels(DATA.train.y, 0.3, seed=0)
    wrong = torch.where(labelled, DATA.train.y, (DATA.train.y + 1) % 3)
    other = replace(DATA, train=replace(DATA.train, y=wrong))
    a, b = (taught(objective, Lessons(labelled), data) for data in (DATA, other))
    assert same(play(a), play(b))
    whole = taught(objective, Lessons(), other)
    assert objective == KD() or not same(play(whole), a.params)


def proxy(count: int = 30) -> Samples:
    draw = torch.Generator().manual_seed(9)
    return Samples(torch.randn(count, 4, generator=draw), torch.zeros(count).long(), torch.arange(count))


def test_proxy_data_take_the_place_of_the_training_data() -> None:
    other = replace(DATA, train=replace(DATA.train, x=DATA.train.x + 1))
    assert same(play(taught(KD(), Lessons(proxy=proxy()))), play(taught(KD(), Lessons(proxy=proxy()), other)))
    assert not same(play(taught(KD(), Lessons(proxy=proxy()))), play(taught(KD(), Lessons())))
    relabelled = replace(proxy(), y=torch.ones(30).long())
    a, b = (play(taught(DACKL(), Lessons(proxy=p))) for p in (proxy(), relabelled))
    assert same(a, b)


def test_a_round_is_about_the_surest_samples_balanced_over_guesses() -> None:
    told = torch.tensor([[9.0, 0.0], [5.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    own = torch.tensor([[0.0, 9.0], [0.0, 9.0], [9.0, 0.0], [0.0, 9.0]])
    half = Lessons(proxy=proxy(4), keep=0.5)
    assert half.chosen(told, own, 0.0).tolist() == [0, 3]
    assert half.chosen(told, own, 1.0).tolist() == [2, 0] or half.chosen(told, own, 1.0).tolist() == [0, 2]
    kept = taught(KD(), Lessons(proxy=proxy(), keep=0.5))
    lesson, extras = kept._lesson(1)
    assert len(lesson) == 15 and all(len(rows) == 15 for rows in extras.values())
    play(kept)


def test_what_reads_labels_is_refused_where_they_are_hidden() -> None:
    few = Lessons(some_labels(DATA.train.y, 0.3, seed=0))
    with pytest.raises(ConfigError, match="objective=pld reads the label of every sample"):
        taught(PLD(), few)
    with pytest.raises(ConfigError, match="objective=pld needs labels, which fedkd distill on proxy data"):
        taught(PLD(), Lessons(proxy=proxy()))
    with pytest.raises(ConfigError, match="weights samples by their labels"):
        Distillation(
            KD(),
            GroupDROTraining("standard", 0.5),
            network(1),
            [network(100)],
            DATA,
            LocalSettings(),
            1,
            0,
            lessons=few,
        )


def test_embeddings_are_asked_for_once_where_they_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = KD3(contrast=0.0)
    kept = stage(objective)
    assert kept.cached.keys() == {"teacher_logits", "ensemble_logits", EMBEDDING}
    monkeypatch.setattr(Distillation, "_stays", lambda self: False)
    trained = play(stage(objective))
    for name, value in play(kept).items():
        torch.testing.assert_close(trained[name], value)
