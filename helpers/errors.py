"""The errors that the kit raises on purpose: `KitError`, and two that are caught by their names."""

from __future__ import annotations


class KitError(Exception):
    """Something a person can fix: the message says what was wrong, with the value, and how.

    In a notebook it is shown as its one line, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """IPython asks an exception for this: the lines to show instead of a traceback."""
        return [f"KitError: {self}"]


class WriteError(KitError):
    """A file could not be written: the disk is full, or its folder is not to be written."""


class Interrupted(KeyboardInterrupt):
    """The stop button, or Ctrl-C, during training; a `KeyboardInterrupt`: no later cell runs."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]
