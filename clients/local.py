"""No federation: every client trains alone, from the common initial weights, and sends nothing."""

from fedkd.training.program import ClientProgram, Phase, Reply, State, Task, Work


class Local(ClientProgram):
    """Local-only training: the line that every federated method must beat, client by client."""

    personal_model = True
    class_margins = True
    global_model = False
    mixed_models = True

    def work(self, task: Task, state: State) -> Work:
        trained = yield Phase(self.start(task, state), self.loss)
        return Reply(state=trained, trained=trained)
