"""Pages as text: sections of tables, figures and pictures, in one file that asks nobody for anything.

A figure is a plain dictionary `{"data": [...], "layout": {...}}` of plotly.js, which is embedded once,
compressed; the page's content security policy refuses every request.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any, NamedTuple

Figure = dict[str, Any]


class Section(NamedTuple):
    """A part of a page.

    key: its anchor
    says: which clients, which model, when, mean over whom, in one or two sentences
    body: HTML
    wide: whether it takes the whole width where there is room for two
    """

    key: str
    title: str
    says: str
    body: str
    wide: bool = False


def page(title: str, about: Iterable[str], sections: Sequence[Section]) -> str:
    """The whole file.

    about: lines below the title, plain text
    """
    sections = list(_paired(sections))
    links = " ".join(f'<a href="#{part.key}">{escape(part.title)}</a>' for part in sections)
    fill = {
        "title": escape(title),
        "style": _resource("page.css"),
        "about": "".join(f"<p>{escape(line)}</p>" for line in about),
        "links": links,
        "sections": "\n".join(map(_section, sections)),
        "plotly": _plotly(),
        "script": _resource("page.js"),
    }
    text = _resource("page.html")
    for name, part in fill.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def chart(name: str, figure: Figure, roomy: bool = False) -> str:
    """A figure.

    name: unique in the page
    roomy: on a narrow screen it keeps its width and is scrolled
    """
    height = figure["layout"].get("height", 380)
    text = json.dumps(figure, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    place = f'<div class="chart" id="{name}" style="height:{height}px"></div>'
    place = f'<div class="roomy">{place}</div>' if roomy else place
    return f'{place}<script type="application/json" data-chart="{name}">{text}</script>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], name: str = "") -> str:
    """A table; cells that are numbers stand at the right, cells that are `Raw` are HTML already."""
    top = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    mark = f' id="{name}"' if name else ""
    return (
        f'<div class="scroll"><table{mark}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


class Raw(str):
    """Text that is HTML already."""


def cards(figures: Sequence[tuple[str, str, str]]) -> str:
    """Headline figures: name, value, and what the value means."""
    each = (
        f'<div class="card"><h3>{escape(name)}</h3><b>{escape(value)}</b><p>{escape(meaning)}</p></div>'
        for name, value, meaning in figures
    )
    return f'<div class="cards" style="--count:{len(figures)}">{"".join(each)}</div>'


def beside(*parts: str) -> str:
    """Parts side by side where there is room for two."""
    shown = [part for part in parts if part]
    return f'<div class="beside">{"".join(f"<div>{part}</div>" for part in shown)}</div>' if shown else ""


def panels(charts: Iterable[tuple[str, str, str]]) -> str:
    """Small charts side by side as there is room: name, what it means, and the chart."""
    each = "".join(
        f"<div><h3>{escape(name)}</h3><p>{escape(meaning)}</p>{drawn}</div>"
        for name, meaning, drawn in charts
    )
    return f'<div class="panels">{each}</div>' if each else ""


def paragraph(text: str) -> str:
    """A sentence or two below a figure."""
    return f'<p class="note">{escape(text)}</p>'


def code(text: str) -> str:
    """Lines to copy."""
    return f"<pre>{escape(text)}</pre>"


def folded(title: str, body: str) -> str:
    """What is shown when the title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def picture(png: bytes, alt: str) -> str:
    """An image inside the page."""
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def capital(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[0].upper() + text[1:]


def numbers(values: Iterable[Any], digits: int = 4) -> list[float | None]:
    """Values for a figure: rounded, and None where they are missing."""
    plain = [float(value) for value in values]
    return [round(value, digits) if abs(value) < float("inf") else None for value in plain]


def _cell(value: Any) -> str:
    if isinstance(value, Raw):
        return f"<td>{value}</td>"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f'<td class="n">{value if isinstance(value, int) else format(value, ".3f")}</td>'
    return f"<td>{escape(str(value))}</td>"


def _paired(sections: Iterable[Section]) -> Iterator[Section]:
    """The sections; one of half the width that has no neighbour takes the whole."""
    for wide, found in groupby(sections, key=lambda part: part.wide):
        *rest, last = found
        yield from rest
        yield last._replace(wide=wide or len(rest) % 2 == 0)


def _section(part: Section) -> str:
    wide = ' class="wide"' if part.wide else ""
    return (
        f'<section id="{part.key}"{wide}><h2>{escape(part.title)}</h2>'
        f'<p class="says">{escape(part.says)}</p>{part.body}</section>'
    )


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@lru_cache
def _plotly() -> str:
    """plotly.js as the installed package has it, compressed, in letters."""
    source = files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, 6, mtime=0)).decode()


def parameters(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A tree as lines: dotted key and value."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += parameters(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", json.dumps(value) if not isinstance(value, str) else value))
    return rows
