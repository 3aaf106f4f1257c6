"""Cut a huge JSON text down while reading it: its long texts and long lists are what fills it.

A notebook with 200 MB of output has a few kilobytes of cells. The text is scanned piece by piece
and never held as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .archive import MB, HandInError

LONGEST_TEXT = MB  # bytes of one JSON string; a figure is far smaller
MOST_ITEMS = 5_000  # of one list, such as the lines of an output
MOST_KEPT = 32 * MB
PIECE = MB

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]|"', re.DOTALL)
_END_OF_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def slim_json(read: Callable[[int], bytes]) -> tuple[bytes, bool]:
    """A JSON text from `read(size)`, without the ends of long strings and lists.

    Returns it with whether anything was left out. Raises `HandInError` when what is left is still
    too large. The text need not be valid; then neither is what is returned.
    """
    slimmer = _Slimmer(read)
    slimmer.run()
    return bytes(slimmer.kept), slimmer.cut


class _Slimmer:
    """The state of one pass. `counts` has a number for each open list, -1 for an open object."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read, self.buffer, self.kept, self.cut = read, b"", bytearray(), False
        self.counts: list[int] = []
        self.dropping = 0  # depth of the list whose items are being left out, 0 for none

    def run(self) -> None:
        while piece := self.read(PIECE):
            self.buffer += piece
            self._scan()
        self._keep(self.buffer)

    def _scan(self) -> None:
        place = 0
        for token in _TOKEN.finditer(self.buffer):
            text = token[0]
            if text == b'"':  # a string that does not end in this piece
                self._keep(self.buffer[place : token.start()])
                place = token.start()
                if len(self.buffer) - place > LONGEST_TEXT:
                    self.buffer = self.buffer[place:]
                    self._skip_string()
                    return
                break
            self._keep(self.buffer[place : token.start()])
            place = token.end()
            if len(text) > LONGEST_TEXT:
                self._keep(b'"(left out)"')
                self.cut = True
            elif len(text) > 1:
                self._keep(text)
            else:
                self._structure(text)
        else:
            self._keep(self.buffer[place:])
            place = len(self.buffer)
        self.buffer = self.buffer[place:]

    def _structure(self, mark: bytes) -> None:
        if mark in b"[{":
            self._keep(mark)
            self.counts.append(0 if mark == b"[" else -1)
            return
        if mark == b"," and self.counts and self.counts[-1] >= 0:
            self.counts[-1] += 1
            if self.counts[-1] == MOST_ITEMS and not self.dropping:
                self.dropping, self.cut = len(self.counts), True
        elif mark in b"]}" and self.counts:
            if self.dropping == len(self.counts):
                self.dropping = 0
            self.counts.pop()
        self._keep(mark)

    def _skip_string(self) -> None:
        """Leave out a string that is longer than may be, up to its end."""
        self._keep(b'"(left out)"')
        self.cut = True
        self.buffer = self.buffer[1:]
        while not (end := _END_OF_TEXT.match(self.buffer)):
            # An odd backslash at the end of a piece belongs to the character that follows it.
            tail = self.buffer[-1:] if _odd_backslash(self.buffer) else b""
            piece = self.read(PIECE)
            if not piece:
                self.buffer = b""
                return
            self.buffer = tail + piece
        self.buffer = self.buffer[end.end() :]
        self._scan()

    def _keep(self, text: bytes) -> None:
        if self.dropping:
            return
        self.kept += text
        if len(self.kept) > MOST_KEPT:
            raise HandInError(f"more than {MOST_KEPT / MB:.0f} MB without its longest outputs")


def _odd_backslash(text: bytes) -> bool:
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
