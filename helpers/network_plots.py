"""Figures of what is in a network and what passes through it. Each returns a Figure: put the call
on the last line of a cell to see it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from helpers.data import Data
from helpers.features import Features
from helpers.lib.figures import BLUE, COLORS, MARKERS, as_array, new_axes, shortened
from helpers.lib.modes import in_eval_mode
from helpers.models import check_layer, count_parameters, is_frozen
from helpers.pictures import denormalize

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@torch.no_grad()
def plot_batchnorm(
    model: nn.Module, images: torch.Tensor, *, channels: int = 3, note: str = ""
) -> Figure:
    """What the first BatchNorm layer does: some channels of a batch before it and after it.

    Args:
        model: a network with BatchNorm; its running statistics stay as they are.
        images: a batch, (batch, 3, height, width).
        channels: how many are shown, from the narrowest to the widest.
        note: small print below.
    """
    layer = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
    caught: list[torch.Tensor] = []
    hook = layer.register_forward_hook(
        # cloned, because the ReLU that follows works in place
        lambda _, inputs, output: caught.extend([inputs[0].clone(), output.clone()])
    )
    before = copy.deepcopy(layer.state_dict())
    with in_eval_mode(model):
        layer.train()  # so that it uses this batch's own mean and standard deviation
        model(images.to(next(model.parameters()).device))
    layer.load_state_dict(before)  # and its running statistics are what they were
    hook.remove()
    figure, axes = new_axes(1, 2, width=9, height=2.8, note=note)
    ranks = caught[0].std(dim=(0, 2, 3)).argsort()
    shown = ranks[torch.linspace(0, len(ranks) - 1, channels).long()]
    titles = ("before BatchNorm", "after BatchNorm")
    for axis, values, title in zip(axes[0], caught, titles, strict=True):
        for channel, color, style in zip(shown, COLORS, ("-", "--", ":"), strict=False):
            axis.hist(
                values[:, channel].flatten().float().cpu().numpy(), bins=60, density=True,
                histtype="step", color=color, ls=style, lw=1.5, label=f"channel {channel}",
            )  # fmt: skip
        axis.set(title=title, xlabel="activation", yscale="log")
    axes[0, 0].set(ylabel="density")
    axes[0, 0].sharex(axes[0, 1])  # one scale, so that widths can be compared
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center", frameon=False, fontsize=8)
    return figure


@torch.no_grad()
def show_feature_maps(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    image: torch.Tensor,
    *,
    count: int = 6,
    note: str = "",
) -> Figure:
    """What some layers make of one picture: their most active channels.

    Args:
        model: the network.
        layers: of it, under the names that stand beside them.
        image: (3, height, width), normalised.
        count: channels of each layer.
        note: small print below.
    """
    caught: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def note_maps(_layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            caught[name] = output[0].float().cpu().clone()  # a ReLU may write into it in place

        return note_maps

    for layer in layers.values():
        check_layer(model, layer)
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    with in_eval_mode(model):
        model(image[None].to(next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    width, height = 1.2 * (count + 1), 1.35 * len(layers) + 0.1
    figure, axes = new_axes(len(layers), count + 1, width=width, height=height, note=note)
    for row, (name, maps) in zip(axes, caught.items(), strict=True):
        strongest = maps.mean(dim=(1, 2)).argsort(descending=True)[:count]
        row[0].imshow(as_array(denormalize(image)))
        row[0].set_title(f"{name}\n{maps.shape[1]} x {maps.shape[2]}", fontsize=8)
        for axis, channel in zip(row[1:], strongest, strict=False):
            axis.imshow(maps[channel].numpy(), cmap="viridis")
    for axis in axes.flat:
        axis.axis("off")
    return figure


def draw_network(model: nn.Module) -> Figure:
    """A network as a row of blocks, in the order of its parts: frozen ones grey, trained coloured.

    The height of a block grows with the logarithm of its number of parameters, written below it.
    """
    from matplotlib.patches import Patch

    styles: dict[str, dict[str, Any]] = {
        "trained": {"fc": BLUE, "ec": "black"},
        "frozen": {"fc": "#D9D9D9", "ec": "black", "hatch": "//"},
    }
    figure, axes = new_axes(width=9, height=2.6)
    axis = axes[0, 0]
    counted = [(name, part, count_parameters(part)) for name, part in model.named_children()]
    parts = [one for one in counted if one[2]["total"]]
    for place, (name, part, counts) in enumerate(parts):
        height = np.log10(counts["total"] + 1) / 8
        style = styles["trained" if counts["trainable"] else "frozen"]
        axis.bar(place + 0.5, height, 0.8, bottom=0.5 - height / 2, **style)
        bn = " (BN)" if any(isinstance(m, nn.BatchNorm2d) for m in part.modules()) else ""
        label = f"{name}{bn}\n{counts['total']:,}"
        axis.text(place + 0.5, -0.05, label, ha="center", va="top", fontsize=8)
        if is_frozen(part):
            axis.text(place + 0.5, 0.97, "eval", ha="center", fontsize=7, color="#555555")
    axis.set(xlim=(0, len(parts)), ylim=(-0.3, 1.25))
    axis.axis("off")
    handles = [Patch(**style, label=name) for name, style in styles.items()]
    axis.legend(handles=handles, frameon=False, ncols=2, loc="upper left", fontsize=8)
    return figure


def plot_layer_changes(
    before: Mapping[str, torch.Tensor],
    model: nn.Module,
    *,
    leave_out: Sequence[str] = (),
    note: str = "",
) -> Figure:
    """How far the parameters of each part of a network moved since the state dict `before`.

    The length of the change over the length of the parameters before, part by part.
    """
    moved = {}
    for name, part in model.named_children():
        pairs = [
            (before[f"{name}.{key}"].float().cpu(), value.detach().float().cpu())
            for key, value in part.named_parameters()
        ]
        if pairs and name not in leave_out:
            change = sum(float((new - old).square().sum()) for old, new in pairs)
            length = sum(float(old.square().sum()) for old, _ in pairs)
            moved[name] = (change / max(length, 1e-12)) ** 0.5
    figure, axes = new_axes(width=6, height=2.5, note=note)
    axes[0, 0].bar(list(moved), list(moved.values()), color=BLUE)
    axes[0, 0].set(ylabel="change, relative to before")
    axes[0, 0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    return figure


def plot_features(features: Mapping[str, Data], *, count: int = 7, note: str = "") -> Figure:
    """Features of val in the two dimensions in which they vary most, a panel for each network.

    Each title says what fraction of the variance the two dimensions hold, and for what fraction of
    the pictures the nearest other one, by all numbers of its vector, is of the same class.

    Args:
        features: what `compute_features` returned, under the name of its network.
        count: classes that have a colour and a name, at most.
        note: small print below.
    """
    figure, axes = new_axes(1, len(features), width=4.5 * len(features), height=4.2, note=note)
    for axis, (name, data) in zip(axes[0], features.items(), strict=True):
        dataset, classes = data.val.dataset, data.num_classes
        assert isinstance(dataset, Features)
        vectors, labels = dataset.tensors
        named = torch.linspace(0, classes - 1, min(count, classes, len(COLORS))).long()
        places, held = principal_components(vectors)
        others = places[~torch.isin(labels, named)]
        if len(others):
            axis.scatter(*others.T.numpy(), s=7, color="#CCCCCC", label="other classes")
        for label, color, marker in zip(named.tolist(), COLORS, MARKERS, strict=False):
            own = places[labels == label]
            axis.scatter(
                *own.T.numpy(), s=24, color=color, marker=marker, alpha=0.8, linewidths=0,
                label=shortened(data.class_names[label], 22),
            )  # fmt: skip
        alike = neighbours_alike(vectors, labels)
        axis.set_title(
            f"{name}\nthe two axes hold {held:.0%} of the variance\n"
            f"nearest picture of the same class: {alike:.0%}",
            fontsize=9,
        )
        axis.set(xticks=[], yticks=[], xlabel="first axis", ylabel="second axis")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def principal_components(vectors: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Places (samples, 2) in which vectors vary most (PCA; Pearson, 1901), and of what fraction.

    Which way an axis points is settled, so that two machines agree.
    """
    centred = (vectors - vectors.mean(dim=0)).double()
    _, scales, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    places = centred @ (axes * largest.sign()).T
    places = torch.nn.functional.pad(places, (0, 2 - places.shape[1]))  # of a single vector
    variances = scales.square()
    held = float(variances[:2].sum() / variances.sum()) if variances.sum() > 0 else 1.0
    return places.float(), held


def neighbours_alike(vectors: torch.Tensor, labels: torch.Tensor) -> float:
    """The fraction of the vectors (samples, width) whose nearest neighbour has the same label."""
    distances = torch.cdist(vectors.float(), vectors.float())
    nearest = distances.fill_diagonal_(float("inf")).argmin(dim=1)
    return float((labels[nearest] == labels).double().mean())
