"""Training on several processes, which torchrun starts: what the loop is given, not the loop.

The training loop does not know of it. Every process goes through the same batches in the same
order. Its loaders give it its part of the samples but the labels of the whole batch; its network
runs that part and gives the logits of the whole batch, gathered from all. So loss, accuracy, the
best epoch and each prediction are, in every process, those of the whole batch.

The gradient of a loss with respect to a process's own logits is its share of the gradient of the
whole batch's loss. The shares are therefore added up, not averaged, and parts may differ in size.

BatchNorm is where N processes differ from one: each normalises by the mean and deviation of its own
part of the batch, and the running statistics are those of process 0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from helpers.data import Data, make_loader
from helpers.errors import KitError
from helpers.models import in_eval_mode
from helpers.training import memory_format
from helpers.workspace import choose_device

TIMEOUT = datetime.timedelta(minutes=10)  # for one process to wait for another


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them; alone, everything stays as it is.

    `rank` counts over all machines, `local_rank` over those on this one.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and records."""
        return self.rank == 0

    def device(self, wanted: str | None) -> str | torch.device | None:
        """The device of this process: a GPU of its own, or the processor.

        Raises `KitError` when there are more processes than GPUs, and for MPS, which cannot.
        """
        if self.count == 1:
            return wanted
        device = choose_device(wanted)
        if device.type == "cuda":
            there = torch.cuda.device_count()
            if self.local_rank >= there:
                raise KitError(
                    f"{there} GPU{'s' * (there != 1)} for more processes: start torchrun with "
                    f"--nproc_per_node={there}, or train with --device cpu"
                )
            device = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(device)
        elif device.type == "mps":
            if wanted is not None:
                raise KitError("several processes cannot train on 'mps': use --device cpu")
            device = torch.device("cpu")
        return device

    @contextlib.contextmanager
    def one_goes_first(self) -> Iterator[None]:
        """On each machine one process runs the block before the others do, as to download."""
        if self.local_rank > 0:
            self._meet()
        yield
        if self.local_rank == 0:
            self._meet()

    def _meet(self) -> None:
        if self.count > 1:
            with in_contact():
                distributed.barrier()

    def share(self, data: Data) -> Data:
        """The same batches of the same data, of which this process loads its part."""
        if self.count == 1:
            return data
        loaders = {}
        for split, loader in data.dataloaders.items():
            order = loader.batch_sampler
            loaders[split] = make_loader(
                Share(loader.dataset, self),
                order.batch_size,
                seed=order.seed,
                shuffle=order.shuffle,
                num_workers=loader.num_workers,
            )
        return dataclasses.replace(data, **loaders)

    def train_together(self, model: nn.Module, device: torch.device) -> nn.Module:
        """`model` for `train_model`: all start from the weights of process 0, and stay alike."""
        if self.count == 1:
            return model
        model.to(device, memory_format=memory_format(device))
        with in_contact():
            network = DistributedDataParallel(model)
        network.register_comm_hook(None, add_up)
        return WholeBatch(network)

    def test_together(self, model: nn.Module) -> nn.Module:
        """`model` for `test`."""
        return model if self.count == 1 else WholeBatch(model)

    @contextlib.contextmanager
    def gathering(self, head: nn.Module) -> Iterator[None]:
        """In the block, what enters `head` is that of the whole batch: for `compute_features`."""
        if self.count == 1:
            yield
            return
        hook = head.register_forward_pre_hook(lambda _, inputs: (gather(inputs[0].float()),))
        try:
            yield
        finally:
            hook.remove()


ALONE = Processes()


