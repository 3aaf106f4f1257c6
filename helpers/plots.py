"""Figures of data, of training and of results. Each function returns a Figure: put the call on the
last line of a cell to see it. `data` is from `load_data`, or a dict of your own DataLoaders."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from helpers.comparison import class_accuracy, confused_pairs, note_of
from helpers.data import Data
from helpers.lib.datasets import ids_of, labels_of, picture_of
from helpers.lib.figures import (
    BLUE,
    COLORS,
    MARKERS,
    VERMILLION,
    as_array,
    bare,
    new_axes,
    nothing_to_show,
    picture_grid,
    shortened,
    small,
    wrapped,
)
from helpers.pictures import IMAGENET, Normalization, denormalize, square
from helpers.results import Result
from helpers.scores import Score
from helpers.tour import class_counts, picture_sizes
from helpers.training import TrainingRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Loaders = Data | Mapping[str, DataLoader]
MOST_NAMES = 15  # classes whose names fit below a figure
NO_RESULTS = "no results yet: run notebooks 02 to 05 first"
AXES = {"training_seconds": "seconds of training"}


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


def show_confused(results: Sequence[Result], data: Loaders, *, count: int = 2) -> Figure:
    """The pairs of classes that each method mixes up most, as pictures: a row for each method.

    Of each of its `count` pairs, a test picture that it mistook, and beside it a training picture
    of the class that it confused it with. Results about other pictures are left out.
    """
    data = Data.of(data)
    place = {name: index for index, name in enumerate(ids_of(data.test.dataset))}
    shown = [result for result in results if set(result.ids) <= set(place)]
    if not shown:
        return nothing_to_show(NO_RESULTS if not results else "these pictures are not here")
    if all(result.hits.all() for result in shown):
        return nothing_to_show("no test picture was mistaken", data.note)
    figure, axes = new_axes(
        len(shown), 2 * count, width=2 * count, height=1.27 * len(shown), note=data.note
    )
    examples = labels_of(data.train.dataset)
    for row, result in zip(axes, shown, strict=True):
        for axis in row:
            bare(axis)
        row[0].set_ylabel(wrapped(result.title), fontsize=7)
        for left, right, (_, _, mistakes) in zip(
            row[::2], row[1::2], confused_pairs(result, count), strict=False
        ):
            label, guess = int(result.labels[mistakes[0]]), int(result.predictions[mistakes[0]])
            times = int(((result.labels == label) & (result.predictions == guess)).sum())
            mistaken = picture_of(data.test.dataset, place[result.ids[mistakes[0]]])
            example = picture_of(data.train.dataset, int((examples == guess).nonzero()[0]))
            for axis, picture in ((left, mistaken), (right, example)):
                axis.imshow(as_array(as_shown(square(picture), data.normalization)))
            left.set_title(shortened(data.class_names[label], 18), fontsize=7)
            said = f"confused with, {times} x" if times > 1 else "confused with"
            right.set_title(f"{said}\n{shortened(data.class_names[guess], 18)}", fontsize=7)
    return figure


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
    _name_classes(axes[0, 0], [data.class_names[label] for label in ranks.tolist()])
    axes[0, 0].legend(frameon=False)
    return figure


def _name_classes(axis: Axes, names: Sequence[str]) -> None:
    """Write the names of classes below an axis that has one at 0, 1, ..., if they are few."""
    if len(names) <= MOST_NAMES:
        short = [shortened(name, 24) for name in names]
        axis.set_xticks(range(len(names)), short, rotation=25, ha="right", fontsize=8)


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
    axis.legend(frameon=False, loc="lower right")
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
    axes[0, 0].set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes[0, 0].legend(frameon=False)
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
        _logarithmic(axis)
    else:
        axis.set(xlabel="fraction of the run", ylabel="val accuracy", ylim=(0, 1))
    axis.legend(frameon=False, fontsize=8)
    return figure


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
    axes[0, 0].set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, top))
    axes[0, 1].set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    axes[0, 1].legend(frameon=False, fontsize=8)
    return figure


def plot_accuracy_against_count(
    accuracy: Mapping[int, float] | Mapping[str, Mapping[int, float]], *, note: str = ""
) -> Figure:
    """Accuracy against the number of training pictures a class, of one method or of several.

    Several are told apart by their names; the counts are then spaced by their logarithms.
    """
    several = isinstance(next(iter(accuracy.values())), Mapping)
    curves: Any = accuracy if several else {"": accuracy}
    figure, axes = new_axes(width=5, height=2.8, note=note)
    axis = axes[0, 0]
    for (name, curve), color, marker in zip(curves.items(), COLORS, MARKERS, strict=False):
        axis.plot(list(curve), list(curve.values()), f"{marker}-", color=color, label=name)
        for count, value in curve.items() if not several else ():
            axis.annotate(f"{value:.0%}", (count, value), xytext=(0, 7), ha="center",
                          textcoords="offset points", fontsize=8)  # fmt: skip
    axis.set(xlabel="training pictures a class", ylabel="val accuracy", ylim=(0, 1.15))
    if several:
        axis.set_xscale("log")
        axis.legend(frameon=False, fontsize=8)
    counts = sorted({count for curve in curves.values() for count in curve})
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    return figure


# Results


def plot_results(
    results: Sequence[Result], *, x: str | Mapping[str, Sequence[float]] | None = None
) -> Figure:
    """Test accuracy of each result, with its 95 % interval: as bars, or against what it cost.

    Args:
        results: from `load_results`.
        x: a number of the records, such as "training_seconds"; or numbers of your own, in the order
            of `results`, under the name of their axis, a panel each. None: bars.
    """
    if not results:
        return nothing_to_show(NO_RESULTS)
    if x is None:
        return _plot_bars(results)
    if isinstance(x, str):
        x = {AXES.get(x, x): [float(result.record[x]) for result in results]}
    width = 6 if len(x) == 1 else 3.4 * len(x)
    figure, axes = new_axes(1, len(x), width=width, height=3.4, note=note_of(results))
    for axis, (name, values) in zip(axes[0], x.items(), strict=True):
        for result, value, color, marker in zip(results, values, COLORS, MARKERS, strict=False):
            accuracy, error = _accuracy_and_error(result)
            axis.errorbar(value, accuracy, yerr=error, fmt=marker, color=color, capsize=3,
                          label=result.title)  # fmt: skip
        axis.set(ylim=(0, 1), xlabel=name)
        _logarithmic(axis)
    axes[0, 0].set(ylabel="test accuracy")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _plot_bars(results: Sequence[Result]) -> Figure:
    figure, axes = new_axes(width=7, height=0.9 + 0.5 * len(results), note=note_of(results))
    axis = axes[0, 0]
    for place, result in enumerate(results):
        accuracy, error = _accuracy_and_error(result)
        color = COLORS[place % len(COLORS)]
        axis.barh(place, accuracy, color=color, xerr=error, capsize=4, height=0.6)
        axis.text(accuracy + error[1][0] + 0.015, place, f"{accuracy:.1%}", va="center", fontsize=9)
    axis.set_yticks(range(len(results)), [result.title for result in results])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.12), xlabel="test accuracy, with 95 % interval")
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    return figure


def _accuracy_and_error(result: Result) -> tuple[float, list[list[float]]]:
    test = result.record["test"]
    accuracy, (low, high) = test["accuracy"], test["interval"]
    return accuracy, [[accuracy - low], [high - accuracy]]


def _logarithmic(axis: Axes) -> None:
    """Let the x axis be logarithmic, with plain numbers: 20, 500, 2k."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    def text(value: float, _: object) -> str:
        return f"{value:g}" if value < 1000 else str(EngFormatter(sep="")(value))

    axis.set(xscale="log")
    axis.margins(x=0.15)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(text)
    axis.xaxis.set_minor_locator(NullLocator())


def plot_class_accuracy(results: Sequence[Result]) -> Figure:
    """Accuracy of each class under each method, the classes in the order of their mean.

    Results about other classes than those of the first are left out.
    """
    if not results:
        return nothing_to_show(NO_RESULTS)
    shown = [one for one in results if one.class_names == results[0].class_names]
    accuracy = torch.stack([class_accuracy(result) for result in shown])
    ranks = accuracy.nanmean(dim=0).argsort()
    figure, axes = new_axes(width=8, height=3, note=note_of(shown))
    for row, result, color, marker in zip(accuracy, shown, COLORS, MARKERS, strict=False):
        axes[0, 0].plot(row[ranks], marker, color=color, ms=4, label=result.title)
    axes[0, 0].set(xlabel="classes, hardest first", ylabel="accuracy on test", ylim=(-0.03, 1.03))
    _name_classes(axes[0, 0], [results[0].class_names[label] for label in ranks.tolist()])
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure
