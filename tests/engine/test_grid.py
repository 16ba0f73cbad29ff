"""The grid with nothing going wrong: both engines, the same replies."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedkd.errors import ConfigError
from simulations.engine.base import SimulationGrid
from simulations.engine.grid import RayGrid
from simulations.engine.inline import InlineGrid
from simulations.engine.pool import Pool
from simulations.engine.ray_runtime import probed, start_pool
from simulations.engine.runner import ClientError, Job, Program
from tests.engine.common import ask, calls, content, first_values

MakeGrid = Callable[[Program], SimulationGrid]


@pytest.fixture(params=["inline", "ray"])
def make(request: pytest.FixtureRequest) -> MakeGrid:
    if request.param == "inline":
        return InlineGrid
    pool = request.getfixturevalue("pool")
    return lambda program: RayGrid(program, pool)


def test_replies_are_in_client_order_with_states_kept(make: MakeGrid, program: Program) -> None:
    grid = make(program)
    replies = ask(grid, "train", [3, 0, 4])
    assert [r.metadata.src_node_id for r in replies] == [1, 4, 5]
    assert first_values(replies) == [100, 103, 104]
    assert calls(ask(grid, "train")) == [2, 1, 1, 2, 2]
    states = grid.client_states()
    assert sorted(states) == [0, 1, 2, 3, 4]
    assert states[3]["personal"]["w"].numpy().tolist() == [206, 206, 206]


def test_states_can_be_saved_and_loaded(make: MakeGrid, program: Program) -> None:
    grid = make(program)
    ask(grid, "train", [0, 2])
    saved = grid.client_states()
    ask(grid, "train")
    grid.load_client_states(saved)
    assert grid.client_states() == saved
    assert calls(ask(grid, "train", [0, 1, 2])) == [2, 1, 2]


def test_messages_do_not_alias(make: MakeGrid, program: Program) -> None:
    grid = make(program)
    shared = content(**{"server-round": 3})
    messages = [Message(shared, node, "evaluate") for node in (1, 2)]
    grid.send_and_receive(messages)
    assert shared["config"]["server-round"] == 3
    first, second = ask(grid, "train", [0, 1])
    assert isinstance(first.content["arrays"], ArrayRecord)
    first.content["arrays"]["0"].numpy()[:] = -1
    assert first_values([second]) == [101]
    assert not shared["arrays"]["0"].numpy().any()


def test_evaluation_leaves_the_state_alone(make: MakeGrid, program: Program) -> None:
    grid = make(program)
    ask(grid, "train")
    before = dict(grid._states)
    replies = ask(grid, "evaluate")
    assert [r.content["metrics"]["seen"] for r in replies] == [1] * 5
    assert all(grid._states[client] is before[client] for client in before)


def test_two_messages_of_one_client_run_in_order(make: MakeGrid, program: Program) -> None:
    shared = content()
    replies = make(program).send_and_receive(
        [Message(shared, 2, "train"), Message(shared, 1, "train"), Message(shared, 2, "train")]
    )
    assert [r.metadata.src_node_id for r in replies] == [1, 2, 2]
    assert [r.content["metrics"]["calls"] for r in replies] == [1, 1, 2]


def test_client_that_raises_gives_an_error_reply(make: MakeGrid, program: Program) -> None:
    grid = make(program)
    ask(grid, "train", [1])
    replies = ask(grid, "query.fail", **{"server-round": 7})
    assert [r.has_error() for r in replies] == [False, True, False, False, False]
    reason = replies[1].error.reason or ""
    assert reason.startswith("client 1 failed in round 7, query.fail: ValueError: no data\n")
    assert "in fail" in reason and grid.last.failures == 1
    assert grid.client_states()[1]["calls"]["n"] == 1


def test_traffic_counts_arrays_by_record(make: MakeGrid, program: Program) -> None:
    grid = make(program)
    ask(grid, "train", [0, 1])
    last = grid.last
    assert (dict(last.down), dict(last.up)) == ({"arrays": 48}, {"arrays": 48})
    assert (last.bytes_down, last.bytes_up, last.messages, last.failures, last.retries) == (48, 48, 2, 0, 0)


def test_push_and_pull(make: MakeGrid, program: Program) -> None:
    grid = make(program)
    message = grid.create_message(content(), "train", 2, group_id="1")
    ids = grid.push_messages([message])
    replies = list(grid.pull_messages(ids))
    assert replies[0].metadata.reply_to_message_id == next(iter(ids))
    assert calls(replies) == [1] and list(grid.pull_messages(ids)) == []


def test_app_built_from_a_node_gets_resources(make: MakeGrid) -> None:
    node = {"_target_": "tests.engine.apps.Made", "factor": 2.0}
    arrays = {"offset": np.zeros(1)}
    grid = make(Program(node, 1, "tests.engine.apps:setup", config={"base": 21.0}, arrays=arrays))
    [reply] = ask(grid, "train", [0])
    assert reply.content["config"]["product"] == 42.0


def test_flowers_fedavg_runs_as_it_is(make: MakeGrid, program: Program) -> None:
    random.seed(0)
    grid = make(program)
    strategy = FedAvg(fraction_train=0.6, min_available_nodes=5)
    arrays, config = ArrayRecord([np.zeros(3)]), ConfigRecord()
    messages = list(strategy.configure_train(1, arrays, config, grid))
    chosen = sorted(message.metadata.dst_node_id - 1 for message in messages)
    averaged, metrics = strategy.aggregate_train(1, grid.send_and_receive(messages))
    expected = sum((k + 1) * (100 + k) for k in chosen) / sum(k + 1 for k in chosen)
    assert averaged is not None and metrics is not None and len(chosen) == 3
    np.testing.assert_allclose(averaged["0"].numpy(), [expected] * 3, rtol=1e-12)
    replies = grid.send_and_receive(strategy.configure_evaluate(1, averaged, config, grid))
    assert strategy.aggregate_evaluate(1, replies) is not None and config["server-round"] == 1


def test_a_million_clients_cost_nothing_until_they_are_asked(pool: Pool, program: Program) -> None:
    grid = RayGrid(Program(program.app, 1_000_000, program.setup, arrays=program.arrays), pool)
    assert grid.get_node_ids() == range(1, 1_000_001)
    assert first_values(ask(grid, "train", [999_999])) == [1_000_099]
    assert sorted(grid._states) == [999_999]


def test_engines_cohorts_and_order_of_work_give_equal_replies(pool: Pool, program: Program) -> None:
    grids = [
        InlineGrid(program),
        RayGrid(program, pool),
        RayGrid(replace(program, cohort=4), pool),
        RayGrid(program, pool, cost=lambda client: client),
    ]
    seen = []
    for grid in grids:
        ask(grid, "train")
        replies = ask(grid, "train", [4, 1, 2])
        seen.append([(r.content["arrays"], r.content["metrics"]["calls"]) for r in replies])
    assert all(replies == seen[0] for replies in seen[1:])


def test_longest_clients_go_first(pool: Pool, program: Program) -> None:
    grid = RayGrid(program, pool, cost=lambda client: [3, 9, 1, 7, 5][client])
    jobs = [cohort.jobs[0].client for cohort in grid._cohorts(grid._jobs({k: [] for k in range(5)}, {}))]
    assert jobs == [1, 3, 4, 0, 2]


def test_cohorts_are_a_function_of_how_many_are_asked(program: Program) -> None:
    jobs = [Job(client, (), None) for client in range(130)]
    assert [len(program.cohorts(jobs[:n])[0]) for n in (1, 64, 65, 130)] == [1, 1, 2, 3]
    assert [[job.client for job in part] for part in replace(program, cohort=4).cohorts(jobs[:6])] == [
        [0, 1, 2, 3],
        [4, 5],
    ]


def test_large_states_live_in_the_object_store_by_copy(pool: Pool, program: Program) -> None:
    import ray

    grid = RayGrid(program, pool)
    big = RecordDict({"arrays": ArrayRecord([np.zeros(200_000)]), "config": ConfigRecord()})
    for _ in range(2):
        grid.send_and_receive([Message(big, 1, "train")])
    assert isinstance(grid._states[0], ray.ObjectRef)
    assert grid.client_states()[0]["personal"]["w"].numpy()[0] == 200


def test_data_are_put_into_the_object_store_once(
    pool: Pool, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    stored: list[Any] = []
    put = ray.put
    monkeypatch.setattr(ray, "put", lambda value: stored.append(value) or put(value))
    data = {"offset": np.full(1 << 18, 100.0)}
    grid = RayGrid(replace(program, arrays=data), pool)
    for _ in range(3):
        replies = ask(grid, "train")
    ray.kill(pool.slots[0].actor)
    assert first_values(ask(grid, "train")) == first_values(replies)
    assert sum(value == data for value in stored if isinstance(value, dict)) == 1


def test_inline_can_keep_the_traceback(program: Program) -> None:
    with pytest.raises(ClientError, match=r"client 1 failed in round 2, query\.fail: ValueError") as caught:
        ask(InlineGrid(program, raise_errors=True), "query.fail", **{"server-round": 2})
    assert isinstance(caught.value.__cause__, ValueError)


def test_program_that_cannot_start_tells_why(pool: Pool, program: Program) -> None:
    broken = RayGrid(Program("tests.engine.apps:app", 2, "tests.engine.apps:broken_setup"), pool)
    with pytest.raises(FileNotFoundError, match="is missing"):
        ask(broken, "train", [0])
    missing = RayGrid(Program("tests.engine.apps:nobody", 2), pool)
    with pytest.raises(ConfigError, match="has no 'nobody'"):
        ask(missing, "train", [0])
    assert calls(ask(RayGrid(program, pool), "train", [0])) == [1]


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        (lambda pool: start_pool(workers=0).result(), "engine.workers=0"),
        (lambda pool: Pool(threads_per_worker=0), "engine.threads_per_worker=0"),
        (lambda pool: Pool(gpus_per_worker=0.5, workers=999), "engine.workers=999 do not fit"),
        (lambda pool: RayGrid(Program("x:y", 1), pool, deadline=0), "engine.deadline=0"),
        (lambda pool: RayGrid(Program("x:y", 0), pool), "clients=0"),
        (lambda pool: probed("127.0.0.1:1"), "engine.address=127.0.0.1:1"),
        (lambda pool: probed("nonsense"), "engine.address=nonsense"),
    ],
)
def test_mistakes_are_told_in_one_sentence(wrong: Callable[[Pool], None], key: str, pool: Pool) -> None:
    with pytest.raises(ConfigError, match=key):
        wrong(pool)
