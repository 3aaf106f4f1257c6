"""Figures of data, of training and of results, in the notebooks and in the report. Each function
returns a Figure: put the call on the last line of a cell to see it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Real

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, LogFormatter, LogLocator, NullLocator
from torch.optim.lr_scheduler import LRScheduler

from .data import IMAGENET, Data, Normalization, class_counts, denormalize, eval_transform
from .fault_lab import Finding
from .kit.figures import (
    BLUE,
    COLORS,
    GREY,
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
from .results import Result, class_accuracy, confused_pairs
from .training import Score, TrainingRun

MOST_NAMES = 15  # classes whose names fit below a figure


def imshow(
    images: torch.Tensor,
    titles: Sequence[str] | str | None = None,
    *,
    columns: int = 6,
    note: str = "",
    normalization: Normalization = IMAGENET,
) -> Figure:
    """One picture or several, side by side, each below its title.

    `images` are (3, height, width) or (pictures, 3, height, width), uint8, or floats as the loaders
    give them, whose `normalization` is undone.
    """
    if images.dtype != torch.uint8:
        images = denormalize(images, normalization)
    images = images[None] if images.dim() == 3 else images
    titles = [titles] if isinstance(titles, str) else titles
    return picture_grid(list(images), titles or [""] * len(images), columns=columns, note=note)


def show_samples(data: Data, *, count: int = 18, columns: int = 6) -> Figure:
    """Training pictures, as decoded, with the names of their classes; several of each if few."""
    samples = data.train.dataset
    step = max(1, data.num_classes // count)
    labels = range(0, data.num_classes, step)[:count]
    fewest = int(class_counts(data, "train").min())
    each = max(1, min(columns, fewest, count // data.num_classes))
    columns -= columns % each  # so that those of a class are side by side
    chosen = [
        index
        for label in labels
        for index in (samples.labels == label).nonzero().flatten()[:each].tolist()
    ]
    titles = [data.class_names[samples.labels[index]] for index in chosen]
    square = eval_transform(samples.store.short_side)
    pictures = [small(square(samples.picture(index))) for index in chosen]
    return picture_grid(pictures, titles, columns=columns, note=data.note)


def show_augmentation(data: Data, index: int, *, count: int = 5, seed: int = 0) -> Figure:
    """One training picture as it is, and `count` ways in which training may see it."""
    samples = data.train.dataset
    images, labels = samples.__getitems__([(index, seed + draw) for draw in range(count)])
    name = data.class_names[labels[0]]
    pictures = [small(samples.picture(index)), *denormalize(images, data.normalization)]
    titles = [name, *(f"epoch {epoch}" for epoch in range(1, count + 1))]
    return picture_grid(pictures, titles, columns=count + 1, note=data.note)


def plot_class_balance(data: Data) -> Figure:
    """Number of pictures of each class, split by split; most test pictures first."""
    figure, axes = new_axes(width=8, height=2.8, note=data.note)
    order = class_counts(data, "test").argsort(descending=True, stable=True)
    edges = np.arange(data.num_classes + 1) - 0.5
    styles = ({"lw": 5, "alpha": 0.4}, {"ls": "--"}, {})  # told apart where they coincide
    for split, color, style in zip(data.dataloaders, COLORS, styles, strict=False):
        counts = class_counts(data, split)[order].numpy()
        axes[0, 0].stairs(counts, edges, baseline=None, color=color, label=split, **style)
    axes[0, 0].set(xlabel="classes, most test pictures first", ylabel="pictures", ylim=(0, None))
    _name_classes(axes[0, 0], [data.class_names[label] for label in order.tolist()])
    axes[0, 0].legend(frameon=False)
    return figure


def _name_classes(axis: Axes, names: Sequence[str]) -> None:
    """Write the names of classes below an axis that has one at 0, 1, ..., if they are few."""
    if len(names) <= MOST_NAMES:
        short = [shortened(name, 24) for name in names]
        axis.set_xticks(range(len(names)), short, rotation=25, ha="right", fontsize=8)


def plot_picture_sizes(sizes: Sequence[tuple[int, int]], size: int, *, note: str = "") -> Figure:
    """Width and height of every picture in pixels, and the square of `size` that a network sees."""
    figure, axes = new_axes(width=4.4, height=3.8, note=note)
    widths, heights = np.array(sizes).T
    axis = axes[0, 0]
    axis.scatter(widths, heights, s=8, alpha=0.3, color=BLUE, linewidths=0, label="pictures")
    axis.add_patch(
        Rectangle((0, 0), size, size, fill=False, color=VERMILLION, label="what the network sees")
    )
    axis.set(xlabel="width (pixels)", ylabel="height (pixels)", aspect="equal")
    axis.set(xlim=(0, widths.max() * 1.1), ylim=(0, heights.max() * 1.1))
    axis.legend(frameon=False, loc="lower right")
    return figure


def learning_rates(scheduler: LRScheduler, steps: int) -> np.ndarray:
    """The learning rates that a schedule will give, (steps, groups); nothing is changed."""
    optimizer = scheduler.optimizer
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    state, rates = scheduler.state_dict(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants optimizer.step() first; no step is taken here
        for step in range(steps):
            rates.append([group["lr"] for group in optimizer.param_groups])
            if step < steps - 1:
                scheduler.step()
    scheduler.load_state_dict(state)
    for group, before in zip(optimizer.param_groups, groups, strict=True):
        group.update(before)
    return np.array(rates)


def plot_schedule(
    scheduler: LRScheduler, *, num_epochs: int, batches: int, names: Sequence[str] = ("all layers",)
) -> Figure:
    """The learning rate of each parameter group over a run, before it starts."""
    rates = learning_rates(scheduler, num_epochs * batches)
    figure, axes = new_axes(width=6, height=2.6)
    epochs = np.arange(len(rates)) / batches
    for column, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        axes[0, 0].plot(epochs, rates[:, column], color=color, label=name)
    axes[0, 0].set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes[0, 0].legend(frameon=False)
    return figure


def plot_history(runs: TrainingRun | Mapping[str, TrainingRun], *, note: str = "") -> Figure:
    """Loss and accuracy over the epochs, train dashed and val solid, of one run or of several."""
    runs = {"": runs} if isinstance(runs, TrainingRun) else runs
    figure, axes = new_axes(1, 2, width=9, height=3, note=note)
    for (name, run), color in zip(runs.items(), COLORS, strict=False):
        epochs = [row["epoch"] for row in run.history]
        for axis, key in zip(axes[0], ("loss", "accuracy"), strict=True):
            for split, style in (("train", "--"), ("val", "-")):
                values = [row[f"{split}_{key}"] for row in run.history]
                axis.plot(epochs, values, style, color=color, label=f"{name} {split}".strip())
        axes[0, 1].plot(run.best_epoch, run.best_val_accuracy, "o", color=color)
    # A loss that shoots up for an epoch would hide all others: cut at thrice the first one.
    top = 3 * max(run.first_loss for run in runs.values())
    axes[0, 0].set(
        xlabel="epoch", ylabel="loss (nats)", ylim=(0, min(axes[0, 0].get_ylim()[1], top))
    )
    axes[0, 1].set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    axes[0, 1].legend(frameon=False, fontsize=8)
    return figure


def show_predictions(score: Score, data: Data, *, count: int = 12, columns: int = 6) -> Figure:
    """Test pictures spread over the split with the class that a model says; orange is wrong."""
    chosen = torch.linspace(0, score.total - 1, min(count, score.total)).long().tolist()
    titles, colors = [], []
    for index in chosen:
        guess, label = int(score.predictions[index]), int(score.labels[index])
        titles.append(data.class_names[guess])
        if guess != label:
            titles[-1] += f"\n(not {data.class_names[label]})"
        colors.append("black" if guess == label else VERMILLION)
    pictures = [small(data.test.dataset.picture(index)) for index in chosen]
    return picture_grid(pictures, titles, columns=columns, colors=colors, note=data.note)


def plot_accuracy_against_count(
    accuracy: Mapping[int, float] | Mapping[str, Mapping[int, float]], *, note: str = ""
) -> Figure:
    """Accuracy against the number of training pictures a class, of one method or of several.

    Several are told apart by their names; the counts are then spaced by their logarithms.
    """
    several = isinstance(next(iter(accuracy.values())), Mapping)
    curves = accuracy if several else {"": accuracy}
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


def plot_accuracy_over_time(runs: Mapping[str, TrainingRun], *, note: str = "") -> Figure:
    """The best val accuracy so far of each run, over the seconds it had trained by then.

    The seconds are those of training and loading, and of features, which come before any epoch.
    """
    figure, axes = new_axes(width=6, height=3.2, note=note)
    for (name, run), color, marker in zip(runs.items(), COLORS, MARKERS, strict=False):
        epochs = [row["training_seconds"] + row["loading_seconds"] for row in run.history]
        seconds = run.seconds["features"] + np.cumsum(epochs)
        best = np.maximum.accumulate([row["val_accuracy"] for row in run.history])
        axes[0, 0].plot(seconds, best, marker=marker, ms=3, color=color, label=name)
    axes[0, 0].set(ylabel="best val accuracy so far", ylim=(0, 1))
    _in_seconds(axes[0, 0])
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _in_seconds(axis: Axes) -> None:
    """Let the x axis be seconds of training, logarithmic, with plain numbers."""
    axis.set(xscale="log", xlabel="seconds of training")
    axis.margins(x=0.15)
    for which in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        which(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))


def plot_with_and_without(
    with_fault: Mapping[float, float],
    without: Mapping[float, float],
    *,
    xlabel: str,
    ylabel: str,
    note: str = "",
) -> Figure:
    """What a fault of an experiment did to a curve: the values by x with it and without it."""
    figure, axes = new_axes(width=6, height=2.6, note=note)
    for label, curve, color, style in (
        ("without it", without, BLUE, "o-"),
        ("with the fault", with_fault, VERMILLION, "s--"),
    ):
        axes[0, 0].plot(
            list(curve), list(curve.values()), style, ms=4, color=color, label=label, clip_on=False
        )
    axes[0, 0].set(xlabel=xlabel, ylabel=ylabel)
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def plot_faults(findings: Mapping[str, Finding], *, columns: int = 3, note: str = "") -> Figure:
    """The wall of a `FaultLab`: a panel for each fault, with its number both ways.

    Each panel has a scale of its own, from zero on; a number that is a text has no bar.
    """
    rows = -(-len(findings) // columns)
    figure, axes = new_axes(rows, columns, width=3.1 * columns, height=1.15 * rows + 0.2, note=note)
    for axis in axes.flat:
        axis.axis("off")
    for axis, one in zip(axes.flat, findings.values(), strict=False):
        lengths = [abs(value) if isinstance(value, Real) else 0.0 for value in one.values]
        longest = max(lengths) or 1.0
        axis.text(0, -0.75, one.quantity, fontsize=7.5, color="#555555", va="center")
        for place, (length, text, color) in enumerate(
            zip(lengths, one.texts, (VERMILLION, BLUE), strict=True)
        ):
            axis.barh(place, length / longest, height=0.75, color=color)
            axis.text(length / longest + 0.03, place, text, fontsize=8, va="center")
        axis.set(xlim=(0, 1.6), ylim=(1.8, -1.2))
        axis.set_title(one.title, fontsize=9, loc="left", fontweight="bold")
    handles = [Patch(fc=VERMILLION, label="with the fault"), Patch(fc=BLUE, label="without it")]
    figure.legend(handles=handles, loc="outside upper right", frameon=False, ncols=2, fontsize=8)
    return figure


def plot_claims(
    values: Sequence[float],
    claims: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    note: str = "",
) -> Figure:
    """Results of several runs as dots, and below them what is claimed of them.

    A claim is a value and how far the runs may be from it, either way: it is drawn as a bar.
    """
    figure, axes = new_axes(width=6, height=1.2 + 0.4 * len(claims), note=note)
    axis, names = axes[0, 0], [f"{len(values)} runs", *claims]
    axis.plot(values, [0] * len(values), "o", color=GREY, alpha=0.6, clip_on=False)
    for place, (value, margin) in enumerate(claims.values(), start=1):
        color = COLORS[place % 2]  # the first claim red, the second blue, as elsewhere
        axis.plot([value - margin, value + margin], [place] * 2, lw=6, color=color, alpha=0.4)
        axis.plot(value, place, "|", ms=14, mew=2, color=color)
    axis.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    axis.set_yticks(range(len(names)), names)
    return figure


def _needs_results(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a figure of results say so when there is none."""

    @functools.wraps(plot)
    def with_or_without(results: Sequence[Result] | Result | None, *args, **options) -> Figure:
        if not results:
            return nothing_to_show("no results yet: run notebooks 02 to 05 first")
        return plot(results, *args, **options)

    return with_or_without


