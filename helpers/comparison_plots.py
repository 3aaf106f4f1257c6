"""Figures of results, side by side. Each function returns a Figure: put the call on the last line
of a cell to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader

from helpers.comparison import confused_pairs, note_of
from helpers.data import Data
from helpers.lib.datasets import ids_of, labels_of, picture_of
from helpers.lib.figures import (
    BLUE,
    COLORS,
    MARKERS,
    MOST_NAMES,
    NO_RESULTS,
    as_array,
    bare,
    logarithmic,
    name_classes,
    new_axes,
    nothing_to_show,
    picture_grid,
    shortened,
    wrapped,
)
from helpers.pictures import square
from helpers.plots import as_shown
from helpers.results import Result
from helpers.scores import accuracy_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {"training_seconds": "seconds of training"}
NO_PICTURES = "these pictures are not here"
PERCENT = "{x:.0%}"
Bins = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


# All methods


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
    width = 1.8 + (4.8 if len(x) == 1 else 3.2 * len(x))
    figure, axes = new_axes(1, len(x), width=width, height=3.4, note=note_of(results))
    for axis, (name, values) in zip(axes[0], x.items(), strict=True):
        for place, (result, value) in enumerate(zip(results, values, strict=True)):
            accuracy, error = _accuracy_and_error(result)
            axis.errorbar(
                value, accuracy, yerr=error, capsize=3, label=shortened(result.title, 32),
                fmt=MARKERS[place % len(MARKERS)], color=COLORS[place % len(COLORS)],
            )  # fmt: skip
        axis.set(ylim=(0, 1), xlabel=name)
        axis.yaxis.set_major_formatter(PERCENT)
        logarithmic(axis)
    axes[0, 0].set(ylabel="test accuracy")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _plot_bars(results: Sequence[Result]) -> Figure:
    figure, axes = new_axes(width=7, height=0.9 + 0.5 * len(results), note=note_of(results))
    axis = axes[0, 0]
    for place, result in enumerate(results):
        accuracy, error = _accuracy_and_error(result)
        color = COLORS[place % len(COLORS)]
        axis.barh(place, accuracy, color=color, xerr=error, capsize=4, height=0.6)
        axis.text(accuracy + error[1][0] + 0.015, place, f"{accuracy:.1%}", va="center", fontsize=9)
    axis.set_yticks(range(len(results)), [shortened(result.title, 32) for result in results])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.12), xlabel="test accuracy, with 95 % interval")
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.xaxis.set_major_formatter(PERCENT)
    return figure


def _accuracy_and_error(result: Result) -> tuple[float, list[list[float]]]:
    test = result.record["test"]
    accuracy, (low, high) = test["accuracy"], test["interval"]
    return accuracy, [[accuracy - low], [high - accuracy]]


def show_confused(
    results: Sequence[Result], data: Data | Mapping[str, DataLoader], *, count: int = 2
) -> Figure:
    """The pairs of classes that each method mixes up most, as pictures: a row for each method.

    Of each of its `count` pairs, a test picture that it mistook, and beside it a training picture
    of the class that it confused it with. Results about other pictures are left out.
    """
    data = Data.of(data)
    place = {name: index for index, name in enumerate(ids_of(data.test.dataset))}
    shown = [result for result in results if set(result.ids) <= set(place)]
    if not shown:
        return nothing_to_show(NO_PICTURES if results else NO_RESULTS)
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
            often = "once" if times == 1 else f"{times} times"
            said = f"said {often}:\n{shortened(data.class_names[guess], 18)}"
            right.set_title(said, fontsize=7)
    return figure


# One method


def plot_confusion(matrix: torch.Tensor, class_names: Sequence[str], *, note: str = "") -> Figure:
    """A confusion matrix: with numbers and names if the classes are few.

    Args:
        matrix: (classes, classes) counts: a row a true class, a column a prediction.
        class_names: in the order of its rows.
        note: small print below.
    """
    if not len(matrix):
        return nothing_to_show(NO_RESULTS, note)
    from matplotlib.colors import PowerNorm

    shares = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    few = len(matrix) <= MOST_NAMES
    side = max(3.6, 2.4 + 0.3 * len(matrix)) if few else 5.6
    figure, axes = new_axes(width=side + 1.4, height=side, note=note)
    axis, edges = axes[0, 0], np.arange(len(matrix) + 1) - 0.5
    # With equal steps of colour, a few mistakes among many classes would not be seen.
    mesh = axis.pcolormesh(edges, edges, shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    bar = figure.colorbar(mesh, shrink=0.8, ticks=[0, 0.05, 0.2, 0.5, 1], format=PERCENT)
    bar.set_label("of the test pictures of a class", fontsize=8)
    kind = "" if few else " (number of the class)"
    axis.set(xlabel=f"what the network says{kind}", ylabel=f"what it is{kind}", aspect="equal")
    axis.invert_yaxis()
    if few:
        name_classes(axis, class_names)
        axis.set_yticks(range(len(matrix)), [shortened(name, 24) for name in class_names])
        axis.tick_params(labelsize=8)
        for row, column in matrix.nonzero().tolist():
            color = "white" if shares[row, column] > 0.35 else "black"
            text, place = str(int(matrix[row, column])), {"ha": "center", "va": "center"}
            axis.text(column, row, text, color=color, fontsize=8, **place)
    return figure


def show_confident_mistakes(
    result: Result | None, data: Data | Mapping[str, DataLoader], *, count: int = 6
) -> Figure:
    """The test pictures that a method was surest of and wrong, with what it said and the truth."""
    data = Data.of(data)
    if result is None:
        return nothing_to_show(NO_RESULTS, data.note)
    place = {name: index for index, name in enumerate(ids_of(data.test.dataset))}
    if not set(result.ids) <= set(place):
        return nothing_to_show(NO_PICTURES)
    wrong = (~result.hits).nonzero().flatten()
    if not len(wrong):
        return nothing_to_show("no test picture was mistaken", data.note)
    surest = wrong[result.probabilities[wrong].argsort(descending=True, stable=True)][:count]
    pictures, titles = [], []
    for index in surest.tolist():
        pictures.append(picture_of(data.test.dataset, place[result.ids[index]]))
        said, label = int(result.predictions[index]), int(result.labels[index])
        titles.append(
            f"{result.class_names[said]}: {result.probabilities[index]:.1%}\n"
            f"not {result.class_names[label]}"
        )
    shown = [as_shown(square(picture), data.normalization) for picture in pictures]
    return picture_grid(shown, titles, columns=6, note=data.note)


def plot_calibration(curves: Mapping[str, Bins], *, note: str = "") -> Figure:
    """A reliability diagram: how often a network is right when it is so sure; a panel each.

    Args:
        curves: under their titles, of each bin of confidence: its mean confidence (bins,), its
            accuracy (bins,) and its number of pictures (bins,), which may be 0.
        note: small print below.
    """
    if not curves:
        return nothing_to_show("no network to ask", note)
    figure, axes = new_axes(1, len(curves), width=3.3 * len(curves), height=3.5, note=note)
    for axis, (title, bins) in zip(axes[0], curves.items(), strict=True):
        axis.plot([0, 1], [0, 1], "--", color="grey", lw=1)
        for sure, right, count in zip(*(part.tolist() for part in bins), strict=True):
            if not count:
                continue
            low, high = accuracy_interval(round(right * count), int(count))
            axis.plot([sure, sure], [low, high], color=BLUE, lw=1)
            axis.plot(sure, right, "o", color=BLUE, ms=3 + 9 * (count / bins[2].sum()) ** 0.5)
        axis.set_title(title, fontsize=9)
        axis.set(xlabel="how sure it is", aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.xaxis.set_major_formatter(PERCENT)
        axis.yaxis.set_major_formatter(PERCENT)
    axes[0, 0].set(ylabel="how often it is right")
    return figure
