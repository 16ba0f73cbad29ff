"""Run by `test_cluster.py` in a process of its own: a whole run on a cluster of two nodes on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import ray
from ray.cluster_utils import Cluster

from simulations.engine.grid import RayGrid
from simulations.engine.pool import Pool
from simulations.engine.ray_runtime import ENVIRONMENT
from simulations.engine.runner import Program
from tests.engine.common import ask, calls

TINY = ["method=ditto", "model=mlp", "data.max_samples=300", "clients=5", "rounds=2"]


def main(folder: Path) -> None:
    """`engine.address=auto` finds the cluster, uses both nodes, and gives the numbers of one process."""
    os.environ.update(ENVIRONMENT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=2, num_gpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address  # what `auto` looks for first
        play(folder / "cluster", "engine.address=auto")
        share_a_gpu()
    finally:
        ray.shutdown()
        cluster.shutdown()
    play(folder / "inline", "engine=inline")
    ours, plain = (pd.read_parquet(folder / name / "clients.parquet") for name in ("cluster", "inline"))
    pd.testing.assert_frame_equal(ours, plain)
    print("equal")


def play(out: Path, *words: str) -> None:
    """`fedkd run`, as a user types it."""
    command = [sys.executable, "-m", "simulations.cli", "run", *TINY, *words, f"out={out}"]
    subprocess.run(command, check=True, timeout=120)


def share_a_gpu() -> None:
    """Two workers share the one GPU that this cluster believes to have, though it has CPUs for three."""
    pool = Pool(address="auto", gpus_per_worker=0.5)
    assert len(pool.slots) == 2
    arrays = {"offset": np.array([100.0])}
    program = Program("tests.engine.apps:app", 5, "tests.engine.apps:setup", arrays=arrays)
    assert calls(ask(RayGrid(program, pool), "train")) == [1] * 5
    pool.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
