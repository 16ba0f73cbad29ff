"""Every link of the README and the documents leads to a file, and to a heading where it names one."""

import re
from pathlib import Path

import pytest

from simulations.config import choices_of

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_has_every_method_and_every_weighting_once_with_its_link() -> None:
    rows = [line for line in PAGES[0].read_text().splitlines() if line.startswith("| ") and "](" in line]
    linked = re.findall(r"\[`([^`]+)`\]\(", "\n".join(rows))
    for group in ("method", "weighting", "class_weighting"):
        for name in choices_of(group):
            if name not in ("samples", "uniform", "null"):
                assert sum(word in (name, f"{group}={name}") for word in linked) == 1, name
