"""Figures that only the extensions use. Each function returns a Figure: put the call on the last
line of a cell to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import nn

from helpers.data import Data
from helpers.lib.devices import device_of
from helpers.lib.figures import BLUE, COLORS, GREY, VERMILLION, as_array, new_axes
from helpers.lib.modes import in_eval_mode
from helpers.networks import grad_cam, lay_over
from helpers.pictures import denormalize
from helpers.training import TrainingRun
from lib.fault_lab import WITH, WITHOUT, Finding


def show_grad_cam(
    model: nn.Module,
    layer: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    data: Data,
    *,
    count: int = 2,
) -> Figure:
    """Grad-CAM: what in each picture speaks for the classes that a model finds likeliest.

    Args:
        model: any network of pictures.
        layer: one of its layers that gives maps.
        images: (pictures, 3, height, width), as the loaders of `data` give them.
        labels: (pictures,) their classes.
        data: whose pictures they are.
        count: classes of each picture.
    """
    with torch.no_grad(), in_eval_mode(model):
        logits = model(images.to(device_of(model))).float().cpu()
    chances, likeliest = logits.softmax(dim=1).topk(count, dim=1)
    heats = [grad_cam(model, layer, images, likeliest[:, rank]) for rank in range(count)]
    figure, axes = new_axes(
        len(images), count + 1, width=1.9 * (count + 1), height=2.1 * len(images), note=data.note
    )
    for place, row in enumerate(axes):
        for axis in row:
            axis.imshow(as_array(denormalize(images[place], data.normalization)))
            axis.axis("off")
        row[0].set_title(data.class_names[int(labels[place])], fontsize=8)
        for rank, axis in enumerate(row[1:]):
            lay_over(axis, heats[rank][place])
            guess = data.class_names[int(likeliest[place, rank])]
            axis.set_title(f"{guess}? {chances[place, rank]:.0%}", fontsize=8)
    return figure


def plot_runs(runs: Mapping[str, TrainingRun], *, note: str = "") -> Figure:
    """The curves of up to seven runs: loss above, accuracy below, train left, val right."""
    figure, axes = new_axes(2, 2, width=9, height=5, note=note)
    for row, key in zip(axes, ("loss", "accuracy"), strict=True):
        for axis, split in zip(row, ("train", "val"), strict=True):
            for (name, run), color in zip(runs.items(), COLORS, strict=False):
                epochs = [line["epoch"] for line in run.history]
                values = [line[f"{split}_{key}"] for line in run.history]
                axis.plot(epochs, values, color=color, label=name)
            axis.set(xlabel="epoch", ylabel=f"{split} {key}")
            axis.xaxis.get_major_locator().set_params(integer=True)
        row[1].sharey(row[0])
    top = 2 * max(run.first_loss for run in runs.values())  # an epoch's jump would hide the others
    axes[0, 0].set_ylim(0, min(axes[0, 0].get_ylim()[1], top))
    axes[1, 0].set_ylim(0, 1)
    for axis in axes[1]:
        axis.yaxis.set_major_formatter("{x:.0%}")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def plot_seeds(
    values: Mapping[float, Sequence[float]], *, xlabel: str, ylabel: str, note: str = ""
) -> Figure:
    """Accuracies of several seeds by x: a thin line for each seed, a thick one for their mean."""
    figure, axes = new_axes(width=6.6, height=2.8, note=note)
    axis, places = axes[0, 0], list(values)
    for number, of_seed in enumerate(zip(*values.values(), strict=True)):
        label = "one seed" if number == 0 else None
        axis.plot(places, of_seed, "o-", ms=4, lw=0.8, color=GREY, label=label)
    means = [sum(of_seeds) / len(of_seeds) for of_seeds in values.values()]
    axis.plot(places, means, "s-", color=BLUE, lw=2, label="mean")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_xticks(places)
    axis.yaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def plot_with_and_without(
    with_fault: Mapping[float, float],
    without: Mapping[float, float],
    *,
    xlabel: str,
    ylabel: str,
    note: str = "",
) -> Figure:
    """What a fault of an experiment did to a curve: the values by x with it and without it."""
    figure, axes = new_axes(width=6, height=2.8, note=note)
    axis = axes[0, 0]
    for label, curve, color, style in (
        (WITHOUT, without, BLUE, "o-"),
        (WITH, with_fault, VERMILLION, "s--"),
    ):
        axis.plot(
            list(curve), list(curve.values()), style, ms=4, color=color, label=label, clip_on=False
        )
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper right", frameon=False, ncols=2, fontsize=8)
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
        lengths = [abs(float(value)) if isinstance(value, Real) else 0.0 for value in one.values]
        longest = max(lengths) or 1.0
        axis.text(0, -0.75, one.quantity, fontsize=7.5, color="#555555", va="center")
        for place, color in enumerate((VERMILLION, BLUE)):
            length = lengths[place] / longest
            axis.barh(place, length, height=0.75, color=color)
            axis.text(length + 0.03, place, one.texts[place], fontsize=8, va="center")
        axis.set(xlim=(0, 1.6), ylim=(1.8, -1.2))
        axis.set_title(one.title, fontsize=9, loc="left", fontweight="bold")
    handles = [Patch(fc=VERMILLION, label=WITH), Patch(fc=BLUE, label=WITHOUT)]
    figure.legend(handles=handles, loc="outside upper right", frameon=False, ncols=2, fontsize=8)
    return figure


def plot_claims(
    values: Sequence[float],
    claims: Mapping[str, tuple[float, float]],
    *,
    name: str,
    xlabel: str,
    note: str = "",
) -> Figure:
    """Results of several runs as dots under their `name`, and below them what is claimed of such.

    A claim is a value and how far the runs may be from it, either way: it is drawn as a bar.
    """
    figure, axes = new_axes(width=6, height=1.2 + 0.4 * len(claims), note=note)
    axis, names = axes[0, 0], [name, *claims]
    axis.plot(values, [0] * len(values), "o", color=GREY, alpha=0.6, clip_on=False)
    colors = [VERMILLION, *[GREY] * (len(claims) - 2), BLUE]
    for place, ((value, margin), color) in enumerate(zip(claims.values(), colors, strict=True), 1):
        axis.plot([value - margin, value + margin], [place] * 2, lw=6, color=color, alpha=0.4)
        axis.plot(value, place, "|", ms=14, mew=2, color=color)
    axis.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    axis.set_yticks(range(len(names)), names)
    return figure
