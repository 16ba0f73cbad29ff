"""Pictures of the folder `figures` inside the page, no more than a page can bear."""

from collections.abc import Mapping
from pathlib import Path

from simulations.reporting.html import paragraph, picture

MOST = 6
"""So many pictures in one gallery, evenly chosen."""
BUDGET = 700_000
"""Bytes of a gallery."""


def gallery(files: Mapping[str, Path]) -> str:
    """Some of these pictures, each under its title, the last one for certain; what is left out is told."""
    names = list(files)
    count = min(MOST, len(names))
    chosen = [names[-1 - k * (len(names) - 1) // max(count - 1, 1)] for k in range(count)]
    body, left, shown = "", BUDGET, 0
    for name in chosen:
        data = files[name].read_bytes()
        if shown and len(data) > left:
            break
        body = f"<figure><figcaption>{name}</figcaption>{picture(data, name)}</figure>{body}"
        left, shown = left - len(data), shown + 1
    more = len(names) - shown
    return body + (paragraph(f"{more} more in the folder figures.") if more else "")
