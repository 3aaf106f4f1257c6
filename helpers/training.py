"""Training and evaluation: the loop, and what is counted in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.checkpoint import Checkpoint
from helpers.lib.devices import autocast, device_of, move_images, move_model, precision_for
from helpers.lib.loaders import reseed, set_epoch
from helpers.lib.memory import careful_with_memory
from helpers.lib.modes import in_eval_mode, logits_of
from helpers.lib.preflight import check_before_training, check_schedule, step_of
from helpers.lib.progress import EpochTable
from helpers.lib.run_settings import settings_of_run
from helpers.lib.timer import Timer

Batch = tuple[torch.Tensor, torch.Tensor]
LAPS = ("training", "loading", "evaluation")  # what the seconds of a run are spent on


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
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)  # with which it ran
    ended: str = ""  # when, in ISO 8601 and UTC; a loaded run ended before this session
    resumed: int = 0  # how often it was interrupted and went on later

    @property
    def training_seconds(self) -> float:
        """Seconds it took to learn: training, loading, and features if they were computed."""
        return self.seconds["training"] + self.seconds["loading"] + self.seconds["features"]


@careful_with_memory
def train_model(
    model: nn.Module,
    data: Data | Mapping[str, DataLoader],
    criterion: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    *,
    num_epochs: int,
    step_scheduler: Literal["batch", "epoch"] | None = None,
    device: torch.device | str | None = None,
    precision: torch.dtype | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    progress: bool = True,
    checkpoint: Path | None = None,
    rerun: bool = False,
) -> TrainingRun:
    """Train on train, look at val after each epoch, and keep the best weights on val.

    The test split is not touched. With a checkpoint, an interrupted run goes on when it is called
    again, and a finished one is loaded; a changed setting starts it anew and says what changed.

    Args:
        model: any module that returns logits (batch, classes).
        data: from `load_data`, or a dict of your own DataLoaders, "train" and "val".
        criterion: gives the mean loss of a batch from logits and labels (batch,).
        optimizer: of the model's parameters.
        scheduler: any of torch.optim.lr_scheduler.
        num_epochs: passes through train.
        step_scheduler: when the scheduler takes a step, after each "batch" or each "epoch"; by
            default after each batch for OneCycleLR, CyclicLR and one as long as all batches
            together, and after each epoch for others, as PyTorch's tutorials do.
        device: where to train; by default what `data` says.
        precision: of the network's arithmetic (bfloat16 and float16 by autocast); its weights stay
            float32. By default what `data` says, or float32 where that is faster.
        patience: stop after so many epochs in which val accuracy did not rise by more than
            `min_delta` (a fraction of 1) above its highest value when it last did.
        progress: whether to show the table of epochs.
        checkpoint: a folder for what the run needs to go on later.
        rerun: train anew although there is a checkpoint.

    Returns:
        The history and what it cost; the model has the weights of the best epoch.

    Raises:
        KitError: before the first step, when model, data and schedule do not fit together.
    """
    data = Data.of(data)
    device = torch.device(device or data.device)
    precision = precision_for(model, device, precision or data.precision)
    move_model(model, device)
    reseed(data.train)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    timer, best = Timer(device), BestWeights()
    history: list[dict[str, float]] = []

    first_loss = check_before_training(
        model, data.dataloaders, data.num_classes, criterion, optimizer
    )
    step_after = step_of(scheduler, step_scheduler, num_epochs, len(data.train))
    settings = settings_of_run(
        data.train, criterion, optimizer, scheduler, step_scheduler=step_after,
        device=device, precision=precision, num_epochs=num_epochs, patience=patience,
        min_delta=min_delta, data={"name": data.name, "size": data.size},
    )  # fmt: skip
    saved = Checkpoint(
        checkpoint, settings, loaders=data.dataloaders, model=model, optimizer=optimizer,
        scheduler=scheduler, scaler=scaler, best=best, history=history, first_loss=first_loss,
        feature_seconds=data.feature_seconds, rerun=rerun,
    )  # fmt: skip
    if saved.is_new:
        check_schedule(scheduler, num_epochs, len(data.train), step_after, optimizer=optimizer)
    table = EpochTable(num_epochs, len(data.train), history=history, note=data.note, show=progress)
    with saved, table:
        for epoch in saved.epochs_left(num_epochs):
            model.train()
            start_epoch(data.train, epoch)
            train, learning_rate = Tally(), max(group["lr"] for group in optimizer.param_groups)
            for images, labels in timer.loading(whole_batches(data.train)):
                images, labels = move_images(images, device), labels.to(device)
                optimizer.zero_grad()  # forget the gradients of the batch before
                with autocast(device, precision):
                    logits = logits_of(model(images))  # forward: what does the network say?
                    loss = criterion(logits, labels)  # how wrong is that?
                scaler.scale(loss).backward()  # backward: what would each weight change?
                scaler.step(optimizer)  # step: change them a little
                scaler.update()
                if scheduler is not None and step_after == "batch":
                    scheduler.step()  # the next step is as large as the schedule says
                train.add(loss, logits, labels)
                timer.lap("training")
                table.batch_done(train.loss, train.accuracy)

            val = evaluate(model, data.val, criterion, device=device, precision=precision)
            timer.lap("evaluation")
            if scheduler is not None and step_after == "epoch":
                step_after_epoch(scheduler, val)
            best.keep(model, val.accuracy, epoch)
            history.append(epoch_row(epoch, train, val, learning_rate, timer.take()))
            table.epoch_done(history[-1], is_best=best.epoch == epoch)
            if patience is not None and epochs_without_gain(history, min_delta) >= patience:
                break
            saved.epoch_done()
    best.restore(model)
    return summary_of(history, best, saved, settings)


class Tally:
    """Sums over samples, not over batches: the last batch is often smaller than the others."""

    def __init__(self) -> None:
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch; `loss` is the mean over its samples. Raises `KitError` when it is NaN."""
        if math.isnan(value := loss.item()):
            raise KitError(
                "the loss is NaN, and with it soon every weight: use a lower learning rate, or "
                "look for NaN in the samples and for a logarithm or a division in the criterion"
            )
        self.loss_sum += value * len(labels)
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
    device: torch.device | None = None,
    precision: torch.dtype = torch.float32,
) -> Tally:
    """Loss and accuracy over all samples of a loader, in eval mode; the modes are restored.

    Args:
        model: any module that returns logits (batch, classes).
        loader: any DataLoader of (images, labels).
        criterion: gives the mean loss of a batch.
        device: by default that of the model.
        precision: of the network's arithmetic.

    Returns:
        A tally with `loss` (in nats for cross-entropy) and `accuracy` (0 ... 1).
    """
    device, tally = device or device_of(model), Tally()
    with in_eval_mode(model):
        for images, labels in loader:
            images, labels = move_images(images, device), labels.to(device)
            with autocast(device, precision):
                logits = logits_of(model(images))
                loss = criterion(logits, labels)
            tally.add(loss, logits, labels)
    return tally


