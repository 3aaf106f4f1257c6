"""Training on several processes, which torchrun starts: torch's usual way, and a tidy end.

DistributedSampler gives each process a part of the training pictures, and DistributedDataParallel
averages the gradients. Every process looks at all of val, so all agree on the best epoch. BatchNorm
is where N processes differ from one: each normalises by the statistics of its own part of a batch,
and the running statistics are those of the first process.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.devices import choose_device, move_model
from helpers.lib.loaders import makes_batches
from helpers.lib.run_settings import batch_size_of

TIMEOUT = datetime.timedelta(minutes=10)  # for one process to wait for another


class SharedBatches(BatchSampler):
    """The batches of one process, which passes on the epoch: the order depends on it."""

    sampler: DistributedSampler

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)


@dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them; alone, everything stays as it is.

    `rank` counts over all machines, `local_rank` over those on this one.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints, tests and records."""
        return self.rank == 0

    def device(self, wanted: str | None) -> str | torch.device | None:
        """The device of this process: a GPU of its own, or the processor.

        Raises `KitError` when there are more processes than GPUs, and for MPS, which cannot.
        """
        if self.count == 1:
            return wanted
        device = choose_device(wanted)
        if device.type == "mps":
            if wanted is not None:
                raise KitError("several processes cannot train on 'mps': use --device cpu")
            return "cpu"
        if device.type == "cuda":
            gpus = torch.cuda.device_count()
            if self.local_rank >= gpus:
                raise KitError(
                    f"{gpus} GPU{'s' * (gpus != 1)} for more processes: start torchrun with "
                    f"--nproc_per_node={gpus}, or train with --device cpu"
                )
            device = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(device)
        return device

    @contextlib.contextmanager
    def one_goes_first(self) -> Iterator[None]:
        """On each machine one process runs the block before the others do, as to download."""
        if self.local_rank > 0:
            distributed.barrier()
        yield
        if self.local_rank == 0 and self.count > 1:
            distributed.barrier()

    def divide(self, data: Data) -> Data:
        """The same data, of whose training batches this process gets its part.

        Raises `KitError` when the batch size cannot be divided among the processes.
        """
        if self.count == 1:
            return data
        loader, batch_size = data.train, batch_size_of(data.train) or 1
        if batch_size % self.count:
            raise KitError(
                f"a batch of {batch_size} cannot be divided among {self.count} processes: use a "
                "number of processes that divides it"
            )
        sampler: DistributedSampler = DistributedSampler(
            loader.dataset, self.count, self.rank, shuffle=True, seed=data.seed
        )
        batches = SharedBatches(sampler, batch_size // self.count, drop_last=False)
        # As in helpers.lib.loaders: some data sets make a batch at once.
        whole = makes_batches(loader.dataset)
        train = DataLoader(
            loader.dataset,
            batch_size=None if whole else 1,
            sampler=batches if whole else None,
            batch_sampler=None if whole else batches,
            num_workers=loader.num_workers,
            persistent_workers=loader.num_workers > 0,
        )
        return data.with_loaders(train=train)

    def train_together(self, model: nn.Module, device: torch.device) -> nn.Module:
        """`model` for `train_model`: all start from the weights of the first, and stay alike."""
        if self.count == 1:
            return model
        return DistributedDataParallel(move_model(model, device))


ALONE = Processes()


@contextlib.contextmanager
def joined(timeout: datetime.timedelta = TIMEOUT) -> Iterator[Processes]:
    """Meet the other processes that torchrun started, if it did, and part at the end.

    In the block, only the first process prints. When one fails, torchrun stops the others, or they
    notice within `timeout` that it is gone; the first to fail says why, the others say nothing.

    Raises:
        KitError: The others cannot be reached, or were lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    # torchrun leaves one core to each process, however many there are.
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    try:
        store, rank, count = next(distributed.rendezvous("env://", timeout=timeout))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=count, timeout=timeout
        )
    except (RuntimeError, ValueError) as error:
        raise KitError(
            f"cannot reach the other processes: {_reason(error)}. Start all with torchrun, "
            "with the same --nnodes, and with an address that every machine can reach"
        ) from None
    try:
        with _stoppable(rank, count), _silent(rank != 0):
            yield Processes(rank, count, int(os.environ.get("LOCAL_RANK", rank)))
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what went wrong is to be said first
        if not _is_first_to_fail(store):
            raise SystemExit(2) from None
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise KitError(
                f"rank {rank} of {count} lost contact with another rank, which was killed, failed "
                f"or hangs ({_reason(error)}). No record was written. Look for what that rank "
                "said, fix it (out of memory? use fewer processes a machine), and run again"
            ) from None
        raise
    distributed.destroy_process_group()


@contextlib.contextmanager
def _stoppable(rank: int, count: int) -> Iterator[None]:
    """torchrun stops all when one has ended badly: leave through the errors, and clean up."""

    def stop(*_: object) -> None:
        raise KitError(
            f"rank {rank} of {count} was told to stop, as happens when another rank was killed or "
            "failed. Look for what that rank said, fix it, and run again"
        )

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Nothing that Python prints in the block is shown, if that is wanted."""
    with contextlib.ExitStack() as stack:
        if wanted:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _is_first_to_fail(store: distributed.Store) -> bool:
    """Whether no other process has failed before, as far as this one can still learn."""
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:  # the store went with the process that kept it
        return True


def _reason(error: BaseException) -> str:
    """The first sentence of an error, without the place in torch's sources before it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rpartition("] ")[2].partition(". ")[0].rstrip(".")
