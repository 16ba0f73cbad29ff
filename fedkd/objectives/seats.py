"""Where in a federation an objective may sit: what each seat offers, or a sentence where that is too little.

client: a model learns at a client from the one it received, which is frozen; labels are the client's own
server: a model learns from the clients' ensemble on generated or public inputs, of which the teachers tell
    logits alone; labels are those the inputs were generated for
"""

from fedkd.objectives.base import Objective, check, require
from fedkd.objectives.combined import Combined

AT_CLIENT = frozenset(
    {"student_logits", "student_features", "student_from", "labels", "generator"}
    | {"teacher_logits", "teacher_features", "teacher_head"}
    | {"class_means", "class_predictions", "class_costs", "subclasses"}
)
AT_SERVER = frozenset(
    {"student_logits", "student_features", "teacher_logits", "ensemble_logits", "generator"}
)

CLIENT = "a client that distils the received model"
SERVER = "a server that distils its clients"


def check_client(objective: Objective) -> None:
    """ConfigError where a client cannot distil the received model under this objective."""
    check(objective, AT_CLIENT, CLIENT)
    _check_terms(objective, CLIENT)


def check_server(objective: Objective, labels: bool) -> None:
    """ConfigError where the server cannot distil an ensemble under this objective.

    labels: whether inputs come with labels
    """
    check(objective, AT_SERVER | ({"labels"} if labels else set()), SERVER)
    _check_terms(objective, SERVER)


def _check_terms(objective: Objective, seat: str) -> None:
    for term in terms(objective):
        name = f"objective={term.about.name}"
        require(not term.trains_teacher, f"{name} trains its teacher, which is fixed for {seat}")
        require(not own_heads(term), f"{name} predicts with heads of its own, which {seat} does not send")
        require(
            not term.follows_validation,
            f"{name} learns from validation data while it trains, which {seat} does not do",
        )


def own_heads(objective: Objective) -> bool:
    """Whether the student that it trains is more than the network itself."""
    return any(type(term).predict is not Objective.predict for term in terms(objective))


def terms(objective: Objective) -> list[Objective]:
    """The objective itself, or those that a combination adds up."""
    if isinstance(objective, Combined):
        return [leaf for term in objective.terms for leaf in terms(term)]
    return [objective]
