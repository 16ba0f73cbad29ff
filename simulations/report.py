"""The report of a run folder, finished or not: `report.html` and the figures, from the rows it holds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulations.figures import write_figures
from simulations.reporting import (
    accuracy,
    cost,
    evenness,
    faults,
    generated,
    headline,
    models,
    origin,
    people,
    privacy,
    schedule,
    weights,
)
from simulations.reporting.folder import RunFolder
from simulations.reporting.html import Section, page
from simulations.rundir import write_text

PAGE = "report.html"
SECTIONS: tuple[Callable[[RunFolder], Section | None], ...] = (
    headline.section,
    accuracy.section,
    evenness.section,
    people.section,
    people.classes_section,
    evenness.lorenz_section,
    models.section,
    weights.classes_section,
    weights.section,
    schedule.section,
    generated.section,
    privacy.section,
    cost.section,
    faults.section,
    origin.section,
)
"""What the page shows, in this order; a section without data is left out."""


def write_report(out: Path) -> list[Path]:
    """(Re)write the page and the figures of a run and return their paths; none before the first round."""
    run = RunFolder(out)
    if not (out / "rounds.csv").exists():
        return []
    return [write_page(run), *write_figures(out / "figures", run.rows, run.rounds, describe(run.config))]


def write_page(run: RunFolder) -> Path:
    """(Re)write the page alone."""
    write_text(run.out / PAGE, render(run))
    return run.out / PAGE


def render(run: RunFolder) -> str:
    """The page as text."""
    found = [part for section in SECTIONS if (part := section(run)) is not None]
    return page(describe(run.config), _about(run), found)


def describe(config: Mapping[str, Any]) -> str:
    """What a run is, in a few words."""
    names = config["choices"]
    partition = names["partition"]
    if config["partition"].get("alpha") is not None:
        partition += f" {config['partition']['alpha']}"
    return f"{names['method']} on {names['data']}, {partition}, seed {config['seed']}"


def _about(run: RunFolder) -> list[str]:
    """Who took part in what."""
    config, names = run.config, run.config["choices"]
    if run.who == "classes":
        told = f"A teacher and a student in one place; objective {names['objective']}."
    else:
        clients = config["clients"] or len(run.population) or run.used["client"].nunique()
        share = config["participation"]
        taking = "all of them in each round" if share == 1 else f"participation {share} in each round"
        told = f"{clients} clients, {taking}; model {names.get('model')}, weighting {names.get('weighting')}."
    done, wanted = int(run.rounds["round"].max()), config.get("rounds")
    rest = "" if run.finished else f" The run is not finished: {done} of {wanted} rounds are here."
    return [told + rest]
