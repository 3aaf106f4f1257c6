"""Memory: what is freed is kept for the next batch, and what happens when there is no more."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import nn

from helpers.errors import KitError

Train = TypeVar("Train", bound=Callable[..., Any])

# From malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Ask glibc to reuse large blocks; True when it agreed.

    Otherwise each large tensor is mapped anew and filled with zeros: a step is 1.3 times slower.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wishes = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
    return all(mallopt(option, value) == 1 for option, value in wishes)


def give_back_freed_memory() -> bool:
    """Return to the system what glibc has kept: later tensors would not fit its gaps."""
    try:
        return ctypes.CDLL(None).malloc_trim(0) == 1
    except (OSError, AttributeError, TypeError):  # another C library; no such function; Windows
        return False


# What torch says on processors, on Windows, on GPUs and on Apple's MPS.
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there was no more memory, of the device or of the machine."""
    text = str(error).lower()
    is_told = isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
    return is_told or isinstance(error, MemoryError)


def careful_with_memory(train: Train) -> Train:
    """Let a function of (model, data, ...) give its memory back, and explain when it runs out.

    A notebook keeps the last traceback, and with it the tensors of the step that failed.
    """

    @functools.wraps(train)
    def careful(model: nn.Module, *arguments: Any, **options: Any) -> Any:
        try:
            result = train(model, *arguments, **options)
            give_back_freed_memory()
            return result
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # The error is gone here, and with it the frames that held the tensors of the step.
        model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
        raise KitError(
            "out of memory. Close other notebooks and programs; when that is not enough, make the "
            "batches smaller, as with batch_size=8 in load_data(...), and run all cells again. It "
            "is another experiment then: BatchNorm sees fewer pictures at a time"
        )

    return cast(Train, careful)
