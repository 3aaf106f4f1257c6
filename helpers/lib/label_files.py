"""The label files of Flowers102, real and drawn: their names, and whether one is whole."""

from __future__ import annotations

import hashlib
import struct
import zlib

LABEL_FILES = ("imagelabels.mat", "setid.mat")
DRAWN_MD5 = {  # of the files that data/mini/draw_flowers.py wrote
    "imagelabels.mat": "e6d94cded2fa97daa55d80dbc89221b8",
    "setid.mat": "e63facb0950e6d268ea27eccd1f5913f",
}
# Of MATLAB's format, version 5, written by a processor that puts the lowest byte first.
HEADER, VERSION, TAG, COMPRESSED = 128, b"\x00\x01IM", struct.Struct("<II"), 15


def is_whole(data: bytes) -> bool:
    """Whether a check sum says that nothing of a label file has changed since it was written.

    It is asked before the file is read, because a damaged one can bring down scipy, and Python with
    it. The published files are compressed, which leaves a check sum in each part; the drawn ones
    are not, but their hashes are known.
    """
    if hashlib.md5(data).hexdigest() in DRAWN_MD5.values():
        return True
    if data[HEADER - len(VERSION) : HEADER] != VERSION:
        return False
    place = HEADER
    try:
        while place < len(data):
            kind, length = TAG.unpack_from(data, place)
            place += TAG.size
            part = zlib.decompressobj()
            part.decompress(data[place : place + length])
            if kind != COMPRESSED or not part.eof or part.unused_data:
                return False
            place += length
    except (struct.error, zlib.error):
        return False
    return place == len(data) > HEADER
