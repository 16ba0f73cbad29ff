"""The table of docs/objectives.md, written from the code: `python -m fedkd.objectives.table`."""

from dataclasses import fields

from fedkd.objectives.base import Objective
from fedkd.objectives.catalog import catalog

HEAD = """\
# Distillation objectives

Written by `python -m fedkd.objectives.table`; a test compares this page with the code.

`objective=NAME` selects one, `objective=[ce,kd,nd]` adds several up. *Needs* names the signals that a
distillation step has to provide (`fedkd/objectives/signals.py`); a step that cannot refuses in one sentence.
*Per sample*: one value for each sample, independent of the others, so that cohorts are vectorised and groups
weighted; the others couple the samples of a batch. *Source*: `reference code` and `paper listing` match the
authors' code in value and gradient, `formula` matches an independent computation of the paper's formula,
`reconstructed` fills in what the paper leaves open; what was chosen is said in the docstring.

Where they run. `fedkd distill objective=X` trains a teacher and a student in one place: any of them. There
`student.labelled=0.05` hides labels (for `ce`, `dho`, and all that read none), `proxy=NAME` puts unlabelled
data of another kind in the place of the training data, of which `student.keep` selects the surest each
round (KD^3), `teacher.from=[A,B,C]` makes several teachers, `-m` sweeps.

`fedkd run method=fedavg_kd objective=X`: each client learns from the model it received; what X trains or
remembers stays in the client's state and its checkpoints. `fedkd run method=feddf objective=X` (and
`dense`, `fedftg`, `dfrd`, `dafkd`): the server distils its clients' logits; parts and memory begin anew
each round, as its student does. What a place cannot serve is refused in a sentence
(`fedkd/objectives/seats.py`; `tests/objectives/test_seats.py` has every pair).

`ffg2m` needs a graph: `fedkd distill experiment=distill/ffg2m_cora` in one place, where a GCN of plain
PyTorch (`teacher.model=mlp`, each layer after a mean over neighbours) teaches, and `fedkd run
experiment=ffg2m_cora_split` with the graph split over clients, which lose the edges between them. Tables:
`docs/results/objectives.md`.

zS, zT: logits of student and teacher; p_S, p_T: their softmax; hS, hT: embeddings; y: label; tau:
temperature. Features `@2` are the output of two blocks, `@-1` the input of the last block, `@embedding` what
enters the last linear layer.
"""

COLUMNS = ("Name", "Paper", "Needs", "Formula", "Role", "Per sample", "Source", "Defaults")


def table() -> str:
    """The whole page as Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(cls()) for cls in catalog().values())]
    return HEAD + "\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(objective: Objective) -> tuple[str, ...]:
    about = objective.about
    needs = ", ".join(f"`{need}`" for need in sorted(objective.needs))
    defaults = ", ".join(
        f"{f.name}={_plain(getattr(objective, f.name))}"
        for f in fields(objective)  # type: ignore[arg-type]
    )
    cells = (
        f"`{about.name}`",
        about.paper,
        needs,
        f"`{about.formula}`",
        about.role,
        "yes" if objective.per_sample else "no",
        about.sure,
        f"`{defaults}`" if defaults else "-",
    )
    return tuple(cell.replace("|", "\\|") for cell in cells)


def _plain(value: object) -> str:
    if isinstance(value, Objective):
        return value.about.name
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    print(table(), end="")
