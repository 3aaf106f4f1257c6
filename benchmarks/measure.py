"""Stopwatches and counters: sides timed in turn, multiply-accumulates, matrix rate, memory."""

from __future__ import annotations

import contextlib
import copy
import datetime
import io
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.errors import KitError
from helpers.lib.devices import device_name, name_of
from helpers.lib.folders import ROOT
from helpers.workspace import Workspace

FORWARD_AND_BACKWARD = 3  # backward counts twice forward: gradients of the inputs and the weights
MATRIX_SIDE = 4096


@dataclass(frozen=True)
class Lap:
    """One call of one side: how long it took and what it returned."""

    seconds: float
    value: Any


def in_turn(
    sides: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[Lap]]:
    """Call the sides in turn, once to warm up and then `rounds` times; returns the laps of each.

    Every other round goes backwards, so that a machine which slowly gets hotter or busier favours
    no side. A line a lap is printed; what a side prints itself is kept back.
    """
    laps: dict[str, list[Lap]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            with contextlib.redirect_stdout(io.StringIO()):
                began = clock()
                value = sides[name]()
                lap = Lap(clock() - began, value)
            print(
                f"  {f'round {number}' if number else 'warm-up':<9} {name:<28} {lap.seconds:.2f} s"
            )
            if number:
                laps[name].append(lap)
    return laps


def median(values: Iterable[float]) -> float:
    """The median, as a plain number."""
    return float(statistics.median(values))


def training_flops(model: nn.Module, size: int) -> int:
    """Floating-point operations of training on one picture; a multiply-accumulate is two."""
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).to("meta").eval()(torch.empty(1, 3, size, size, device="meta"))
    return FORWARD_AND_BACKWARD * counter.get_total_flops()


def matrix_rate(
    device: torch.device,
    precision: torch.dtype,
    *,
    side: int = MATRIX_SIDE,
    least_seconds: float = 1.0,
) -> float:
    """Operations a second that `torch.matmul` reaches on square matrices of `side`."""
    first, second = torch.randn(2, side, side, device=device).to(precision)
    products, began = 0, time.perf_counter()
    while time.perf_counter() - began < least_seconds:
        torch.matmul(first, second)
        wait_for(device)
        products += 1
    return 2 * side**3 * products / (time.perf_counter() - began)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def peak_memory() -> int:
    """The most bytes of memory that this process has held at one time (its resident set).

    Its own alone: loader workers are other processes.
    """
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would begin with what the parent process held
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset
    import resource

    return in_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def in_bytes(max_rss: int) -> int:
    """What `getrusage` calls `ru_maxrss`, in bytes; only macOS counts in bytes itself."""
    return max_rss if sys.platform == "darwin" else max_rss * 1024


def peak_memory_of(command: Sequence[str], **variables: str) -> int:
    """The most bytes that a command, or one of the processes it starts, has held at one time.

    `variables` join its environment. Raises `KitError` when it fails, and on Windows, which does
    not keep this number of a process that has ended.
    """
    if sys.platform == "win32":
        raise KitError("Windows does not tell the peak memory of a process that has ended")
    # Asked of a small process: a child would begin with what this one holds.
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode)"
    )
    return in_bytes(int(fresh_process(code, *command, **variables)))


def fresh_process(code: str, *arguments: str, **variables: str) -> str:
    """Run Python code in a process of its own; returns the last line that it prints.

    `variables` join its environment. Raises `KitError` with the last line of its errors when it
    fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **variables},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KitError(f"a process of the benchmark failed: {last}")
    return lines[-1]


def machine_facts(workspace: Workspace) -> dict[str, Any]:
    """What a reader of a measurement wants to know of the machine, in plain JSON types."""
    return {
        "processor": processor_name(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": workspace.threads,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "busy_percent": busy_with_other_work(),  # before it begins
        "device": str(workspace.device),
        "device_name": device_name(workspace.device),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "precision": name_of(workspace.precision),
        "seed": workspace.seed,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def busy_with_other_work(seconds: float = 1.0) -> float:
    """The part of all processors, in percent, that other processes use now."""
    before = sum(psutil.Process().cpu_times()[:2])
    everything = psutil.cpu_percent(interval=seconds)
    own = sum(psutil.Process().cpu_times()[:2]) - before
    return round(max(0.0, everything - 100 * own / seconds / psutil.cpu_count()), 1)


def processor_name() -> str:
    """What the processor calls itself; the name of its kind when it does not say."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        with contextlib.suppress(OSError):
            done = subprocess.run(asked, capture_output=True, text=True)
            if done.stdout.strip():
                return done.stdout.strip()
    return platform.processor() or platform.machine()
