"""Strategies that remember clients know them by their place among all, also while some are away."""

from collections.abc import Sequence

from flwr.serverapp import Grid

from strategies.server import places_of


class Nodes(Grid):
    """Only the nodes that are there; `training` has all."""

    training: Sequence[int] = (7, 5, 9)

    def get_node_ids(self) -> Sequence[int]:
        return [9]

    set_run = run = create_message = push_messages = pull_messages = send_and_receive = None  # type: ignore


class Plain(Nodes):
    """A grid of somebody else's, whose nodes are always there."""

    training = ()


def test_places_are_those_among_all_clients() -> None:
    assert places_of(Nodes()) == {7: 0, 5: 1, 9: 2}
    assert places_of(Plain()) == {9: 0}
