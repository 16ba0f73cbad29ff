"""Starting Ray: a private cluster on this machine, or a running one by its address."""

import logging
import os
import socket
import tempfile
import threading
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from fedkd.errors import ConfigError
from simulations.engine.ray_private import without_needless_daemons

if TYPE_CHECKING:
    from simulations.engine.pool import Pool

DEFAULT_PORT = 6379
PROBE_SECONDS = 3.0
INLINE_BYTES = 1 << 22  # holds three replies of a network of 300 k parameters: a call less for each
ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # at Ray's nice 15 any other busy process starves the workers
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_TELEMETRY_ENABLED": "0",
    # a reply of this size travels in the answer itself: through the object store it costs milliseconds of CPU
    "RAY_max_direct_call_object_size": str(INLINE_BYTES),
    # while it starts, Ray often misses its own object store by milliseconds and tries again a second later
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
}
# here, since a filter set in a thread is lost where another one leaves `warnings.catch_warnings`
warnings.filterwarnings("ignore", message="Tip: In future versions of Ray", category=FutureWarning)
_starting = threading.Lock()


def start_early() -> "Future[None]":
    """Start a private Ray in the background, before anybody knows what workers are wanted; done when it runs.

    If it fails, so will `start_pool`, which is where the user is told.
    """
    future: Future[None] = Future()

    def boot() -> None:
        try:
            start_ray(None)
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)
        threading.Event().wait()  # as in `start_pool`

    threading.Thread(target=boot, name="ray", daemon=True).start()
    return future


def start_pool(
    workers: int | None = None,
    threads_per_worker: int = 1,
    address: str | None = None,
    gpus_per_worker: float = 0.0,
    server_cpus: float = 0.0,
) -> "Future[Pool]":
    """Start Ray and the workers in the background (seconds: read data meanwhile); `.result()` is the pool.

    The thread never ends: Linux ends Ray's daemons together with the thread that started them.
    """
    future: Future[Pool] = Future()

    def boot() -> None:
        try:
            start_ray(address)  # its daemons start while this process imports the rest
            from simulations.engine.pool import Pool

            future.set_result(Pool(workers, threads_per_worker, address, gpus_per_worker, server_cpus))
        except BaseException as error:
            future.set_exception(error)
        threading.Event().wait()

    threading.Thread(target=boot, name="ray", daemon=True).start()
    return future


def cpu_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def start_ray(address: str | None) -> None:
    """Connect to `address` (`auto`, `host:port`, `ray://host:port`), or start a private Ray (None, `local`).

    A Ray that this process already uses, or is just starting, is kept.
    """
    with _starting:
        _start_ray(address)


def _start_ray(address: str | None) -> None:
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    import ray

    if ray.is_initialized():
        return
    if address in (None, "local"):
        with without_needless_daemons():
            ray.init(
                address="local",
                num_cpus=cpu_count(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    else:
        ray.init(address=probed(str(address)), log_to_driver=False, logging_level=logging.ERROR)


def probed(address: str) -> str:
    """The address, if somebody listens there: Ray itself would try for minutes and then exit the process."""
    target = _running_cluster() if address == "auto" else address
    host, _, port = target.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host or target, int(port) if host else DEFAULT_PORT), PROBE_SECONDS):
            return target
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"engine.address={address}: no Ray cluster answers ({error}); accepted are local, auto, host:port"
        ) from None


def _running_cluster() -> str:
    known = os.environ.get("RAY_ADDRESS")
    noted = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray", "ray_current_cluster")
    if not known and noted.is_file():
        known = noted.read_text().strip()
    if not known:
        raise ConfigError("engine.address=auto: no Ray cluster runs on this machine; start one or use local")
    return known
