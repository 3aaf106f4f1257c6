"""Training and evaluation: the loop, the score, and features computed once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from scipy import stats
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from .data import EVALUATION_BATCH, Batches, Data, make_loader
from .kit.checkpoints import Checkpoints, Parts
from .kit.errors import KitError
from .kit.memory import careful_with_memory
from .kit.preflight import check_before_training, check_optimizer
from .kit.progress import EpochTable, track
from .models import in_eval_mode


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a training run did. Its `history` has one dict an epoch, with plain numbers."""

    history: list[dict[str, float]]  # epoch, train_loss, train_accuracy, val_loss, val_accuracy,
    # learning_rate, and the seconds of training, loading and evaluation
    first_loss: float  # of the untrained network: near ln(classes) when nothing is amiss
    best_epoch: int  # the epoch whose weights the model now has
    best_val_accuracy: float
    num_epochs: int  # that ran; fewer than asked for after early stopping
    seconds: dict[str, float]  # training, loading, evaluation, features
    ended: str = ""  # when, in ISO 8601 and UTC; a loaded run ended before this session
    resumed: int = 0  # after how many of its epochs it was interrupted, and went on later

    @property
    def training_seconds(self) -> float:
        """Seconds it took to learn: training, loading, and features if they were computed."""
        return self.seconds["training"] + self.seconds["loading"] + self.seconds["features"]


@careful_with_memory
def train_model(
    model: nn.Module,
    data: Data,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None = None,
    *,
    num_epochs: int,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    patience: int | None = None,
    min_delta: float = 0.0,
    progress: bool = True,
    checkpoint: Path | None = None,
    rerun: bool = False,
) -> TrainingRun:
    """Train on `data.train`, look at `data.val` after each epoch, keep the best weights on val.

    The learning rate follows `scheduler`, one step a batch. With `patience`, training stops after
    that many epochs in which val accuracy did not rise by more than `min_delta` (a part of 1)
    above its highest value when it last did. `precision` is what the network computes in
    (bfloat16 and float16 by autocast); its weights stay float32. The test split is not touched.
    With `checkpoint`, a folder, an interrupted run goes on when it is called again, and a finished
    one is loaded unless `rerun`; a changed setting starts it anew.
    Raises `KitError` before the first step when model, data and schedule do not fit together.
    """
    device = torch.device(device)
    model.to(device, memory_format=memory_format(device))
    check_optimizer(model, optimizer)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    clock, best, history = Clock(device), BestWeights(), []
    data.train.batch_sampler.reseed()

    parts = Parts(model, data, criterion, optimizer, scheduler, scaler, best, history)
    settings = {"num_epochs": num_epochs, "precision": precision}
    settings |= {"patience": patience, "min_delta": min_delta}
    saved = Checkpoints(checkpoint, parts, rerun=rerun, **settings)
    if saved.is_new:
        saved.first_loss = check_before_training(model, data, criterion, scheduler, num_epochs)
    table = EpochTable(num_epochs, len(data.train), history=history, note=data.note, show=progress)
    with saved, table:
        for epoch in saved.epochs_left:
            model.train()
            train, rate = Tally(), max(group["lr"] for group in optimizer.param_groups)
            for images, labels in clock.loading(data.train):
                images, labels = to_device(images, device), labels.to(device)
                optimizer.zero_grad()
                with autocast(device, precision):
                    logits = model(images)
                    loss = criterion(logits, labels)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                if scheduler is not None:
                    scheduler.step()
                train.add(loss, logits, labels)
                clock.lap("training")
                table.batch_done(train.loss, train.accuracy)

            val = evaluate(model, data.val, criterion, device=device, precision=precision)
            clock.lap("evaluation")
            best.keep(model, val.accuracy, epoch)
            row = epoch_row(epoch, train, val, rate, clock.take())
            history.append(row)
            table.epoch_done(row, is_best=best.epoch == epoch)
            if patience is not None and epochs_without_gain(history, min_delta) >= patience:
                break
            saved.epoch_done()

    best.restore(model)
    return summary_of(history, best, saved)


