"""The label files of Flowers102, real and drawn: their names and MD5s."""

from __future__ import annotations

import hashlib

LABEL_FILES = ("imagelabels.mat", "setid.mat")
PUBLISHED_MD5 = {
    "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
    "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
}
DRAWN_MD5 = {  # of the files that data/mini/draw_flowers.py wrote
    "imagelabels.mat": "e6d94cded2fa97daa55d80dbc89221b8",
    "setid.mat": "e63facb0950e6d268ea27eccd1f5913f",
}


def is_whole(data: bytes) -> bool:
    """Whether this is a label file as it was published or drawn; a damaged one can crash scipy."""
    known = {*PUBLISHED_MD5.values(), *DRAWN_MD5.values()}
    return hashlib.md5(data, usedforsecurity=False).hexdigest() in known