def part_of(length: int, processes: Processes) -> slice:
    """Which samples of a batch are this process's: neighbours, in the order of the ranks.

    Parts are of equal size, give or take one, and none has a single sample unless the batch has,
    because BatchNorm cannot train on one. Of a small batch some processes therefore get nothing.
    """
    sharing = min(processes.count, max(1, length // 2))
    first = min(processes.rank, sharing)
    last = min(processes.rank + 1, sharing)
    return slice(length * first // sharing, length * last // sharing)


class Share(Dataset):
    """One process's part of every batch: its samples, with the labels of the whole batch."""

    def __init__(self, samples: Dataset, processes: Processes) -> None:
        self.samples, self.processes = samples, processes
        self.labels, self.ids = samples.labels, samples.ids

    def __len__(self) -> int:
        return len(self.samples)

    def plain(self) -> Share:
        """The same part of the same pictures without augmentation."""
        return Share(self.samples.plain(), self.processes)

    def __getitems__(self, draws: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        labels = self.labels[[index for index, _ in draws]]
        own = draws[part_of(len(draws), self.processes)]
        samples, _ = self.samples.__getitems__(own or draws[:1])
        return samples[: len(own)], labels


class WholeBatch(nn.Module):
    """A network that runs this process's part of a batch, and gives the logits of the whole."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        # BatchNorm cannot train on no samples. In eval mode they give no logits and gradients of 0.
        mode = contextlib.nullcontext() if len(samples) else in_eval_mode(self.network)
        with mode, in_contact():  # DistributedDataParallel sends running statistics
            logits = self.network(samples)
        return gather(logits.float())


def gather(own: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks; gradients reach only the own ones."""
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(distributed.get_world_size())]
    with in_contact():
        distributed.all_gather(lengths, torch.tensor([len(own)]))
        longest = int(max(lengths))
        padded = own.new_zeros(longest, *own.shape[1:])  # all must send equally many rows
        padded[: len(own)] = own.detach()
        rows = [torch.empty_like(padded) for _ in lengths]
        distributed.all_gather(rows, padded)
    parts = [part[: int(length)] for part, length in zip(rows, lengths, strict=True)]
    parts[distributed.get_rank()] = own
    return torch.cat(parts)


def add_up(_, bucket):  # DistributedDataParallel refuses annotations that are texts
    """The sum of all processes' gradients, where DistributedDataParallel would take their mean."""
    sending = distributed.all_reduce(bucket.buffer(), async_op=True)
    return sending.get_future().then(lambda future: future.value()[0])


@contextlib.contextmanager
def joined(timeout: datetime.timedelta = TIMEOUT) -> Iterator[Processes]:
    """Meet the other processes that torchrun started, if it did, and part at the end.

    In the block, only process 0 prints. When one fails, all end within `timeout`: torchrun stops
    them, or they notice that it is gone. The first to fail raises its error, the others end
    without a word. Raises `KitError` when the others cannot be reached or are lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    store, processes = _meet_others(timeout)
    try:
        with _told_to_stop(processes), _silent(not processes.is_first), in_contact():
            yield processes
    except BaseException:
        if not _is_first_to_fail(store):
            raise SystemExit(2) from None
        if not processes.is_first:
            print(file=sys.stderr)  # process 0 may have left its bar on this line
        raise
    distributed.destroy_process_group()


def share_cores(count: int) -> None:
    """Give this process its part of the machine's cores, of which `count` processes make use.

    torchrun leaves one to each, `OMP_NUM_THREADS=1`, however many there are. Another number in that
    variable is a person's wish and stays.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // count))


def _meet_others(timeout: datetime.timedelta) -> tuple[distributed.Store, Processes]:
    """Make the group of all processes, by gloo on processors and nccl between GPUs."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, count = next(distributed.rendezvous("env://", timeout=timeout))
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=count, timeout=timeout
        )
    except (RuntimeError, ValueError) as error:
        raise KitError(
            f"cannot reach the other processes: {_reason(error)}. Start all with torchrun, "
            "with the same --nnodes, and with an address that every machine can reach"
        ) from None
    return store, Processes(rank, count, int(os.environ.get("LOCAL_RANK", rank)))


@contextlib.contextmanager
def in_contact() -> Iterator[None]:
    """Turn the many errors of a lost connection into one `KitError`."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        rank, count = distributed.get_rank(), distributed.get_world_size()
        raise KitError(
            f"rank {rank} of {count} lost contact with another rank, which was killed, failed or "
            f"hangs ({_reason(error)}). No record was written. Look for what that rank said, "
            "mend it (out of memory? use fewer processes a machine), and run again"
        ) from None


def _reason(error: Exception) -> str:
    """The first sentence of an error, without the place in torch's sources before it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rpartition("] ")[2].partition(". ")[0].rstrip(".")


@contextlib.contextmanager
def _told_to_stop(processes: Processes) -> Iterator[None]:
    """torchrun stops all when one has ended badly: leave through the errors, and clean up."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is enough to be told once
        raise KitError(
            f"rank {processes.rank} of {processes.count} was told to stop, as happens when another "
            "rank was killed or failed. Look for what that rank said, mend it, and run again"
        )

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Nothing that Python prints in the block is shown, if that is wanted."""
    if not wanted:
        yield
        return
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _is_first_to_fail(store: distributed.Store) -> bool:
    """Whether no other process has failed before, as far as this one can still learn."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what went wrong is to be said first
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:  # the store went with the process that kept it
        return True
