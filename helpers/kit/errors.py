"""The one kind of error that the kit raises on purpose."""

from __future__ import annotations


class KitError(Exception):
    """Something a person can mend: the message says what was wrong, with the value, and how.

    In a notebook it is shown as its one line, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """IPython asks an exception for this: the lines to show instead of a traceback."""
        return [f"KitError: {self}"]
