"""Who the clients of a run are.

`population.csv` is the table of `fedkd partition`, of the first thousand. `bad_clients.json`, only there if
somebody is, says who attacks and who has wrong labels, by client number.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkd.build import build
from fedkd.data.describe import describe
from fedkd.data.federation import Federation
from simulations.loop import Plan, Watcher
from simulations.rundir import write_text

POPULATION, BAD = "population.csv", "bad_clients.json"


class Population(Watcher):
    """Writes both files once, when the run begins.

    out: the run folder, which exists
    config: of the run
    """

    def __init__(self, out: Path, federation: Federation, config: Mapping[str, Any]) -> None:
        self.out, self.federation = out, federation
        self.bad = bad_clients(config, federation)

    def started(self, plan: Plan) -> None:
        if not (self.out / POPULATION).exists():
            write_text(self.out / POPULATION, describe(self.federation).to_csv(index=False))
        if self.bad:
            write_text(self.out / BAD, json.dumps(self.bad, indent=1) + "\n")


def bad_clients(config: Mapping[str, Any], federation: Federation) -> dict[int, str]:
    """What is wrong with whom, by client number."""
    found: dict[int, str] = {}
    for key, words in (("label_noise", "wrong labels"), ("attack", "attacks")):
        if config[key]:
            chosen = build(config[key]).chosen(federation.num_clients, federation.seed)
            found |= {k: f"{found[k]}, {words}" if k in found else words for k in chosen}
    return dict(sorted(found.items()))