def whole_batches(loader: DataLoader) -> Iterator[Batch]:
    """The batches of an epoch; a last one of a single sample is joined to the one before it.

    BatchNorm cannot train on one sample. `load_data` makes no such batch, a plain DataLoader may.
    """
    before: Batch | None = None
    for number, (images, labels) in enumerate(loader, start=1):
        if number == len(loader) - 1:
            before = images, labels  # held back until the last one is there
            continue
        if before is not None and len(labels) == 1 < len(before[1]):
            images, labels = torch.cat([before[0], images]), torch.cat([before[1], labels])
        elif before is not None:
            yield before
        yield images, labels


def start_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell a loader's samplers and its data set the number of the epoch, if they ask for it."""
    for part in (loader.sampler, loader.batch_sampler):
        if callable(tell := getattr(part, "set_epoch", None)):
            tell(epoch)
    set_epoch(loader.dataset, epoch)


def step_after_epoch(scheduler: LRScheduler, val: Tally) -> None:
    """The step of a schedule that counts epochs; one that watches val sees its loss or accuracy."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(val.loss if scheduler.mode == "min" else val.accuracy)
    else:
        scheduler.step()


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


def epochs_without_gain(history: Sequence[Mapping[str, float]], min_delta: float) -> int:
    """Epochs at the end of a history since val accuracy last rose by more than `min_delta`."""
    highest, epochs = float("-inf"), 0
    for row in history:
        gained = row["val_accuracy"] > highest + min_delta
        highest, epochs = (row["val_accuracy"], 0) if gained else (highest, epochs + 1)
    return epochs


def epoch_row(
    epoch: int, train: Tally, val: Tally, learning_rate: float, seconds: Mapping[str, float]
) -> dict[str, float]:
    """One line of a history: plain numbers under plain names; the rate is its first step's."""
    return {
        "epoch": epoch,
        "train_loss": train.loss,
        "train_accuracy": train.accuracy,
        "val_loss": val.loss,
        "val_accuracy": val.accuracy,
        "learning_rate": learning_rate,
        **{f"{name}_seconds": seconds[name] for name in LAPS},
    }


def summary_of(
    history: list[dict[str, float]], best: BestWeights, saved: Checkpoint, settings: dict[str, Any]
) -> TrainingRun:
    """The run that a history tells of."""
    return TrainingRun(
        history=history,
        first_loss=saved.first_loss,
        best_epoch=best.epoch,
        best_val_accuracy=best.accuracy,
        num_epochs=len(history),
        seconds={name: sum(row[f"{name}_seconds"] for row in history) for name in LAPS}
        | {"features": saved.feature_seconds},
        settings=settings,
        ended=saved.ended,
        resumed=saved.resumed,
    )
