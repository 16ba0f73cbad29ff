"""The flagship's client is FedD2S's under the no-harm rule; its server has a generator and client weights."""

from typing import Any, ClassVar

from clients.fedd2s_no_harm import NoHarm


class FedD2SRobust(NoHarm):
    """FedD2S's client under protocol P3: it sends its private head and its label counts, no activation.

    By default it trusts the global head on the samples that this gets right (`trust: correct`, a choice of
    our own): a head that has seen generated features only is often wrong on real ones.
    """

    search_space: ClassVar[dict[str, Any]] = {
        **NoHarm.search_space,
        "method.strategy.fitting.steps": [20, 50],
        "weighting.alpha": [0.25, 0.5, 1.0],
    }
