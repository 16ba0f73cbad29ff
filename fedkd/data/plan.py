"""From the resolved configuration to a federation: who holds what, before any training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedkd.build import build
from fedkd.data.checks import real, whole
from fedkd.data.federation import Federation
from fedkd.data.partition import Partition
from fedkd.data.skew import LabelNoise, Skew
from fedkd.data.split import Split
from fedkd.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """How a data set is divided.

    partition: the rule; clients: how many, null for everybody (by-person data) or the partition's default;
    split, skew, label_noise: what happens within each client; unseen: fraction kept out of training;
    seed: of the run.
    """

    partition: Partition
    clients: int | None = None
    split: Split = field(default_factory=Split)
    skew: Skew = field(default_factory=Skew)
    label_noise: LabelNoise = field(default_factory=LabelNoise)
    unseen: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        whole("seed", self.seed)
        real("unseen_clients", self.unseen, 0, 1, open_high=True)
        if self.clients is not None:
            whole("clients", self.clients, at_least=1)
        if self.unseen and self.clients == 1:
            raise ConfigError(
                "unseen_clients keeps the only client out of training; set clients to 2 or more"
            )


def build_federation(cfg: Mapping[str, Any]) -> Federation:
    """The federation of a resolved configuration (plain dictionaries).

    data: node of a data set (fedkd.data.catalog, people, synthetic), its keys under `data.*`;
    partition: node of a rule (fedkd.data.partition), its keys under `partition.*`;
    clients: how many clients; null takes everybody of by-person data, else the partition's default;
    seed: of the run; `partition.seed`, where set, decides instead who holds what;
    unseen_clients: fraction of clients kept out of training and evaluated as newcomers, default 0;
    split.val, split.test: shares of each client's samples (fedkd.data.split.Split);
    skew.rotation, skew.colour, skew.noise: feature skew (fedkd.data.skew.Skew);
    label_noise.clients, label_noise.labels: wrong labels to learn from (fedkd.data.skew.LabelNoise).
    """
    parts = {
        name: build({"_target_": f"{kind.__module__}.{kind.__qualname__}", **(cfg.get(name) or {})})
        for name, kind in (("split", Split), ("skew", Skew), ("label_noise", LabelNoise))
    }
    plan = Plan(
        partition=build(cfg["partition"]),
        clients=cfg.get("clients"),
        unseen=cfg.get("unseen_clients") or 0.0,
        seed=cfg.get("seed", 0),
        **parts,
    )
    return build(cfg["data"]).federation(plan)
