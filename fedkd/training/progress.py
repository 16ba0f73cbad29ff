"""What is noted while a client's round is driven, beside the model that comes out."""

from dataclasses import dataclass, field

from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.training.program import Params


class DivergedError(FloatingPointError):
    """Local training left a parameter that is not finite."""


@dataclass
class Progress:
    """Of one client in one round.

    first_loss: on the first batch, before any step; None before there was one
    samples: that the steps took, each as often as it was used
    snapshots: results of phases, each with the same model after the step that the server asked for
    """

    first_loss: float | None = None
    samples: int = 0
    snapshots: list[tuple[Params, Params]] = field(default_factory=list)

    def snapshot_of(self, upload: Params) -> Params:
        """The trained tensors `upload` as they were after the step that the server asked for.

        They are recognised by identity, because a method may train in several phases and send part of one.
        """
        moments: dict[int, Tensor] = {}
        for trained, moment in self.snapshots:
            for name, tensor in trained.items():
                moments.setdefault(id(tensor), moment[name])
        if any(id(tensor) not in moments for tensor in upload.values()):
            raise ConfigError("a snapshot was asked for, and this method does not send the model it trained")
        return {name: moments[id(tensor)] for name, tensor in upload.items()}
