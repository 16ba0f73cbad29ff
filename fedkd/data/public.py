"""Public data: samples of another data set than the clients', of which no label is used."""

from collections.abc import Mapping
from typing import Any

from fedkd.data.federation import Federation
from fedkd.data.plan import build_federation
from fedkd.data.samples import Samples
from fedkd.errors import ConfigError

_WHOLE = {"partition": {"_target_": "fedkd.data.partitions.IID"}, "clients": 1}
_TWINS = ({"fashion_mini", "fashion_mnist"}, {"mnist", "digits_by_writer"})
"""Data sets of the same pictures."""


def public_samples(node: Mapping[str, Any], federation: Federation) -> Samples:
    """The test set of the data set `node`, normalised as its own pool, whatever the clients' partition.

    Raises ConfigError where it shares samples with the clients' data, on which they are judged, and where its
    samples are of another shape.
    """
    public = foreign(node, federation)
    if public.global_test is None:
        raise ConfigError(f"public={public.name} has no test set that could be public")
    return public.global_test


def foreign(node: Mapping[str, Any], federation: Federation, key: str = "public") -> Federation:
    """The data set `node` in one hand; ConfigError where it shares samples or differs in their shape."""
    public = build_federation({"data": node, **_WHOLE})
    both = {public.name, federation.name}
    if len(both) == 1 or any(both <= twins for twins in _TWINS):
        raise ConfigError(
            f"{key}={public.name} has samples that the clients of {federation.name} hold or are tested on: "
            "another data set is needed"
        )
    if public.input_shape != federation.input_shape:
        raise ConfigError(
            f"{key}={public.name} has samples of shape {public.input_shape}, and {federation.name} of "
            f"{federation.input_shape}: a data set of the same shape is needed"
        )
    return public
