"""Pages read back: the figures that are embedded in them, and their cards and tables as text."""

import base64
import html
import json
import re
from pathlib import Path
from typing import Any


def charts(page: Path) -> dict[str, Any]:
    """Each figure of a page by name."""
    found = re.findall(
        r'<script type="application/json" data-chart="([\w-]+)">(.*?)</script>', page.read_text()
    )
    return {name: json.loads(text) for name, text in found}


def trace(figure: dict[str, Any], name: str) -> dict[str, Any]:
    """The one trace whose name begins so."""
    (found,) = [each for each in figure["data"] if each.get("name", "").startswith(name)]
    return found


def card(page: Path, title: str) -> str:
    """The value of a headline figure."""
    (value,) = re.findall(rf"<h3>{re.escape(title)}</h3><b>(.*?)</b>", page.read_text())
    return value


def cells(page: Path, name: str) -> list[list[str]]:
    """The body of a table."""
    (body,) = re.findall(rf'<table id="{name}">.*?<tbody>(.*?)</tbody>', page.read_text(), re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


def pictures(page: Path, section: str) -> list[bytes]:
    """The PNG images inside a section."""
    (body,) = re.findall(rf'<section id="{section}".*?</section>', page.read_text(), re.DOTALL)
    return [base64.b64decode(text) for text in re.findall(r'src="data:image/png;base64,([^"]+)"', body)]


def sections(page: Path) -> list[str]:
    """The anchors of a page's sections, in order."""
    return re.findall(r'<section id="([\w-]+)"', page.read_text())
