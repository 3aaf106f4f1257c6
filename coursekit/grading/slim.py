"""Cut a huge JSON text down while reading it: its long texts and long lists are what fills it.

A notebook with 200 MB of output has a few kilobytes of cells. The text is scanned piece by piece
and never held as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from coursekit.grading.archive import MB, HandInError

LONGEST_TEXT = MB  # bytes of one JSON string; a figure is far smaller
MOST_ITEMS = 5_000  # of one list, such as the lines of an output
MOST_KEPT = 32 * MB
LEFT_OUT = b'"(left out)"'

# A whole string, a mark of structure, or the quote of a string whose end has not been read.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]|"', re.DOTALL)


def slim_json(blocks: Iterable[bytes]) -> tuple[bytes, bool]:
    """Leave out long strings and the ends of long lists of a JSON text.

    Args:
        blocks: the text, piece by piece; it need not be valid, and then neither is the result.

    Returns:
        What is left, and whether anything was left out.

    Raises:
        HandInError: what is left is still too large.
    """
    kept, cut = bytearray(), False
    counts: list[int] = []  # of the items of each open list; -1 for an open object
    dropping = 0  # depth of the list whose items are being left out, 0 for none
    for before, token in _tokens(blocks):
        if not dropping:
            kept += before
        cut |= token is LEFT_OUT
        if token in (b"[", b"{"):
            counts.append(0 if token == b"[" else -1)
        elif token == b"," and counts and counts[-1] >= 0:
            counts[-1] += 1
            if counts[-1] == MOST_ITEMS and not dropping:
                dropping, cut = len(counts), True
        elif token in (b"]", b"}") and counts:
            if dropping == len(counts):
                dropping = 0
            counts.pop()
        if not dropping:
            kept += token
        if len(kept) > MOST_KEPT:
            raise HandInError(f"more than {MOST_KEPT / MB:.0f} MB without its longest outputs")
    return bytes(kept), cut


def _tokens(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each token, with what stands before it; `LEFT_OUT` for a string that is too long."""
    rest, skipping = b"", False  # what is not scanned yet; whether it begins with a long string
    for block in blocks:
        data, place, end = rest + block, 0, -1
        for found in _TOKEN.finditer(data):
            token = found[0]
            if token == b'"':
                end = found.start()
                break
            is_long = skipping or len(token) > LONGEST_TEXT
            yield data[place : found.start()], LEFT_OUT if is_long else token
            place, skipping = found.end(), False
        end = len(data) if end < 0 else end
        yield data[place:end], b""
        rest = data[end:]
        if len(rest) > LONGEST_TEXT:
            # An odd backslash at the end belongs to the character that follows it.
            is_odd = (len(rest) - len(rest.rstrip(b"\\"))) % 2
            rest, skipping = b'"' + b"\\" * is_odd, True
    yield (b"", LEFT_OUT) if skipping else (rest, b"")
