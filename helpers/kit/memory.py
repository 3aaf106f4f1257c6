"""How freed memory is kept for the next batch instead of going back to the system."""

from __future__ import annotations

import ctypes
import sys

# From malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Ask the C library to reuse large blocks; True when it agreed (Linux with glibc).

    By default every large tensor is mapped anew, and the system fills its pages with zeros at
    first touch. A training step allocates the same large tensors again and again: keeping them
    made ResNet18 and the BN-CNN 1.3 times faster on two cores.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wishes = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
    return all(mallopt(option, value) == 1 for option, value in wishes)
