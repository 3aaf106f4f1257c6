"""The states of the random numbers of the CPU: kept, gone back to, and left alone."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """The states of PyTorch, Python and NumPy, in types that torch reads without running code."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Go back to what `random_states` returned."""
    torch.set_rng_state(states["torch"])
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))


@contextlib.contextmanager
def untouched_randomness() -> Iterator[None]:
    """Whatever the block draws, as a transform may, what follows draws as without it."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)
