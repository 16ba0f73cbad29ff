"""DaFKD's client (Wang et al., CVPR 2023): FedAvg's, then a discriminator and a generator on its own samples.

The discriminator stays the client's own from round to round (in the release all clients share one object,
and each goes on with its neighbour's); a copy is sent, because the server weights its ensemble by it. The
generator is averaged there. Both are trained in the first rounds only, as in the release; the classifier
never sees them. See `fedkd.generators.discriminator`.
"""

from typing import Any, ClassVar

from clients.fedgen import LabelCounts
from fedkd.errors import ConfigError
from fedkd.generators.base import shapes_at
from fedkd.generators.discriminator import Game, discriminator_of
from fedkd.generators.recipe import Recipe
from fedkd.models.staged import StagedModel
from fedkd.protocol import DISCRIMINATOR, GENERATOR
from fedkd.training.program import Reply, State, Task, Work, joined, part


class DaFKD(LabelCounts):
    """FedAvg's client with a game of a generator and a discriminator after its training.

    generator: how it is built
    game: how both are trained
    game_rounds: rounds in which they are
    """

    search_space: ClassVar[dict[str, Any]] = {
        **LabelCounts.search_space,
        "method.client.game.steps": [5, 10, 20],
        "method.strategy.scheme.student_optim.lr": {"low": 1e-4, "high": 0.1, "log": True},
    }

    def __init__(self, generator: Recipe, game: Game | None = None, game_rounds: int = 5) -> None:
        super().__init__()
        if game_rounds < 0:
            raise ConfigError(f"method.client.game_rounds={game_rounds}: 0 or more is needed")
        self.recipe = generator
        self.game = game or Game()
        self.game_rounds = game_rounds

    def check(self, network: StagedModel) -> None:
        network.check_cut(1)

    def work(self, task: Task, state: State) -> Work:
        reply: Reply = yield from super().work(task, state)
        assert reply.trained is not None
        judge = discriminator_of(task.network, reply.trained, part(state, "judge"))
        if task.server_round <= self.game_rounds:
            generator = self.recipe(
                shapes_at(task.network, [0]), task.data.num_classes, task.rng("generator")
            )
            generator.load_state_dict(task.knowledge[GENERATOR])
            counts, x = task.data.class_counts("train"), task.data.train.x
            self.game(generator, judge, x, counts, task.rng("game"))
            reply.upload[GENERATOR] = generator.state_dict()
        reply.upload[DISCRIMINATOR] = judge.judge.state_dict()
        reply.state = joined(judge=judge.judge.state_dict())
        return reply
