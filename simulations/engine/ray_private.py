"""The one use of names that Ray does not promise to keep, so that a new Ray is checked in one place.

`ray.init` starts three daemons that nobody asks anything of in a private Ray without autoscaler, dashboard
and logs in the driver. Each imports half of Ray meanwhile, on the cores that a short run waits for. There is
no public switch. `tests/engine/test_ray_private.py` says where to look when they start again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NEEDLESS = ("start_monitor", "start_api_server", "start_log_monitor")


@contextmanager
def without_needless_daemons() -> Iterator[None]:
    """Within it `ray.init` starts no monitor, of an autoscaler or of logs, and no server of a dashboard.

    Where Ray has renamed one of them it starts as it always did.
    """
    from ray._private.node import Node

    found = {name: getattr(Node, name) for name in NEEDLESS if hasattr(Node, name)}
    try:
        for name in found:
            setattr(Node, name, _start_nothing)
        yield
    finally:
        for name, method in found.items():
            setattr(Node, name, method)


def _start_nothing(node: Any, **_: Any) -> None:
    """In place of a method of a Ray node."""
