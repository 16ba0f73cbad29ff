"""ClientApps for Flower's own simulation, in Flower's idiom."""

from functools import lru_cache

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.speed.workloads import network, samples, share, train

app = ClientApp()


@lru_cache
def _data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.set_num_threads(1)
    return samples()


@app.train()
def fit(message: Message, context: Context) -> Message:
    """One epoch of the workload's network."""
    x, y = share(int(context.node_config["partition-id"]), *_data())
    model = network(str(message.content["config"]["workload"]))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    train(model, x, y)
    metrics = MetricRecord({"num-examples": len(y), "train_loss": 0.0})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.query()
def echo(message: Message, context: Context) -> Message:
    """What came, changed by a number, so that no two replies are the same object."""
    arrays = message.content["arrays"].to_numpy_ndarrays()
    arrays[0] = arrays[0] + np.float32(context.node_config["partition-id"])
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)
