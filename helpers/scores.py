"""The test: how a model does on a split, sample by sample, with the interval of its accuracy."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

import scipy
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.datasets import ids_of
from helpers.lib.devices import autocast, device_of, move_images, move_model, precision_for
from helpers.lib.loaders import Batches, loader_like
from helpers.lib.modes import in_eval_mode, logits_of
from helpers.lib.progress import track


@dataclasses.dataclass(frozen=True)
class Score:
    """How a model did on a split: counts over all its samples, and every prediction."""

    correct: int
    total: int
    loss: float  # cross-entropy, in nats a sample
    top5: float  # fraction of the samples whose label is among the 5 (or fewer) likeliest classes
    per_class: torch.Tensor  # (classes,) accuracy of each class; NaN where there is no sample
    labels: torch.Tensor  # (samples,) int64
    predictions: torch.Tensor  # (samples,) int64
    probabilities: torch.Tensor  # (samples, classes) float32
    ids: list[str]  # the samples' names
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
    interval = scipy.stats.binomtest(correct, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@torch.no_grad()  # not inference_mode: what it moves to the device could not be trained any more
def test(
    model: nn.Module,
    data: Data | Mapping[str, DataLoader] | DataLoader,
    *,
    split: str = "test",
    device: torch.device | str | None = None,
    precision: torch.dtype | None = None,
) -> Score:
    """Run a model over all samples of a split and score it. Do it once, when all is decided.

    Args:
        model: any module that returns logits (batch, classes).
        data: from `load_data`, a dict of DataLoaders, or one DataLoader of (images, labels).
        split: of `data`, when it has several: "test", "val" or "train".
        device: by default what `data` says; for a DataLoader that of the model.
        precision: of the network's arithmetic; by default what `data` says, else float32.

    Returns:
        Accuracy, loss, and a prediction for every sample, in the order of the data set.

    Raises:
        KitError: when there is no such split, and when a label has no column in the logits.
    """
    if isinstance(data, DataLoader):
        loader = data
    elif split not in (loaders := data.dataloaders if isinstance(data, Data) else data):
        raise KitError(f"these data have no {split!r} split: it is one of {', '.join(loaders)}")
    else:
        loader = loaders[split]
    if isinstance(data, Data):
        device, precision = device or data.device, precision or data.precision
    device = torch.device(device or device_of(model))
    precision = precision_for(model, device, precision or torch.float32)
    move_model(model, device)
    started = time.perf_counter()
    loader, ids = in_order(loader)
    logits, labels = [], []
    with in_eval_mode(model):
        for images, batch_labels in track(loader, "testing"):
            with autocast(device, precision):
                output = logits_of(model(move_images(images, device)))
            logits.append(output.float().cpu())
            labels.append(batch_labels)
    return score_of(torch.cat(logits), torch.cat(labels), ids, started)


test.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for one of its own


def in_order(loader: DataLoader) -> tuple[DataLoader, list[str]]:
    """A loader in the order of its data set, and the names of its samples.

    One whose sampler is not known is taken as it is, and its samples get numbers for names.
    """
    batches = loader.sampler if isinstance(loader.sampler, Batches) else loader.batch_sampler
    if isinstance(batches, Batches):
        if batches.shuffle:
            loader = loader_like(loader, loader.dataset)
            loader.sampler.shuffle = False  # type: ignore[attr-defined]
        return loader, ids_of(loader.dataset)
    every = isinstance(loader.sampler, RandomSampler) and not loader.sampler.replacement
    if every or isinstance(loader.sampler, SubsetRandomSampler):
        some = sorted(getattr(loader.sampler, "indices", ()))
        loader = DataLoader(
            loader.dataset if every else Subset(loader.dataset, some),
            batch_size=loader.batch_size,
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
        )
    if isinstance(loader.sampler, SequentialSampler) and not loader.drop_last:
        return loader, ids_of(loader.dataset)
    return loader, []


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
        ids=list(ids) or [f"{number:05d}" for number in range(len(labels))],
        seconds=time.perf_counter() - started,
    )