def _note_of(results: Sequence[Result]) -> str:
    return results[0].record["data"]["note"] if results else ""


@_needs_results
def plot_comparison(results: Sequence[Result]) -> Figure:
    """Test accuracy of each method, with its 95 % interval."""
    figure, axes = new_axes(width=7, height=0.9 + 0.5 * len(results), note=_note_of(results))
    axis = axes[0, 0]
    for place, (result, color) in enumerate(zip(results, COLORS, strict=False)):
        accuracy, (low, high) = result.record["test"]["accuracy"], result.record["test"]["interval"]
        error = [[accuracy - low], [high - accuracy]]
        axis.barh(place, accuracy, color=color, xerr=error, capsize=4, height=0.6)
        axis.text(high + 0.015, place, f"{accuracy:.1%}", va="center", fontsize=9)
    axis.set_yticks(range(len(results)), [result.title for result in results])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.12), xlabel="test accuracy, with 95 % interval")
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    return figure


@_needs_results
def plot_accuracy_against_time(results: Sequence[Result]) -> Figure:
    """Test accuracy of each method against the seconds that its training took."""
    figure, axes = new_axes(width=6, height=3.4, note=_note_of(results))
    axis = axes[0, 0]
    for result, color, marker in zip(results, COLORS, MARKERS, strict=False):
        record = result.record
        accuracy, (low, high) = record["test"]["accuracy"], record["test"]["interval"]
        error = [[accuracy - low], [high - accuracy]]
        axis.errorbar(record["training_seconds"], accuracy, yerr=error, fmt=marker, color=color,
                      capsize=3, label=result.title)  # fmt: skip
    axis.set(ylim=(0, 1), ylabel="test accuracy")
    _in_seconds(axis)
    axis.legend(frameon=False, fontsize=8)
    return figure