class Tally:
    """Sums over samples, not over batches: the last batch is often smaller than the others."""

    def __init__(self) -> None:
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch; `loss` is the mean over its samples."""
        self.loss_sum += loss.item() * len(labels)
        self.correct += int((logits.argmax(dim=1) == labels).sum())
        self.seen += len(labels)

    @property
    def loss(self) -> float:
        return self.loss_sum / max(self.seen, 1)

    @property
    def accuracy(self) -> float:
        return self.correct / max(self.seen, 1)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    criterion: nn.Module,
    *,
    device: torch.device,
    precision: torch.dtype = torch.float32,
) -> Tally:
    """Loss and accuracy over all samples of a loader, in eval mode; the modes are restored."""
    tally = Tally()
    with in_eval_mode(model):
        for images, labels in loader:
            images, labels = to_device(images, device), labels.to(device)
            with autocast(device, precision):
                logits = model(images)
                loss = criterion(logits, labels)
            tally.add(loss, logits, labels)
    return tally


class BestWeights:
    """The weights of the epoch with the highest val accuracy; of equals, the first."""

    def __init__(self) -> None:
        self.accuracy, self.epoch = -1.0, 0
        self.state: dict[str, torch.Tensor] = {}

    def keep(self, model: nn.Module, accuracy: float, epoch: int) -> None:
        """Copy the weights if they are better than the best so far."""
        if accuracy > self.accuracy:
            self.accuracy, self.epoch = accuracy, epoch
            self.state = {
                name: value.detach().clone() for name, value in model.state_dict().items()
            }

    def restore(self, model: nn.Module) -> None:
        model.load_state_dict(self.state)


def epochs_without_gain(history: Sequence[dict[str, float]], min_delta: float) -> int:
    """Epochs at the end of a history since val accuracy last rose by more than `min_delta`."""
    highest, epochs = float("-inf"), 0
    for row in history:
        gained = row["val_accuracy"] > highest + min_delta
        highest, epochs = (row["val_accuracy"], 0) if gained else (highest, epochs + 1)
    return epochs


class Clock:
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

    def loading(self, loader: DataLoader):
        """Go through a loader and count what each batch took to arrive, and nothing before."""
        self.last = time.perf_counter()
        for batch in loader:
            self.lap("loading")
            yield batch

    def take(self) -> dict[str, float]:
        """The seconds so far, and start again from zero."""
        seconds, self.seconds = self.seconds, {}
        return seconds


def epoch_row(
    epoch: int, train: Tally, val: Tally, learning_rate: float, seconds: dict[str, float]
) -> dict[str, float]:
    """One line of a history: plain numbers under plain names; the rate is its first step's."""
    return {
        "epoch": epoch,
        "train_loss": train.loss,
        "train_accuracy": train.accuracy,
        "val_loss": val.loss,
        "val_accuracy": val.accuracy,
        "learning_rate": learning_rate,
        **{f"{name}_seconds": seconds[name] for name in ("training", "loading", "evaluation")},
    }


