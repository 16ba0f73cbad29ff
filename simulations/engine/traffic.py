"""What one batch of messages moved, and what went wrong in it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, Message

from clients.arrays import nbytes


@dataclass
class Traffic:
    """Bytes by payload kind (the name of the record) towards clients and back, and the count of faults.

    `failures`: messages without a usable reply; `retries`: cohorts that had to run again.
    """

    down: Counter[str] = field(default_factory=Counter)
    up: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    failures: int = 0
    retries: int = 0

    @property
    def bytes_down(self) -> int:
        """All bytes sent to clients."""
        return sum(self.down.values())

    @property
    def bytes_up(self) -> int:
        """All bytes sent back by clients."""
        return sum(self.up.values())


def payload(messages: Iterable[Message]) -> Counter[str]:
    """Bytes of the arrays in these messages, by record name; what is sent to ten clients counts ten times."""
    weights: dict[int, int] = {}
    total: Counter[str] = Counter()
    for message in messages:
        for name, record in message.content.items() if message.has_content() else ():
            if isinstance(record, ArrayRecord):
                if id(record) not in weights:
                    weights[id(record)] = sum(map(nbytes, record.values()))
                total[name] += weights[id(record)]
    return total
