"""Evaluation rows by hand."""

import pytest
import torch

from fedkd.data.samples import Samples
from fedkd.training.evaluate import BINS, evaluate

LOGITS = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.8, 0.1, 0.1]]))
LABELS = torch.tensor([0, 2, 2, 1])


def test_row_by_hand() -> None:
    samples = Samples(torch.zeros(4, 1), LABELS, torch.arange(4))
    row = evaluate(lambda x: LOGITS, samples, 3, split="test", model="global", stage="before")
    assert row is not None
    assert (row.num_examples, row.accuracy) == (4, 0.5)
    assert (row.class_correct, row.class_total) == ([1, 0, 1], [1, 1, 2])
    expected = -(torch.log(torch.tensor([0.7, 0.3, 0.6, 0.1]))).mean()
    assert row.loss == pytest.approx(float(expected))
    assert sum(row.bin_count) == 4 and sum(row.bin_correct) == 2
    assert sum(row.bin_confidence) == pytest.approx(0.7 + 0.5 + 0.6 + 0.8)
    assert row.bin_count[int(0.8 * BINS)] == 1


def test_no_samples_no_row() -> None:
    empty = Samples(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert evaluate(lambda x: x, empty, 3, split="test", model="global", stage="before") is None


def test_what_a_diverged_network_does_not_answer_is_wrong() -> None:
    """Class 0 is what the largest of values that are no numbers would be taken for."""
    samples = Samples(torch.zeros(4, 1), torch.tensor([0, 0, 2, 1]), torch.arange(4))
    logits = LOGITS.clone()
    logits[0], logits[1] = torch.nan, torch.inf
    row = evaluate(lambda x: logits, samples, 3, split="test", model="global", stage="before")
    assert row is not None
    assert row.accuracy == 0.25 and row.class_correct == [0, 0, 1]
    assert row.bin_count[0] == 2 and row.bin_correct[0] == 0
    assert sum(row.bin_confidence) == pytest.approx(0.6 + 0.8)
