"""Figures of data and of training. Each function returns a Figure: put the call on the last line of
a cell to see it. `data` is from `load_data`, or a dict of your own DataLoaders."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from helpers.data import Data
from helpers.lib.datasets import labels_of, picture_of
from helpers.lib.figures import (
    BLUE,
    COLORS,
    GREY,
    MARKERS,
    NO_RESULTS,
    VERMILLION,
    logarithmic,
    name_classes,
    new_axes,
    nothing_to_show,
    picture_grid,
    small,
)
from helpers.pictures import IMAGENET, Normalization, denormalize, square
from helpers.scores import Score
from helpers.tour import class_counts, picture_sizes
from helpers.training import TrainingRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Loaders = Data | Mapping[str, DataLoader]
Accuracies = float | Sequence[float]  # of one draw of the pictures, or of several


# Pictures


def imshow(
    images: torch.Tensor | Sequence[torch.Tensor],
    titles: Sequence[str] | str | None = None,
    *,
    columns: int = 6,
    note: str = "",
    normalization: Normalization | None = IMAGENET,
) -> Figure:
    """One picture or several, side by side, each below its title.

    Args:
        images: (3, height, width), (pictures, 3, height, width) or a list of the former; uint8, or
            floats as a loader gives them.
        titles: a text for each.
        columns: pictures in a row.
        note: small print below.
        normalization: of floats, to be undone.
    """
    one = isinstance(images, torch.Tensor) and images.dim() == 3
    pictures = [images] if isinstance(images, torch.Tensor) and one else list(images)
    shown = [as_shown(picture, normalization) for picture in pictures]
    texts = [titles] if isinstance(titles, str) else titles
    return picture_grid(shown, texts or [""] * len(shown), columns=columns, note=note)


def as_shown(picture: torch.Tensor, normalization: Normalization | None) -> torch.Tensor:
    """A picture as it can be drawn: of three colours, uint8 or in 0 ... 1, and small."""
    if picture.dtype != torch.uint8:
        picture = denormalize(picture, normalization)
    return small(picture.expand(3, -1, -1) if len(picture) == 1 else picture)


def show_samples(data: Loaders, *, count: int = 18, columns: int = 6) -> Figure:
    """Training pictures, as decoded, with the names of their classes; several of each if few."""
    data = Data.of(data)
    dataset, labels = data.train.dataset, labels_of(data.train.dataset)
    step = max(1, data.num_classes // count)
    fewest = int(class_counts(data, "train").min())
    each = max(1, min(columns, fewest, count // data.num_classes))
    columns -= columns % each  # so that those of a class are side by side
    chosen = [
        index
        for label in range(0, data.num_classes, step)[:count]
        for index in (labels == label).nonzero().flatten()[:each].tolist()
    ]
    titles = [data.class_names[labels[index]] for index in chosen]
    pictures = [square(picture_of(dataset, index)) for index in chosen]
    return imshow(
        pictures, titles, columns=columns, note=data.note, normalization=data.normalization
    )


def show_predictions(score: Score, data: Loaders, *, count: int = 12, columns: int = 6) -> Figure:
    """Test pictures spread over the split with the class that a model says; orange is wrong."""
    data = Data.of(data)
    chosen = torch.linspace(0, score.total - 1, min(count, score.total)).long().tolist()
    titles, colors = [], []
    for index in chosen:
        guess, label = int(score.predictions[index]), int(score.labels[index])
        titles.append(data.class_names[guess])
        if guess != label:
            titles[-1] += f"\n(not {data.class_names[label]})"
        colors.append("black" if guess == label else VERMILLION)
    pictures = [
        as_shown(picture_of(data.test.dataset, index), data.normalization) for index in chosen
    ]
    return picture_grid(pictures, titles, columns=columns, colors=colors, note=data.note)


# Data


def plot_class_balance(data: Loaders) -> Figure:
    """Number of pictures of each class, split by split; most test pictures first."""
    data = Data.of(data)
    figure, axes = new_axes(width=8, height=2.8, note=data.note)
    last = list(data.dataloaders)[-1]
    ranks = class_counts(data, last).argsort(descending=True, stable=True)
    edges = np.arange(data.num_classes + 1) - 0.5
    styles: tuple[dict[str, Any], ...] = ({"lw": 5, "alpha": 0.4}, {"ls": "--"}, {})
    for split, color, style in zip(data.dataloaders, COLORS, styles, strict=False):
        counts = class_counts(data, split)[ranks].numpy()
        axes[0, 0].stairs(counts, edges, baseline=None, color=color, label=split, **style)
    axes[0, 0].set(xlabel=f"classes, most {last} pictures first", ylabel="pictures", ylim=(0, None))
    name_classes(axes[0, 0], [data.class_names[label] for label in ranks.tolist()])
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


def plot_picture_sizes(data: Loaders) -> Figure:
    """Width and height of every picture in pixels, and the square that a network sees."""
    from matplotlib.patches import Rectangle

    data = Data.of(data)
    figure, axes = new_axes(width=4.4, height=3.8, note=data.note)
    widths, heights = np.array(picture_sizes(data)).T
    axis = axes[0, 0]
    axis.scatter(widths, heights, s=8, alpha=0.3, color=BLUE, linewidths=0, label="pictures")
    axis.add_patch(
        Rectangle(
            (0, 0), data.size, data.size, fill=False, color=VERMILLION,
            label="what the network sees",
        )
    )  # fmt: skip
    axis.set(xlabel="width (pixels)", ylabel="height (pixels)", aspect="equal")
    axis.set(xlim=(0, widths.max() * 1.1), ylim=(0, heights.max() * 1.1))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


# Training


def learning_rates(scheduler: LRScheduler, steps: int) -> np.ndarray:
    """The learning rates that a schedule will give, (steps, groups); nothing is changed."""
    scheduler = copy.deepcopy(scheduler)  # and with it its optimizer
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants optimizer.step() first; no step is taken here
        for step in range(steps):
            rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
            if step < steps - 1:
                scheduler.step()
    return np.array(rates)


def plot_schedule(
    scheduler: LRScheduler, *, num_epochs: int, batches: int, names: Sequence[str] = ("all layers",)
) -> Figure:
    """The learning rate of each parameter group over a run, before it starts.

    Args:
        scheduler: that takes a step after each batch; with batches=1, after each epoch.
        num_epochs: of the run.
        batches: steps in an epoch.
        names: of the parameter groups.
    """
    rates = learning_rates(scheduler, num_epochs * batches)
    figure, axes = new_axes(width=6, height=2.6)
    epochs = np.arange(len(rates)) / batches
    for column, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        axes[0, 0].plot(epochs, rates[:, column], color=color, label=name)
    axes[0, 0].set(ylabel="learning rate", ylim=(0, None))
    whole_epochs(axes[0, 0])
    if len(names) > 1:
        figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


def plot_history(
    runs: TrainingRun | Mapping[str, TrainingRun],
    *,
    x: Literal["epoch", "seconds", "fraction"] = "epoch",
    note: str = "",
) -> Figure:
    """Loss and accuracy, epoch by epoch, of one run or of several; or accuracy over their time.

    Args:
        runs: what `train_model` returned, or several under their names.
        x: "epoch": loss and accuracy, train dashed and val solid; "seconds": the best val accuracy
            so far over the seconds of training, features included; "fraction": val accuracy over
            the fraction of the run that has passed.
        note: small print below.
    """
    if isinstance(runs, TrainingRun):
        runs = {"": runs}
    if not runs:
        return nothing_to_show(NO_RESULTS, note)
    if x == "epoch":
        return _plot_epochs(runs, note)
    figure, axes = new_axes(width=6, height=3.2, note=note)
    axis = axes[0, 0]
    for (name, run), color, marker in zip(runs.items(), COLORS, MARKERS, strict=False):
        accuracy = [row["val_accuracy"] for row in run.history]
        if x == "seconds":
            epochs = [row["training_seconds"] + row["loading_seconds"] for row in run.history]
            seconds = run.seconds["features"] + np.cumsum(epochs)
            best = np.maximum.accumulate(accuracy)
            axis.plot(seconds, best, marker=marker, ms=3, color=color, label=name)
        else:
            passed = [row["epoch"] / len(run.history) for row in run.history]
            axis.plot(passed, accuracy, color=color, label=f"{name} ({len(accuracy)} epochs)")
    if x == "seconds":
        axis.set(ylabel="best val accuracy so far", ylim=(0, 1), xlabel="seconds of training")
        logarithmic(axis)
    else:
        axis.set(xlabel="part of the run", ylabel="val accuracy", ylim=(0, 1))
        axis.xaxis.set_major_formatter("{x:.0%}")
    axis.yaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


def whole_epochs(axis: Axes) -> None:
    """Let the x axis count epochs, with whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set(xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _plot_epochs(runs: Mapping[str, TrainingRun], note: str) -> Figure:
    figure, axes = new_axes(1, 2, width=9, height=3, note=note)
    for (name, run), color in zip(runs.items(), COLORS, strict=False):
        epochs = [row["epoch"] for row in run.history]
        for axis, key in zip(axes[0], ("loss", "accuracy"), strict=True):
            for split, style in (("train", "--"), ("val", "-")):
                values = [row[f"{split}_{key}"] for row in run.history]
                axis.plot(epochs, values, style, color=color, label=f"{name} {split}".strip())
        axes[0, 1].plot(run.best_epoch, run.best_val_accuracy, "o", color=color)
    # A loss that shoots up for an epoch would hide all others: cut at thrice the first one.
    top = min(axes[0, 0].get_ylim()[1], 3 * max(run.first_loss for run in runs.values()))
    axes[0, 0].set(ylabel="loss", ylim=(0, top))
    axes[0, 1].set(ylabel="accuracy", ylim=(0, 1))
    axes[0, 1].yaxis.set_major_formatter("{x:.0%}")
    for axis in axes[0]:
        whole_epochs(axis)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center", frameon=False, fontsize=8)
    return figure


def plot_accuracy_against_count(
    accuracy: Mapping[int, Accuracies] | Mapping[str, Mapping[int, Accuracies]],
    *,
    chance: float | None = None,
    note: str = "",
) -> Figure:
    """Val accuracy against the number of training pictures a class, of one method or of several.

    Args:
        accuracy: for each count an accuracy, or those of several draws of the pictures: then the
            line is their mean, and the band reaches from the lowest to the highest. A dict of such
            dicts shows several methods, under their names.
        chance: accuracy of guessing, a line.
        note: small print below.
    """
    several = isinstance(next(iter(accuracy.values())), Mapping)
    curves: Any = accuracy if several else {"": accuracy}
    figure, axes = new_axes(width=5.6, height=3.2, note=note)
    axis = axes[0, 0]
    for (name, curve), color, marker in zip(curves.items(), COLORS, MARKERS, strict=False):
        draws = {count: np.atleast_1d(values) for count, values in curve.items()}
        means = [values.mean() for values in draws.values()]
        lowest, highest = zip(*((one.min(), one.max()) for one in draws.values()), strict=True)
        axis.plot(list(draws), means, f"{marker}-", color=color, label=name)
        axis.fill_between(list(draws), lowest, highest, color=color, alpha=0.2, lw=0)
        for count, mean, top in zip(draws, means, highest, strict=True) if not several else ():
            axis.annotate(f"{mean:.0%}", (count, top), xytext=(0, 5), ha="center",
                          textcoords="offset points", fontsize=8)  # fmt: skip
    counts = sorted({count for curve in curves.values() for count in curve})
    axis.set(xscale="log", xlabel="training pictures a class", ylabel="val accuracy")
    axis.set(ylim=(0, 1.1), xticks=counts, xticklabels=map(str, counts))
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.minorticks_off()
    if len(values := next(iter(draws.values()))) > 1:
        title = f"mean of {len(values)} draws of the pictures, and lowest to highest"
        axis.set_title(title, fontsize=9)
    if chance is not None:
        axis.axhline(chance, color=GREY, ls="--", lw=1)
        axis.text(1.01, chance, f"guessing\n{chance:.0%}", color="#555555", fontsize=8,
                  va="center", transform=axis.get_yaxis_transform())  # fmt: skip
    if several:
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure
