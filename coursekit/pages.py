"""What the kit's HTML pages share: they need nothing else, and nothing in them runs."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

STYLE = Path(__file__).with_name("report.css")
# Nothing may be fetched and nothing may run: a page is what its file holds.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NUMBER = re.compile(r"[+-]?[\d.,]+(?: ?(?:[%s]|points))?")  # also a share, or seconds


def page(title: str, body: str, style: str = "") -> str:
    """A whole page around HTML that is safe already; `style` is added to the shared sheet."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def escape(value: object) -> str:
    """A value as text that is safe in a page, also within an attribute."""
    return html.escape(str(value))


def terms(facts: Mapping[str, str]) -> str:
    """Names and what is said of each, as a list of terms; what is empty is left out."""
    rows = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items() if fact
    )
    return f"<dl>\n{rows}\n</dl>"


def table(rows: Sequence[dict[str, str]], caption: str) -> str:
    """Rows of texts as a table whose first column heads each row; it scrolls when too wide.

    Columns of numbers stand flush right.
    """
    style = {name: _style([row[name] for row in rows]) for name in rows[0]}
    head = "".join(f'<th scope="col"{style[name]}>{escape(name)}</th>' for name in rows[0])
    lines = []
    for row in rows:
        (_, first), *others = row.items()
        cells = "".join(f"<td{style[name]}>{escape(value)}</td>" for name, value in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0">\n'
        f"<table>\n<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _style(column: Sequence[str]) -> str:
    """The attribute that the cells of a column get: a class for one of numbers."""
    said = [value for value in column if value]
    return ' class="number"' if said and all(map(_NUMBER.fullmatch, said)) else ""
