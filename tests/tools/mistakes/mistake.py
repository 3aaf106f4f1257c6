"""One mistake in a TODO."""

from __future__ import annotations

from typing import NamedTuple


class Mistake(NamedTuple):
    """Something plausible and wrong."""

    what: str  # in a few words, the name of its test
    right: str  # a regular expression for what the solution has; "." also stands for a line end
    wrong: str  # what stands there instead, as for `re.sub`
    says: str  # a regular expression for what the check says
