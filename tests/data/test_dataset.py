from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from fedkd.data.dataset import DataSet, Source, long_tail, restricted, subset
from fedkd.errors import ConfigError


def test_statistics_by_hand() -> None:
    images = np.array([[[[0, 2]], [[10, 10]]], [[[4, 6]], [[10, 10]]]], np.uint8)  # (2, 2, 1, 2)
    mean, deviation = DataSet("a", images, np.zeros(2, np.int64), ("a",)).statistics()
    assert mean.shape == (2, 1, 1)
    assert mean.ravel().tolist() == [3.0, 0.0]  # the second channel is constant and left as it is
    assert deviation.ravel().tolist() == pytest.approx([np.sqrt(5), 1.0])


def test_one_hot_columns_stay(toy: Callable[..., DataSet]) -> None:
    mean, deviation = toy(4).statistics()
    assert mean.tolist() == [1.5, -1.5, 0.0]
    assert deviation.tolist() == pytest.approx([np.sqrt(1.25), np.sqrt(1.25), 1.0])


def test_long_tail_by_hand() -> None:
    y = np.repeat([0, 1, 2], 100)
    kept = long_tail(y, 3, ratio=100)
    assert np.bincount(y[kept]).tolist() == [100, 10, 1]  # floor(100 * 100^(-y/2))
    assert kept.tolist() == long_tail(y, 3, ratio=100).tolist() == sorted(set(kept.tolist()))


def test_subset_keeps_the_label_mix() -> None:
    y = np.repeat([0, 1], [80, 20])
    data = DataSet("a", np.zeros((100, 1), np.float32), y, ("a", "b"))
    assert np.bincount(y[subset(data, 10)]).tolist() == [8, 2]


def test_subset_of_text_is_the_beginning_of_each_part() -> None:
    data = DataSet(
        "t",
        np.zeros((100, 4), np.uint8),
        np.zeros(100, np.int64),
        ("a",),
        persons=np.repeat([0, 1], 50),
        is_test=np.tile(np.arange(50) >= 40, 2),
        gap=4,
    )
    assert subset(data, 20).tolist() == [*range(8), 40, 41, *range(50, 58), 90, 91]


@dataclass(frozen=True)
class Toy(Source):
    name: ClassVar[str] = "toy"

    def read(self) -> DataSet:
        return DataSet(
            "toy", np.arange(200.0)[:, None], np.repeat([0, 1], 100), ("a", "b"), persons=np.arange(200)
        )


def test_load_applies_the_tail_then_the_subset() -> None:
    data = Toy(longtail=4, max_samples=50).load()
    assert np.bincount(data.y).tolist() == [40, 10]
    assert (
        data.persons is not None and data.persons.tolist() == data.x[:, 0].tolist()
    )  # columns stay together


@dataclass(frozen=True)
class WithTest(Source):
    """Four samples each of four classes, x their numbers; a test sample of each class."""

    name: ClassVar[str] = "tested"

    def read(self) -> DataSet:
        y = np.arange(16) % 4
        return DataSet(
            "tested",
            np.arange(16.0)[:, None],
            y,
            tuple("abcd"),
            test_x=np.arange(4.0)[:, None],
            test_y=np.arange(4),
            persons=np.arange(16),
        )


def test_chosen_classes_are_kept_and_renumbered_in_the_order_given() -> None:
    data = WithTest(classes=[3, 1]).load()
    assert data.class_names == ("d", "b")
    assert data.x[:, 0].tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert data.y.tolist() == [1, 0] * 4
    assert data.persons is not None and data.persons.tolist() == data.x[:, 0].tolist()
    assert data.test_x is not None and data.test_x[:, 0].tolist() == [1, 3]
    assert data.test_y is not None and data.test_y.tolist() == [1, 0]
    tail = WithTest(classes=[3, 1], longtail=4).load()  # floor(4 * 4^-y): the order is also that of the tail
    assert np.bincount(tail.y).tolist() == [4, 1]


def test_a_data_set_without_test_file_can_be_restricted() -> None:
    data = restricted(Toy().read(), [1, 0])
    assert data.test_x is None and np.bincount(data.y).tolist() == [100, 100] and data.y[0] == 1


@pytest.mark.parametrize("wrong", [[0], [0, 0], "0,2", [0, -1], [0, 1.0], 3, [True, 0]])
def test_a_choice_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes=.*: two or more different class numbers"):
        WithTest(classes=wrong)


def test_classes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.classes=\[0, 4\]: the classes of data=tested are 0 to 3"):
        WithTest(classes=[0, 4]).load()
    text = DataSet("t", np.zeros((4, 4), np.uint8), np.arange(4) % 2, ("a", "b"), gap=4)
    with pytest.raises(ConfigError, match=r"would leave holes in the text of data=t; data\.classes=null"):
        restricted(text, [0, 1])


@pytest.mark.parametrize(
    "wrong", [{"longtail": 0.5}, {"max_samples": 0}, {"max_samples": 1.5}, {"longtail": "a"}]
)
def test_wrong_values_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"data.{next(iter(wrong))}="):
        Toy(**wrong)


def test_labels_must_fit() -> None:
    with pytest.raises(ConfigError, match="has the label 2, expected 0 to 1"):
        DataSet("a", np.zeros((2, 1)), np.array([0, 2]), ("a", "b"))
    with pytest.raises(ConfigError, match="1 samples and 2 labels"):
        DataSet("a", np.zeros((1, 1)), np.array([0, 1]), ("a", "b"))
