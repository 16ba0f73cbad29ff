"""When a test here fails, Ray moved a private name: mend `simulations/engine/ray_private.py`, nothing else.

Where to look in the new Ray: what `ray._private.node.Node` starts for a head node, beside its control store
(`gcs_server`) and its `raylet`.
"""

import pytest
from ray._private import node, worker

from simulations.engine.pool import Pool
from simulations.engine.ray_private import NEEDLESS, without_needless_daemons


def test_a_private_ray_has_two_daemons(pool: Pool) -> None:
    started = worker._global_node
    assert started is not None and pool.slots
    assert set(started.all_processes) == {"gcs_server", "raylet"}


def test_names_come_back_and_a_ray_without_one_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(node.Node, NEEDLESS[0])
    before = {name: getattr(node.Node, name) for name in NEEDLESS[1:]}
    with without_needless_daemons():
        assert not hasattr(node.Node, NEEDLESS[0])
        assert all(getattr(node.Node, name) is not method for name, method in before.items())
    assert all(getattr(node.Node, name) is method for name, method in before.items())
