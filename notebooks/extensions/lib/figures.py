"""Figures that only the extensions use. Each function returns a Figure: put the call on the last
line of a cell to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from helpers.networks import grad_cam
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from torch import nn

from helpers.data import Data
from helpers.lib.devices import device_of
from helpers.lib.figures import BLUE, COLORS, GREY, MARKERS, VERMILLION, as_array, new_axes
from helpers.lib.modes import in_eval_mode
from helpers.pictures import denormalize
from helpers.results import Result
from lib.fault_lab import WITH, WITHOUT, Finding


def plot_costs(results: Sequence[Result], costs: Mapping[str, Sequence[float]]) -> Figure:
    """Test accuracy of each result, with its 95 % interval, against costs of several kinds.

    Args:
        results: of `load_results`.
        costs: under the name of its axis, the numbers of a panel, in the order of `results`.
    """
    note = results[0].record["data"]["note"]
    figure, axes = new_axes(1, len(costs), width=10, height=3.4, note=note)
    for axis, (name, values) in zip(axes[0], costs.items(), strict=True):
        axis.sharey(axes[0, 0])
        for result, value, color, marker in zip(results, values, COLORS, MARKERS, strict=False):
            accuracy, (low, high) = (result.record["test"][key] for key in ("accuracy", "interval"))
            axis.errorbar(
                value, accuracy, yerr=[[accuracy - low], [high - accuracy]],
                fmt=marker, color=color, capsize=3, label=result.title,
            )  # fmt: skip
        axis.set(xscale="log", xlabel=name)
        axis.margins(x=0.15)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 500k, 2M
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set(ylabel="test accuracy")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def plot_accuracy_against_count(
    curves: Mapping[str, Mapping[int, float]], *, note: str = ""
) -> Figure:
    """Val accuracy against the number of training pictures a class, by method.

    Args:
        curves: under the name of a method, the accuracy (0 ... 1) for each count of pictures.
        note: stands below the figure.
    """
    figure, axes = new_axes(width=5, height=2.8, note=note)
    axis = axes[0, 0]
    for (name, curve), color, marker in zip(curves.items(), COLORS, MARKERS, strict=False):
        axis.plot(list(curve), list(curve.values()), f"{marker}-", color=color, label=name)
    axis.set(xlabel="training pictures a class", ylabel="val accuracy", ylim=(0, 1.15))
    axis.set_xscale("log")
    counts = sorted({count for curve in curves.values() for count in curve})
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8)
    return figure


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
            axis.imshow(heats[rank][place].numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
            guess = data.class_names[int(likeliest[place, rank])]
            axis.set_title(f"{guess}? {chances[place, rank]:.0%}", fontsize=8)
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
    figure, axes = new_axes(width=6, height=2.6, note=note)
    for label, curve, color, style in (
        (WITHOUT, without, BLUE, "o-"),
        (WITH, with_fault, VERMILLION, "s--"),
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
