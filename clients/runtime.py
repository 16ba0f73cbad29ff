"""What a process needs to run clients, built once from the resolved configuration and kept.

An engine of ours calls `setup` when a worker starts, with the data already in shared memory. Under Flower's
own simulation or a deployment, the configuration arrives with each message and is built at first sight.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from flwr.app import RecordDict

from fedkd.build import build
from fedkd.data import build_federation
from fedkd.data.federation import Federation, federation_from
from fedkd.data.public import public_samples
from fedkd.data.samples import ClientData, Samples
from fedkd.generators.recipe import recipe
from fedkd.models import build_model, model_node
from fedkd.models.staged import StagedModel
from fedkd.protocol import SETUP
from fedkd.robust.attack import Attack
from fedkd.training.loop import Trainer
from fedkd.training.program import ClientProgram, Params
from fedkd.training.settings import LocalSettings


class Runtime:
    """Data, networks and the client program of one run, in one process.

    device: where networks, samples and all that clients receive or keep are while clients work
    """

    def __init__(self, config: Mapping[str, Any], federation: Federation, device: str = "cpu") -> None:
        self.config = config
        self.federation = federation
        self.device = torch.device(device)
        self.seed = int(config["seed"])
        torch.set_num_threads(int(config["engine"]["threads_per_worker"]))
        self.program: ClientProgram = build(config["method"]["client"], generator=recipe(config["generator"]))
        self.attack: Attack | None = build(config["attack"]) if config["attack"] else None
        self._keys: dict[int, str] = {}  # of the trainers, by the place among `per_client`
        self._trainers: dict[str, tuple[Trainer, Params]] = {}
        self._shift: tuple[float, ...] = ()
        self._workers: dict[int, Trainer] = {}  # under the shift

    def trainer(self, client: int) -> tuple[Trainer, Params]:
        """The trainer and common initial weights for this client's architecture."""
        kinds = self.config["model"].get("per_client")
        place = client % len(kinds) if kinds else 0
        if place not in self._keys:
            node = model_node(self.config["model"], client)
            self._keys[place] = json.dumps(node, sort_keys=True)
        key = self._keys[place]
        if key not in self._trainers:
            network = self._network(model_node(self.config["model"], client))
            initial = self.here({n: t.detach().clone() for n, t in network.state_dict().items()})
            settings: LocalSettings = build(self.config["local"])
            # Where architectures differ, the one that clients may share is the first client's.
            mixed = self.config["model"].get("per_client")
            others = {"shared": self._network(model_node(self.config["model"], 0))} if mixed else {}
            trainer = Trainer(network, settings, self.config["precision"], others, str(self.device))
            self._trainers[key] = (trainer, initial)
        return self._trainers[key]

    def worker(self, client: int, shift: Sequence[float]) -> Trainer:
        """The trainer of this client's work, whose losses see logits moved by `shift` (M,): one a round."""
        trainer, _ = self.trainer(client)
        if tuple(shift) != self._shift:
            self._shift, self._workers = tuple(shift), {}
        if id(trainer) not in self._workers:
            moved = torch.tensor(shift, dtype=torch.float32, device=self.device)
            self._workers[id(trainer)] = trainer.shifted(moved)
        return self._workers[id(trainer)]

    @cached_property
    def attackers(self) -> frozenset[int]:
        """The clients that send bad updates."""
        if self.attack is None:
            return frozenset()
        return self.attack.chosen(self.federation.num_clients, self.federation.seed)

    def here(self, tensors: Params) -> Params:
        """These tensors on the device."""
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def client(self, number: int) -> ClientData:
        """A client's data on the device."""
        return self._placed(self.federation.client(number))

    def _placed(self, data: ClientData) -> ClientData:
        train, val, test = (samples.to(self.device) for samples in (data.train, data.val, data.test))
        return replace(data, train=train, val=val, test=test)

    def _network(self, node: Mapping[str, Any]) -> StagedModel:
        return build_model(node, self.federation.input_shape, self.federation.num_classes, self.seed)

    @cached_property
    def public(self) -> Samples | None:
        """The public data of methods that distil on some; unlabelled use only."""
        node = self.config["public"]
        return public_samples(node, self.federation).to(self.device) if node else None

    @cached_property
    def mix_samples(self) -> Any:
        """A fixed sample of the global test set, for accuracy under each client's label mix."""
        test, wanted = self.federation.global_test, int(self.config["evaluation"]["mix_samples"])
        if test is None or wanted == 0:
            return None
        step = max(1, len(test) // wanted)
        return test.take(torch.arange(0, len(test), step)).to(self.device)

    @cached_property
    def pooled(self) -> ClientData:
        """All training clients' data as one client's, in client order."""
        shares = [self.federation.client(int(k)) for k in self.federation.train_clients]
        train, val, test = (
            Samples(
                *(torch.cat([getattr(getattr(s, split), part) for s in shares]) for part in ("x", "y", "ids"))
            )
            for split in ("train", "val", "test")
        )
        return self._placed(ClientData(0, "pooled", train, val, test, self.federation.num_classes))


_current: tuple[str, Runtime] | None = None


def setup(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Install the run's configuration and data in this process (called by an engine's worker).

    spec: `config`, the resolved configuration, and `federation`, the federation's `meta()`
    arrays: the federation's large arrays, possibly read-only views into shared memory
    """
    global _current
    config = spec["config"]
    _current = (
        json.dumps(config, sort_keys=True),
        Runtime(config, federation_from(spec["federation"], arrays), device_for(config["engine"])),
    )


def device_for(engine: Mapping[str, Any]) -> str:
    """Where this engine's workers work: on the GPU that each asks for, else on the CPU."""
    return "cuda" if engine.get("gpus_per_worker") else "cpu"


def runtime(content: RecordDict) -> Runtime:
    """The process's runtime, built from the message's configuration record where it carries one."""
    global _current
    if SETUP in content:
        text = str(content.config_records[SETUP]["json"])
        if _current is None or _current[0] != text:
            config = json.loads(text)
            _current = (text, Runtime(config, build_federation(config)))
    if _current is None:
        raise RuntimeError(
            "no configuration has reached this client: start it with `fedkd run` or flower_app"
        )
    return _current[1]
