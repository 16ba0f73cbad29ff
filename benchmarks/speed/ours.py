"""fedkd as a user runs it, recorder and checkpoints included; the cost of its messages; large populations."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict

from benchmarks.killer import own_workers
from benchmarks.speed.gate import Gate
from benchmarks.speed.workloads import BATCH, CLIENTS, LR, SAMPLED, samples
from clients.arrays import as_ndarray, record_from_arrays
from fedkd.data.dataset import DataSet, Source
from simulations.checkpoint import Checkpoints
from simulations.config import resolve
from simulations.engine.grid import RayGrid
from simulations.engine.pool import Pool
from simulations.engine.runner import Program
from simulations.loop import Round, Watcher
from simulations.loop import play as play_rounds
from simulations.observe import ObservedGrid
from simulations.recorder import Recorder
from simulations.run import opened
from simulations.session import plan_of

MODELS = {
    "mlp": ["model=mlp"],
    "small_cnn": ["model=cnn", "model.channels=[6,16]", "model.hidden=75"],
    "cnn": ["model=cnn"],
}
ENDLESS = ["rounds=1000000", "evaluate_every=1000000", "evaluation.mix_samples=0", "evaluation.after=false"]


@dataclass(frozen=True)
class Images(Source):
    """The workloads' samples as a data set."""

    name = "images"

    def read(self) -> DataSet:
        """All of them."""
        x, y = samples()
        return DataSet("images", x.numpy(), y.numpy(), tuple("0123456789"))


class Gated(Watcher):
    """Waits at the gate before each round; a turn ends when all that is to be written is written."""

    def __init__(self, gate: Gate, saving: Checkpoints) -> None:
        self.gate, self.saving = gate, saving

    def started(self, plan: Any) -> None:
        self._wait()

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        self._wait()

    def _wait(self) -> None:
        if self.gate.closing:
            self.saving.settle()
        if not self.gate():
            raise KeyboardInterrupt


def play(gate: Gate, name: str, *overrides: str) -> None:
    """Rounds of FedAvg on a workload."""
    data = ["data._target_=benchmarks.speed.ours.Images", "partition=iid", "split.val=0", "split.test=0"]
    size = [f"clients={CLIENTS}", f"participation={SAMPLED}", f"local.batch_size={BATCH}", f"local.lr={LR}"]
    run_gated(gate, ["method=fedavg", *data, *size, *MODELS[name], *ENDLESS, *overrides])


def population(gate: Gate, clients: str) -> None:
    """Rounds of a hundred clients out of `clients`."""
    words = [
        "method=fedavg",
        "data=synthetic",
        f"clients={clients}",
        "data.max_size=200",
        "participation=100",
    ]
    run_gated(gate, [*words, *ENDLESS])


def run_gated(gate: Gate, words: list[str]) -> None:
    """A run whose rounds wait at the gate."""
    with tempfile.TemporaryDirectory() as folder, opened(resolve(words)) as (prepared, grid):
        out = Path(folder)
        observed = ObservedGrid(grid, grid.get_node_ids(), prepared.federation.train_clients.tolist())
        saving = Checkpoints(out, prepared.strategy, grid, prepared.config["checkpoint_every"])
        watchers = [Recorder(out), saving, Gated(gate, saving)]
        try:
            play_rounds(prepared.strategy, observed, prepared.arrays, plan_of(prepared, 1), watchers)
        except KeyboardInterrupt:
            print_memory()


def messages(gate: Gate, parameters: str, clients: str, kind: str = "own") -> None:
    """Exchanges with distinct replies, of a stock ClientApp or of one that answers as ours do."""
    app = "benchmarks.speed.stock_app:app" if kind == "stock" else "benchmarks.speed.ours:echo"
    grid = RayGrid(Program(app, int(clients)), Pool())
    arrays = record_from_arrays({"0": np.zeros(int(parameters), np.float32)})
    while gate():
        content = RecordDict({"arrays": arrays})
        asked = [Message(content, dst_node_id=node, message_type="query") for node in grid.get_node_ids()]
        assert not any(reply.has_error() for reply in grid.send_and_receive(asked))


def echo(message: Message, context: Context) -> Message:
    """As `stock_app.echo`, without serialising."""
    array = as_ndarray(message.content.array_records["arrays"]["0"])
    changed = record_from_arrays({"0": array + np.float32(context.node_config["partition-id"])})
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": changed, "metrics": metrics}), reply_to=message)


def print_memory() -> None:
    """The megabytes of this process and its workers, on the standard error."""
    import os
    import sys

    pids = [os.getpid(), *own_workers()]
    sizes = [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") for pid in pids
    ]
    print(f"memory {sum(sizes) / 1e6:.0f}", file=sys.__stdout__, flush=True)