@_needs_results
def plot_accuracy_against_costs(
    results: Sequence[Result], costs: Mapping[str, Sequence[float]]
) -> Figure:
    """Test accuracy of each result, with its 95 % interval, against costs of several kinds.

    `costs` has a panel's numbers under the name of its axis, in the order of `results`.
    """
    figure, axes = new_axes(1, len(costs), width=10, height=3.4, note=_note_of(results))
    for axis in axes[0, 1:]:
        axis.sharey(axes[0, 0])
    for axis, (name, values) in zip(axes[0], costs.items(), strict=True):
        for result, value, color, marker in zip(results, values, COLORS, MARKERS, strict=False):
            test = result.record["test"]
            accuracy, (low, high) = test["accuracy"], test["interval"]
            error = [[accuracy - low], [high - accuracy]]
            axis.errorbar(value, accuracy, yerr=error, fmt=marker, color=color, capsize=3,
                          label=result.title)  # fmt: skip
        axis.set(xscale="log", xlabel=name)
        axis.margins(x=0.15)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 500k, 2M
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set(ylabel="test accuracy")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4,
                  frameon=False, fontsize=8)  # fmt: skip
    return figure


@_needs_results
def plot_val_curves(results: Sequence[Result]) -> Figure:
    """Val accuracy of each method after each epoch, over the part of its run that has passed."""
    figure, axes = new_axes(width=6, height=3.2, note=_note_of(results))
    for result, color in zip(results, COLORS, strict=False):
        history = result.record["history"]
        passed = [row["epoch"] / len(history) for row in history]
        label = f"{result.title} ({len(history)} epochs)"
        axes[0, 0].plot(passed, [row["val_accuracy"] for row in history], color=color, label=label)
    axes[0, 0].set(xlabel="part of the run", ylabel="val accuracy", ylim=(0, 1))
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


