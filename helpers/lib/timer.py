"""Seconds of a training run, by what they were spent on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


class Timer:
    """Seconds by what they were spent on. A device works ahead of Python: wait for it first."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to `name`."""
        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).synchronize()
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def loading(self, batches: Iterable[T]) -> Iterator[T]:
        """Go through batches and count what each took to arrive, and nothing before."""
        self.last = time.perf_counter()
        for batch in batches:
            self.lap("loading")
            yield batch

    def take(self) -> dict[str, float]:
        """The seconds so far, and start again from zero."""
        seconds, self.seconds = self.seconds, {}
        return seconds
