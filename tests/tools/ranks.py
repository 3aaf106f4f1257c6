"""What torchrun starts for tests: processes that train together and do one job of this file."""

from __future__ import annotations

import datetime
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # torchrun gives only the folder of this file

from coursekit.__main__ import main  # noqa: E402
from coursekit.train import parallel  # noqa: E402
from helpers import train_model  # noqa: E402
from helpers.data import Data  # noqa: E402
from helpers.lib.progress import EpochTable  # noqa: E402
from tools.tiny import vector_data  # noqa: E402

EPOCHS, LR = 2, 0.05
ON_MINI = ["train", "--profile", "mini", "--device", "cpu"]


@dataclass(frozen=True)
class Ended:
    """How a run ended: torchrun's exit status, its seconds, and what each process printed."""

    status: int
    seconds: float
    out: list[str]
    err: list[str]


def run_ranks(job: str, folder: Path, pictures: Path, *, count: int = 2) -> Ended:
    """Start `count` processes with torchrun, wait for all, and read what they printed."""
    logs, started = folder / "logs", time.perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc_per_node={count}", "--redirects=3", f"--log-dir={logs}"),
            *(__file__, job, str(folder), str(pictures)),
        ],
        cwd=ROOT,
        env={**os.environ, "KIT_RESULTS": str(folder / "results"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    out, err = (
        [path.read_text("utf-8") for path in sorted(logs.glob(f"*/attempt_0/*/{name}.log"))]
        for name in ("stdout", "stderr")
    )
    return Ended(done.returncode, time.perf_counter() - started, out, err)


def network_and_data() -> tuple[nn.Module, Data]:
    """Always the same: a small network with BatchNorm, and 48 vectors in batches of 8."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return model, vector_data((48, 13, 13), noise=2.0)


def learn(folder: Path, pictures: Path) -> None:
    """Train together on vectors, then the command on pictures; keep what each process has."""
    with parallel.joined() as processes:
        model, data = network_and_data()
        run = train_model(
            processes.train_together(model, torch.device("cpu")),
            processes.divide(data),
            nn.CrossEntropyLoss(),
            torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9),
            num_epochs=EPOCHS,
            progress=False,
        )
        val = [(row["val_loss"], row["val_accuracy"]) for row in run.history]
        kept = {"weights": model.state_dict(), "val": val, "best": run.best_epoch}
        torch.save(kept, folder / f"{processes.rank}.pt")


def command(folder: Path, pictures: Path, *, method: str = "bn_cnn", epochs: int = 1) -> None:
    options = ["--method", method, "--epochs", str(epochs), "--dataset", str(pictures)]
    sys.exit(main([*ON_MINI, *options]))


# Jobs that fail: in the second epoch process 1 does what it must not


def fail(deed: Callable[[], object], folder: Path, pictures: Path) -> None:
    epoch_done = EpochTable.epoch_done

    def and_then(table, row, **options):
        epoch_done(table, row, **options)
        if os.environ["RANK"] == "1" and row["epoch"] == 2:
            deed()

    EpochTable.epoch_done = and_then
    command(folder, pictures, epochs=200)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def err() -> None:
    raise ValueError("a fault in the code")


def hang(folder: Path, pictures: Path) -> None:
    parallel.joined = functools.partial(parallel.joined, datetime.timedelta(seconds=15))
    fail(functools.partial(time.sleep, 100), folder, pictures)


def stop_while_saving(folder: Path, pictures: Path) -> None:
    """torchrun's signal arrives while process 0 writes the result."""
    save = torch.save

    def save_and_stop(*arguments):
        save(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    torch.save = save_and_stop
    command(folder, pictures)


JOBS = {
    "learn": learn,
    "command": command,
    "die": functools.partial(fail, die),
    "err": functools.partial(fail, err),
    "hang": hang,
    "stop_while_saving": stop_while_saving,
    "unknown_method": functools.partial(command, method="vgg"),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    JOBS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
