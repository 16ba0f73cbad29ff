"""Data sets, file formats, partitions and per-client splits. See `docs/data.md`.

conf -> data set (catalog) -> partition (partitions) -> client splits (split) -> Federation
"""

from fedkd.data import flower_light
from fedkd.data.federation import Federation, federation_from
from fedkd.data.plan import build_federation
from fedkd.data.samples import ClientData, Samples

flower_light.lighten()

__all__ = ["ClientData", "Federation", "Samples", "build_federation", "federation_from"]
