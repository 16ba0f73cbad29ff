"""The studies of every results page: each command is understood, and each study has a place of its own."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import baselines, data_free, fedd2s, robust
from benchmarks.studies import Study
from simulations.config import resolve
from simulations.overrides import expand_sweep
from simulations.programs import DISTILL

PLACES = ("-m", "trials=", "tuned=", "out=", "seed=", "teacher.from=")
PAGES = {page.__name__: page.STUDIES for page in (baselines, data_free, fedd2s, robust)}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_resolves(page: str) -> None:
    """Each word of each sweep is understood: of many combinations, the first and the last."""
    known = set()
    for study in PAGES[page]:
        for _, command, *words in study.commands(Path("nowhere"), "page"):
            if command == "compare":
                continue
            combinations = expand_sweep([word for word in words if not word.startswith(PLACES)])
            for overrides in (combinations[0], combinations[-1]):
                if (command, *overrides) not in known:
                    known.add((command, *overrides))
                    resolve(overrides, *([DISTILL] if command == "distill" else []))


@pytest.mark.parametrize("page", PAGES)
def test_names_are_folders_of_their_own_and_parents_come_first(page: str) -> None:
    studies: Sequence[Study] = PAGES[page]
    names, titles = [study.name for study in studies], {study.title for study in studies}
    assert len(set(names)) == len(names) == len(titles)
    for number, study in enumerate(studies):
        parent = getattr(study, "parent", "")
        assert not parent or parent in names[:number]


def test_studies_of_one_name_are_one_study() -> None:
    """Pages share what they play by the name of the study: setting and tuning must be the same."""
    found: dict[str, Study] = {}
    for study in (study for studies in PAGES.values() for study in studies):
        first = found.setdefault(study.name, study)
        assert (first.experiment, first.more) == (study.experiment, study.more)
        assert (first.trials, first.seeds) == (study.trials, study.seeds)