@_needs_results
def plot_class_accuracy(results: Sequence[Result]) -> Figure:
    """Accuracy of each class under each method, the classes in order of their mean."""
    accuracy = torch.stack([class_accuracy(result) for result in results])
    order = accuracy.nanmean(dim=0).argsort()
    figure, axes = new_axes(width=8, height=3, note=_note_of(results))
    for row, result, color, marker in zip(accuracy, results, COLORS, MARKERS, strict=False):
        axes[0, 0].plot(row[order], marker, color=color, ms=4, label=result.title)
    axes[0, 0].set(xlabel="classes, hardest first", ylabel="accuracy on test", ylim=(-0.03, 1.03))
    _name_classes(axes[0, 0], [results[0].class_names.get(label, "") for label in order.tolist()])
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


@_needs_results
def show_confused(results: Sequence[Result], data: Data, *, count: int = 2) -> Figure:
    """The pairs of classes that each method mixes up most, as pictures: a row for each method.

    Of each of its `count` pairs, a test picture that it mistook, and beside it a training picture
    of the class that it took it for.
    """
    if all(result.hits.all() for result in results):
        return nothing_to_show("no test picture was mistaken", data.note)
    place = {name: index for index, name in enumerate(data.test.dataset.ids)}
    square = eval_transform(data.test.dataset.store.short_side)
    figure, axes = new_axes(
        len(results), 2 * count, width=2 * count, height=1.27 * len(results), note=data.note
    )
    for row, result in zip(axes, results, strict=True):
        for axis in row:
            bare(axis)
        row[0].set_ylabel(wrapped(result.title), fontsize=7)
        for left, right, (_, _, mistakes) in zip(
            row[::2], row[1::2], confused_pairs(result, count), strict=False
        ):
            label, guess = int(result.labels[mistakes[0]]), int(result.predictions[mistakes[0]])
            times = int(((result.labels == label) & (result.predictions == guess)).sum())
            mistaken = data.test.dataset.picture(place[result.ids[mistakes[0]]])
            left.imshow(as_array(small(square(mistaken))))
            left.set_title(shortened(data.class_names[label], 18), fontsize=7)
            right.imshow(as_array(small(square(_example(data, guess)))))
            said = f"taken for, {times} x" if times > 1 else "taken for"
            right.set_title(f"{said}\n{shortened(data.class_names[guess], 18)}", fontsize=7)
    return figure


def _example(data: Data, label: int) -> torch.Tensor:
    """The first training picture of a class."""
    return data.train.dataset.picture(int((data.train.dataset.labels == label).nonzero()[0]))
