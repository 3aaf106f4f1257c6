"""The kit's HTML pages, made from jinja2 templates: each stands alone, and nothing in it runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")
_NUMBER = re.compile(r"[+-]?[\d.,]+(?: ?(?:[%s]|points))?")  # also a percentage, or seconds


def render(template_name: str, **context: object) -> str:
    """Render a template of coursekit/templates; every text is escaped but `markupsafe.Markup`.

    Args:
        template_name: The name of a file such as "report.html.jinja", which extends
            "base.html.jinja" and may import `table` and `terms` from "macros.html.jinja".
        **context: What the template uses; a missing name is an error.

    Returns:
        The whole page.
    """
    return _environment().get_template(template_name).render(**context)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["number_columns"] = number_columns
    return environment


def number_columns(rows: Sequence[dict[str, str]]) -> set[str]:
    """The names of the columns that hold only numbers, or nothing: they stand flush right."""
    columns = {name: [row[name] for row in rows if row[name]] for name in rows[0]}
    return {name for name, said in columns.items() if said and all(map(_NUMBER.fullmatch, said))}
