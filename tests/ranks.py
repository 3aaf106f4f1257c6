"""What torchrun starts for tests: processes that train together and do one job of this file."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import MethodType

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # torchrun gives only the folder of this file

from coursekit.train import parallel  # noqa: E402
from tiny import vector_data  # noqa: E402

import helpers  # noqa: E402
from coursekit.train.parallel import Processes  # noqa: E402
from coursekit.train.train import train_method  # noqa: E402
from helpers import __main__ as cli  # noqa: E402
from helpers import bn_cnn, compute_features, load_data, resnet18, test, train_model  # noqa: E402
from helpers.data import Data  # noqa: E402
from helpers.lib.progress import EpochTable  # noqa: E402
from helpers.models import stay_in_eval_mode  # noqa: E402
from helpers.recipes import Augmentation  # noqa: E402

CRITERION = nn.CrossEntropyLoss(label_smoothing=0.1)
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended: torchrun's exit status, its seconds, and what each process printed."""

    status: int
    seconds: float
    out: list[str]
    err: list[str]


def run_ranks(job: str, folder: Path, pictures: Path, *, count: int = 2) -> Ended:
    """Start `count` processes with torchrun, wait for all, and read what they printed."""
    logs = folder / "logs"
    started = time.perf_counter()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [
            *torchrun,
            f"--nproc_per_node={count}",
            "--redirects=3",
            f"--log-dir={logs}",
            str(Path(__file__)),
            *(job, str(folder), str(pictures)),
        ],
        cwd=ROOT,
        env={**os.environ, "KIT_RESULTS": str(folder / "results"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    texts = {
        name: [
            path.read_text(encoding="utf-8")
            for path in sorted(logs.glob(f"*/attempt_0/*/{name}.log"))
        ]
        for name in ("stdout", "stderr")
    }
    seconds = time.perf_counter() - started
    return Ended(done.returncode, seconds, texts["stdout"], texts["stderr"])


# Jobs that measure


def pictures_of(folder: Path, **options) -> Data:
    """Pictures of 32 pixels, in batches of 8."""
    given = {"size": 32, "batch_size": 8, "augment": Augmentation(0.5, 0.5)}
    workspace = helpers.start(profile="mini", device="cpu")
    return load_data(workspace, dataset=folder, **{**given, **options})


def learn(model: nn.Module, data: Data, processes: Processes, *, lr: float = 0.05) -> dict:
    """Train for two epochs and test; returns all that came out of it."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    run = train_model(
        processes.train_together(model, CPU),
        processes.share(data),
        CRITERION,
        optimizer,
        num_epochs=2,
        progress=False,
    )
    score = test(processes.test_together(model), processes.share(data).test)
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "losses": [row[f"{split}_loss"] for row in run.history for split in ("train", "val")],
        "counts": [row[f"{split}_accuracy"] for row in run.history for split in ("train", "val")],
        "first_loss": run.first_loss,
        "best": (run.best_epoch, run.best_val_accuracy),
        "correct": score.correct,
        "predictions": score.predictions,
        "probabilities": score.probabilities,
        "ids": score.ids,
    }


def real_network() -> nn.Module:
    """ResNet18 whose BatchNorm layers stay in eval mode, so that parts of a batch do not matter."""
    torch.manual_seed(2)
    model = resnet18(3, pretrained=None)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train = MethodType(stay_in_eval_mode, layer)
            nn.init.constant_(layer.running_var, 2.0)  # keeps what passes through small
    return model


def experiments(pictures: Path, processes: Processes) -> dict:
    """Results that must not depend on how many processes there are."""
    data = pictures_of(pictures)
    torch.manual_seed(0)
    plain = bn_cnn(3, batch_norm=False, widths=(4, 8), dropout=0.0)
    torch.manual_seed(1)
    line = nn.Linear(6, 3)
    network = real_network()
    with processes.gathering(network.fc):
        features = compute_features(network, network.fc, processes.share(data), views=2)
    return {
        "plain": learn(plain, data, processes),
        "real": learn(network, data, processes, lr=0.01),
        # 13 samples do not divide by 2; of the last batch of 3 one process gets nothing
        "uneven": learn(line, vector_data((7, 13, 13), batch_size=4, noise=2.0), processes),
        "features": {
            split: (loader.dataset.vectors, loader.dataset.labels, loader.dataset.ids)
            for split, loader in features.dataloaders.items()
        },
    }


def norm_network() -> nn.Module:
    """A network with BatchNorm in train mode, which sees the part of a batch that it is given."""
    torch.manual_seed(0)
    return bn_cnn(3, widths=(4, 8), dropout=0.0)


def measure(folder: Path, pictures: Path) -> None:
    with parallel.joined() as processes:
        results = experiments(pictures, processes)
        results["norm"] = learn(norm_network(), pictures_of(pictures), processes)
        train_method("bn_cnn", profile="mini", dataset=pictures, device="cpu", num_epochs=1,
                     processes=processes)  # fmt: skip
        torch.save(results, folder / f"{processes.rank}.pt")


# Jobs that fail: in the second epoch process 1 does what it must not


def fail(deed: Callable[[], object], folder: Path, pictures: Path) -> None:
    epoch_done = EpochTable.epoch_done

    def and_then(table, row, **options):
        epoch_done(table, row, **options)
        if os.environ["RANK"] == "1" and row["epoch"] == 2:
            deed()

    EpochTable.epoch_done = and_then
    train(pictures)


def train(pictures: Path) -> None:
    options = ["--method", "bn_cnn", "--profile", "mini", "--device", "cpu", "--epochs", "200"]
    sys.exit(cli.main(["train", *options, "--dataset", str(pictures)]))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(100)


def hang_up(folder: Path, pictures: Path) -> None:
    parallel.joined = functools.partial(parallel.joined, datetime.timedelta(seconds=15))
    fail(hang, folder, pictures)


def err() -> None:
    raise ValueError("a fault in the code")


def stop_while_saving(folder: Path, pictures: Path) -> None:
    """torchrun's signal arrives while process 0 writes the result."""
    save = torch.save

    def save_and_stop(*arguments):
        save(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    torch.save = save_and_stop
    sys.exit(cli.main(["train", "--method", "bn_cnn", "--profile", "mini", "--device", "cpu",
                       "--epochs", "1", "--dataset", str(pictures)]))  # fmt: skip


def unknown_method(folder: Path, pictures: Path) -> None:
    sys.exit(cli.main(["train", "--method", "vgg", "--profile", "mini", "--device", "cpu"]))


JOBS = {
    "measure": measure,
    "die": functools.partial(fail, die),
    "err": functools.partial(fail, err),
    "hang": hang_up,
    "stop_while_saving": stop_while_saving,
    "unknown_method": unknown_method,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    JOBS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