def summary_of(
    history: list[dict[str, float]], best: BestWeights, saved: Checkpoints
) -> TrainingRun:
    """The run that a history tells of."""
    seconds = {
        name: sum(row[f"{name}_seconds"] for row in history)
        for name in ("training", "loading", "evaluation")
    }
    return TrainingRun(
        history=history,
        first_loss=saved.first_loss,
        best_epoch=best.epoch,
        best_val_accuracy=best.accuracy,
        num_epochs=len(history),
        seconds={**seconds, "features": saved.feature_seconds},
        ended=saved.ended,
        resumed=saved.resumed,
    )


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last is faster for convolutions, but wrong on MPS (pytorch issue 175189)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def to_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a batch to the device, pictures in the memory order that its convolutions like."""
    if images.dim() == 4:
        return images.to(device, memory_format=memory_format(device))
    return images.to(device)


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Run what gains from it in `precision`; nothing changes when that is float32."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


@dataclasses.dataclass(frozen=True)
class Score:
    """How a model did on a split: counts over all its samples, and every prediction."""

    correct: int
    total: int
    loss: float  # cross entropy, in nats a sample
    top5: float  # part of the samples whose label is among the 5 (or fewer) likeliest classes
    per_class: torch.Tensor  # (classes,) accuracy of each class; NaN where there is no sample
    labels: torch.Tensor  # (samples,) int64
    predictions: torch.Tensor  # (samples,) int64
    probabilities: torch.Tensor  # (samples, classes) float32
    ids: list[str]  # the pictures' names
    seconds: float

    @property
    def accuracy(self) -> float:
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy, for the chance in which pictures were tested."""
        return accuracy_interval(self.correct, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        top5 = f"top-5 {self.top5:.1%}; " if len(self.per_class) > 5 else ""  # else it is always 1
        return (
            f"accuracy {self.accuracy:.1%} ({self.correct:,}/{self.total:,}), "
            f"95 % interval {low:.1%} to {high:.1%}; {top5}loss {self.loss:.3f}; "
            f"{self.seconds:.1f} s"
        )


def accuracy_interval(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Wilson, 1927), as two numbers in 0 ... 1."""
    interval = stats.binomtest(correct, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@torch.no_grad()  # not inference_mode: what it moves to the device could not be trained any more
def test(
    model: nn.Module,
    loader: DataLoader,
    *,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> Score:
    """Run a model over all samples of a loader and score it. Do it once, when all is decided.

    Raises `KitError` when a label has no column in the logits.
    """
    device = torch.device(device)
    model.to(device, memory_format=memory_format(device))
    started = time.perf_counter()
    logits, labels = [], []
    with in_eval_mode(model):
        for images, batch_labels in track(loader, "testing"):
            with autocast(device, precision):
                logits.append(model(to_device(images, device)).float().cpu())
            labels.append(batch_labels)
    return score_of(torch.cat(logits), torch.cat(labels), loader.dataset.ids, started)


test.__test__ = False  # its name makes pytest take it for a test of the kit


def score_of(
    logits: torch.Tensor, labels: torch.Tensor, ids: Sequence[str], started: float
) -> Score:
    """The score of logits (samples, classes) against labels (samples,)."""
    classes = logits.shape[1]
    if int(labels.max()) >= classes:
        raise KitError(
            f"label {int(labels.max())} has no column in {classes} logits: "
            f"build the model with num_classes={int(labels.max()) + 1} or more"
        )
    predictions = logits.argmax(dim=1)
    hits = (predictions == labels).double()
    counts = torch.bincount(labels, minlength=classes)
    likeliest = logits.topk(min(5, classes), dim=1).indices
    return Score(
        correct=int(hits.sum()),
        total=len(labels),
        loss=float(nn.functional.cross_entropy(logits, labels)),
        top5=float((likeliest == labels[:, None]).any(dim=1).double().mean()),
        per_class=torch.bincount(labels, weights=hits, minlength=classes) / counts,
        labels=labels,
        predictions=predictions,
        probabilities=logits.softmax(dim=1),
        ids=list(ids),
        seconds=time.perf_counter() - started,
    )


class Features(Dataset):
    """Vectors that stand for pictures: what a frozen network made of each, computed once."""

    def __init__(self, vectors: torch.Tensor, labels: torch.Tensor, ids: Sequence[str]) -> None:
        self.vectors, self.labels, self.ids = vectors, labels, list(ids)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitems__(self, draws: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        indices = [index for index, _ in draws]
        return self.vectors[indices], self.labels[indices]


@torch.no_grad()
def compute_features(
    model: nn.Module,
    head: nn.Module,
    data: Data,
    *,
    views: int = 1,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> Data:
    """What enters `head` for every picture: the same `Data`, of vectors (samples, width).

    `head` is a layer of `model`, such as `model.fc`. Training it on the result is training the
    network with everything before the head frozen, at a fraction of the cost, because a picture
    goes through the network once and not once an epoch. With `views` above 1, each training
    picture is there that many times: plain, and augmented as `data` says. `feature_seconds` of
    the result is the time for train and val, which training needs; test comes on top.
    """
    device = torch.device(device)
    model.to(device, memory_format=memory_format(device))
    loaders, seconds = {}, {}
    data.train.batch_sampler.reseed()
    for split, loader in data.dataloaders.items():
        started = time.perf_counter()
        pictures, order = loader.dataset, loader.batch_sampler
        passes = [pictures.plain()] + [pictures] * (views - 1 if split == "train" else 0)
        vectors = [
            head_inputs(
                model, head, samples, order.generator, f"features of {split}", device, precision
            )
            for samples in passes
        ]
        samples = Features(
            torch.cat(vectors), pictures.labels.repeat(len(passes)), pictures.ids * len(passes)
        )
        loaders[split] = make_loader(
            samples, order.batch_size, seed=order.seed, shuffle=order.shuffle
        )
        seconds[split] = time.perf_counter() - started
    return dataclasses.replace(data, **loaders, feature_seconds=seconds["train"] + seconds["val"])


def head_inputs(
    model: nn.Module,
    head: nn.Module,
    samples: Dataset,
    generator: torch.Generator,
    description: str,
    device: torch.device,
    precision: torch.dtype,
) -> torch.Tensor:
    """The vectors (samples, width) that enter `head`, caught on their way in, in eval mode."""
    order = Batches(len(samples), EVALUATION_BATCH, seed=0, shuffle=False)
    order.generator = generator  # each pass draws other augmentations
    caught: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float().cpu()))
    try:
        with in_eval_mode(model):
            for draws in track(order, description):
                images, _ = samples.__getitems__(draws)
                with autocast(device, precision):
                    model(to_device(images, device))
    finally:
        hook.remove()
    return torch.cat(caught)
