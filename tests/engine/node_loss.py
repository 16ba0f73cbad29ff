"""Run by `test_node_loss.py` in a process of its own: a cluster of two nodes on this machine loses one."""

import os

import numpy as np
import ray
from ray.cluster_utils import Cluster

from simulations.engine.grid import RayGrid
from simulations.engine.inline import InlineGrid
from simulations.engine.pool import Pool
from simulations.engine.ray_runtime import ENVIRONMENT
from simulations.engine.runner import Program
from tests.engine.common import ask, calls, first_values


def main() -> None:
    """Lose a node; every client's calls and values go on as if nothing had happened."""
    os.environ.update(ENVIRONMENT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lose_a_node(cluster)
    finally:
        ray.shutdown()
        cluster.shutdown()  # also forgets the address: Flower's own simulation would look for this cluster
    print("survived")


def lose_a_node(cluster: Cluster) -> None:
    """Four rounds; the second node goes after two of them."""
    node = cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address  # what `auto` looks for first
    pool = Pool(address="auto")
    assert len(pool.slots) == 2
    arrays = {"offset": np.array([100.0])}
    program = Program("tests.engine.apps:app", 5, "tests.engine.apps:setup", arrays=arrays)
    grid, undisturbed = RayGrid(program, pool), InlineGrid(program)
    for number in range(1, 5):
        if number == 3:
            cluster.remove_node(node, allow_graceful=False)
        replies, expected = ask(grid, "train"), ask(undisturbed, "train")
        assert calls(replies) == [number] * 5
        assert first_values(replies) == first_values(expected)
    assert grid.client_states() == undisturbed.client_states()


if __name__ == "__main__":
    main()
