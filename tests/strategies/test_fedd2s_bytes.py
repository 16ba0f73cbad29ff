"""The byte counter counts what FedD2S's protocols send, computed here by hand for an MLP 784-16-12-8-10."""

from pathlib import Path

import pandas as pd
import pytest

from simulations.config import resolve
from simulations.run import prepare, run
from tests.strategies.fedd2s_game import TINY

BLOCKS = [784 * 16 + 16, 16 * 12 + 12, 12 * 8 + 8, 8 * 10 + 10]
WIDTH = 12  # of the features at the cut
CLASSES, CLIENTS, ID, FLOAT, HALF = 10, 4, 8, 4, 2
FIXED = ["method.strategy.schedule.cuts=[2]"]
HEAD, BODY = FLOAT * sum(BLOCKS[2:]), FLOAT * sum(BLOCKS[:2])


def sent(out: Path, *words: str) -> tuple[list[int], list[int], list[int]]:
    """Bytes up and down by round, of two rounds; and the clients' training samples."""
    config = resolve([*TINY, *FIXED, "rounds=2", *words, f"out={out}"])
    run(config, out)
    rounds = pd.read_csv(out / "rounds.csv")
    sizes = prepare(config).federation.sizes("train")
    return rounds["bytes_up"].tolist(), rounds["bytes_down"].tolist(), [int(size) for size in sizes]


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2)])
def test_representations(dtype: str, size: int, tmp_path: Path) -> None:
    up, down, samples = sent(tmp_path / "run", "method=fedd2s", f"method.client.upload_dtype={dtype}")
    row = ID + ID + size * WIDTH + size * CLASSES  # its id, its label, z and p
    assert up == [sum(samples) * row] * 2
    assert down == [0, sum(samples) * (ID + size * CLASSES)]  # nothing is known yet; then ids and q


def test_uploads_are_capped(tmp_path: Path) -> None:
    up, down, samples = sent(tmp_path / "run", "method=fedd2s", "method.client.max_upload=20")
    capped = sum(min(20, size) for size in samples)
    assert capped < sum(samples)
    assert up == [capped * (ID + ID + HALF * (WIDTH + CLASSES))] * 2
    assert down == [0, capped * (ID + HALF * CLASSES)]


def test_heads(tmp_path: Path) -> None:
    up, down, samples = sent(tmp_path / "run", "method=fedd2s", "method.strategy.protocol=heads")
    assert up == [sum(samples) * (ID + ID + HALF * WIDTH) + CLIENTS * HEAD] * 2
    assert down == [0, CLIENTS * HEAD]  # the global head, which clients ask themselves


def test_a_body_that_is_averaged_travels_both_ways(tmp_path: Path) -> None:
    plain = sent(tmp_path / "plain", "method=fedd2s")
    both = sent(tmp_path / "both", "method=fedd2s", "method.strategy.average_body=true")
    assert both[0] == [bytes_ + CLIENTS * BODY for bytes_ in plain[0]]
    assert both[1] == [0, plain[1][1] + CLIENTS * BODY]  # everybody has the initial one


def test_a_generator_spares_the_activations(tmp_path: Path) -> None:
    up, down, _ = sent(tmp_path / "run", "method=fedd2s_robust")
    assert up == [CLIENTS * (HEAD + BODY + ID * CLASSES)] * 2  # heads, bodies, label counts
    assert down == [0, CLIENTS * (BODY + HEAD)]
