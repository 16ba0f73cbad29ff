"""The flagship's client is FedD2S's; what is tuned differs: its server has a generator and client weights."""

from typing import Any, ClassVar

from clients.fedd2s import FedD2S


class FedD2SRobust(FedD2S):
    """FedD2S's client under protocol P3: it sends its private head and its label counts, no activation."""

    search_space: ClassVar[dict[str, Any]] = {
        **FedD2S.search_space,
        "method.strategy.fitting.steps": [20, 50, 100],
        "weighting.alpha": [0.25, 0.5, 1.0],
    }
