"""A loader that goes on without its workers when they cannot work."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Iterator

from torch.utils.data import DataLoader

# What comes of a worker that cannot be started, is killed, or finds no shared memory.
_FAULTS = (RuntimeError, OSError, EOFError, pickle.PicklingError, AttributeError, TypeError)


class SteadyLoader(DataLoader):
    """A `DataLoader` whose batches are then prepared here, from the first one that is missing.

    Its batch sampler must be a `Batches`. Workers may be started in any way (fork, spawn,
    forkserver): a data set made in a notebook cell, for one, cannot be sent to spawned ones.
    """

    def __iter__(self) -> Iterator:
        return self._from_workers() if self.num_workers else super().__iter__()

    def _from_workers(self) -> Iterator:
        order, done = self.batch_sampler, 0
        before = order.generator.get_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a line says below what torch warns of
                batches = super().__iter__()
            for batch in batches:
                yield batch
                done += 1
            return
        except _FAULTS as error:
            print(f"going on without worker processes (num_workers=0), for {_reason(error)}")
        self.num_workers, self._iterator = 0, None
        order.generator.set_state(before)
        for draws in itertools.islice(order, done, None):  # an error of the data comes again here
            yield self.collate_fn(self.dataset.__getitems__(draws))


def _reason(error: Exception) -> str:
    """The kind of an error, and its last line: before it comes where it was raised."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"
