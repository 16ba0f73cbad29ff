"""Workers that die or hang: the same replies, and no state advanced twice or lost."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from simulations.engine.grid import RayGrid
from simulations.engine.inline import InlineGrid
from simulations.engine.pool import Pool
from simulations.engine.runner import Program
from tests.engine.common import ask, calls, content, fault, first_values


def test_killed_worker_changes_nothing(pool: Pool, program: Program, tmp_path: Path) -> None:
    grid = RayGrid(program, pool, deadline=60.0)  # with a deadline each cohort travels alone
    undisturbed = InlineGrid(program)
    ask(grid, "train"), ask(undisturbed, "train")
    assert calls(fault(grid, tmp_path, "kill", client=2, times=1)) == [2, 2, 2, 2, 2]
    assert (grid.last.retries, grid.last.failures) == (1, 0)
    fault(undisturbed, tmp_path, "kill", client=2, times=1)
    assert first_values(ask(grid, "train")) == first_values(ask(undisturbed, "train"))
    assert grid.client_states() == undisturbed.client_states()


def test_workers_killed_between_rounds_are_replaced(pool: Pool, program: Program) -> None:
    grid = RayGrid(program, pool)
    ask(grid, "train")
    for slot in pool.slots:
        ray.kill(slot.actor)
    assert calls(ask(grid, "train")) == [2, 2, 2, 2, 2]


def test_client_that_always_kills_is_given_up_alone(pool: Pool, program: Program, tmp_path: Path) -> None:
    grid = RayGrid(replace(program, cohort=5), pool)
    replies = fault(grid, tmp_path, "kill", client=3, times=9)
    assert calls(replies) == [1, 1, 1, None, 1]
    assert "client 3: its worker was lost" in (replies[3].error.reason or "")
    assert len(list(tmp_path.iterdir())) == 3 and grid.last.failures == 1
    assert sorted(grid.client_states()) == [0, 1, 2, 4]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_worker_out_of_memory_is_replaced(library: str, pool: Pool, program: Program, tmp_path: Path) -> None:
    grid = RayGrid(program, pool)
    assert calls(fault(grid, tmp_path, library, client=2, times=1)) == [1, 1, 1, 1, 1]
    assert (len(list(tmp_path.iterdir())), grid.last.failures) == (1, 0) and grid.last.retries >= 1
    assert calls(ask(grid, "train")) == [2, 2, 2, 2, 2]


def test_hanging_worker_is_killed_at_the_deadline(pool: Pool, program: Program, tmp_path: Path) -> None:
    grid = RayGrid(program, pool, deadline=1.0)
    assert calls(fault(grid, tmp_path / "once", "hang", client=0, times=1)) == [1, 1, 1, 1, 1]
    replies = fault(grid, tmp_path / "ever", "hang", client=0, times=9)
    assert calls(replies) == [None, 2, 2, 2, 2]
    assert "engine.deadline=1 s" in (replies[0].error.reason or "")


def test_timeout_returns_what_is_there(pool: Pool, program: Program, tmp_path: Path) -> None:
    grid = RayGrid(program, pool)
    ask(grid, "train")
    shared = content(client=1, folder=str(tmp_path), times=1, kind="hang")
    messages = [Message(shared, client + 1, "query.fault") for client in range(5)]
    replies = grid.send_and_receive(messages, timeout=1.5)
    seen = calls(replies)
    assert seen[:2] == [2, None] and "timeout of 1.5 s" in (replies[1].error.reason or "")
    assert calls(ask(grid, "train")) == [2 if number is None else 3 for number in seen]


def test_one_worker_equals_two(pool: Pool, program: Program) -> None:
    single = Pool(workers=1)
    grids = [RayGrid(program, pool), RayGrid(replace(program, cohort=2), single)]
    replies = [ask(grid, "train") and ask(grid, "train", [3, 1]) for grid in grids]
    single.close()
    assert [r.content["arrays"] for r in replies[0]] == [r.content["arrays"] for r in replies[1]]
    assert calls(replies[0]) == calls(replies[1]) == [2, 2]


@pytest.mark.slow
def test_memory_stays_flat_over_rounds(pool: Pool, program: Program) -> None:
    """All records are 2 MB: after two hundred rounds the object store holds what it held after two."""
    grid = RayGrid(program, pool)

    def rounds(number: int) -> None:
        for _ in range(number):
            large = RecordDict({"arrays": ArrayRecord([np.zeros(250_000)]), "config": ConfigRecord()})
            grid.send_and_receive([Message(large, client + 1, "train") for client in range(5)])
        time.sleep(1.0)  # Ray reports what it uses twice a second

    rounds(2)
    before = _stored_bytes()
    rounds(198)
    assert 10e6 < _stored_bytes() < before + 3e6


def _stored_bytes() -> float:
    total = ray.cluster_resources()["object_store_memory"]
    return total - ray.available_resources().get("object_store_memory", total)
