"""Figures of networks: what is in one, what it does to a picture, and where it looks. Each function
returns a Figure: put the call on the last line of a cell to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import nn

from .activations import LayerInputs
from .data import Data, denormalize
from .grad_cam import grad_cam
from .kit.figures import (
    BLUE,
    COLORS,
    MARKERS,
    VERMILLION,
    as_array,
    bare,
    new_axes,
    nothing_to_show,
    shortened,
    wrapped,
)
from .models import check_layer, count_parameters, in_eval_mode, is_frozen
from .trained import Answer, TrainedNetwork, ask
from .vectors import neighbours_alike, principal_components


@torch.no_grad()
def plot_batchnorm(
    model: nn.Module, images: torch.Tensor, *, channels: int = 5, note: str = ""
) -> Figure:
    """What the first BatchNorm layer does: some channels of a batch before it and after it."""
    layer = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
    caught: list[torch.Tensor] = []
    hook = layer.register_forward_hook(
        # cloned, because the ReLU that follows works in place
        lambda _, inputs, output: caught.extend([inputs[0].clone(), output.clone()])
    )
    with in_eval_mode(model):
        layer.train()  # so that it uses this batch's own mean and deviation
        momentum, layer.momentum = layer.momentum, 0.0  # and leaves the running ones alone
        counted = layer.num_batches_tracked.clone()
        model(images)
        layer.momentum = momentum
        layer.num_batches_tracked.copy_(counted)
    hook.remove()
    figure, axes = new_axes(1, 2, width=9, height=2.8, note=note)
    order = caught[0].std(dim=(0, 2, 3)).argsort()
    shown = order[torch.linspace(0, len(order) - 1, channels).long()]
    titles = ("before BatchNorm", "after BatchNorm, before ReLU")
    for axis, values, title in zip(axes[0], caught, titles, strict=True):
        for channel, color in zip(shown, COLORS, strict=False):
            axis.hist(
                values[:, channel].flatten().float().cpu().numpy(),
                bins=80, density=True, histtype="step", color=color, label=f"channel {channel}",
            )  # fmt: skip
        axis.set(title=title, xlabel="activation", ylabel="density", yscale="log")
    axes[0, 0].sharex(axes[0, 1])  # one scale, so that widths can be compared
    axes[0, 1].legend(frameon=False, fontsize=8)
    return figure


def plot_activations(
    watched: Mapping[str, LayerInputs], *, batches: int, channels: int = 3, note: str = ""
) -> Figure:
    """What reached a layer while its network learned: a panel for each of several runs.

    Some channels of a run, from a narrow to a wide one: the line is a channel's mean at each
    step, the band reaches one deviation to either side. `batches` is the steps of an epoch.
    """
    figure, axes = new_axes(1, len(watched), width=4.5 * len(watched), height=3, note=note)
    for axis in axes[0, 1:]:
        axis.sharey(axes[0, 0])  # one scale, so that widths can be compared
    for axis, (name, seen) in zip(axes[0], watched.items(), strict=True):
        means, deviations = seen.means, seen.deviations
        order = deviations.mean(dim=0).argsort()
        shown = order[torch.linspace(0, len(order) - 1, channels + 2).long()[1:-1]]
        epochs = np.arange(1, len(means) + 1) / batches
        for channel, color in zip(shown.tolist(), COLORS, strict=False):
            mean, deviation = means[:, channel].numpy(), deviations[:, channel].numpy()
            axis.plot(epochs, mean, color=color, lw=1.2, label=f"channel {channel}")
            axis.fill_between(
                epochs, mean - deviation, mean + deviation, color=color, alpha=0.18, lw=0
            )
        axis.axhline(0, color="black", lw=0.6, ls=":")
        axis.set(title=name, xlabel="epoch")
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    axes[0, 0].set(ylabel="what reaches ReLU")
    return figure


def plot_filters(layer: nn.Conv2d, *, columns: int = 16, note: str = "") -> Figure:
    """The filters of a first convolution as colour pictures, each stretched to its own range."""
    filters = layer.weight.detach().cpu()
    low, high = filters.amin(dim=(1, 2, 3), keepdim=True), filters.amax(dim=(1, 2, 3), keepdim=True)
    filters = ((filters - low) / (high - low).clamp(min=1e-8)).permute(0, 2, 3, 1).numpy()
    rows = -(-len(filters) // columns)
    figure, axes = new_axes(
        rows, columns, width=0.55 * columns, height=0.55 * rows + 0.2, note=note
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture in zip(axes.flat, filters, strict=False):
        axis.imshow(picture)
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
    """What some layers make of one picture (3, size, size): their most active channels."""
    caught: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda _layer, _inputs, output: caught.update({name: output[0].float().cpu()})

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


@torch.no_grad()
def show_grad_cam(
    model: nn.Module,
    layer: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    data: Data,
    *,
    count: int = 2,
) -> Figure:
    """Grad-CAM: what in each picture speaks for the `count` classes that the model finds likeliest.

    `images` and `labels` are of a batch of `data`; `layer` is the one that is asked.
    """
    with in_eval_mode(model):
        logits = model(images.to(next(model.parameters()).device)).float().cpu()
    chances, likeliest = logits.softmax(dim=1).topk(count, dim=1)
    heats = [grad_cam(model, layer, images, likeliest[:, rank]) for rank in range(count)]
    figure, axes = new_axes(
        len(images), count + 1, width=1.9 * (count + 1), height=2.1 * len(images), note=data.note
    )
    for row, image, label, shown in zip(axes, images, labels, range(len(images)), strict=True):
        for axis in row:
            axis.imshow(as_array(denormalize(image, data.normalization)))
            axis.axis("off")
        row[0].set_title(data.class_names[int(label)], fontsize=8)
        for axis, heat, chance, guess in zip(
            row[1:], heats, chances[shown], likeliest[shown], strict=True
        ):
            _lay_over(axis, heat[shown])
            axis.set_title(f"{data.class_names[int(guess)]}? {chance:.0%}", fontsize=8)
    return figure


def _lay_over(axis: Axes, heat: torch.Tensor) -> None:
    """Draw a heat map (height, width) over the picture of that size that is there."""
    axis.imshow(heat.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)


def compare_grad_cam(networks: Sequence[TrainedNetwork], data: Data, *, count: int = 3) -> Figure:
    """Where each trained network looks on the same test pictures, by Grad-CAM for what it says.

    The pictures go from one that the fewest networks got right to one that the most did. What a
    network says is above its map, with a cross and in another colour where it is wrong.
    """
    if not networks:
        return nothing_to_show("no trained network: run notebooks 02 to 05 first", data.note)
    first = networks[0].result
    right = torch.stack([network.result.hits for network in networks]).sum(dim=0)
    order = right.argsort(stable=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(count, len(order))).long()].tolist()
    path_of = dict(zip(data.test.dataset.ids, data.test.dataset.paths, strict=True))
    columns = len(networks) + 1
    figure, axes = new_axes(
        len(chosen), columns, width=1.12 * columns, height=1.38 * len(chosen) + 0.4, note=data.note
    )
    for row, index in zip(axes, chosen, strict=True):
        label = int(first.labels[index])
        answers = [ask(network, path_of[first.ids[index]], data) for network in networks]
        largest = max((answer.picture for answer in answers), key=lambda picture: picture.shape[-1])
        bare(row[0]).imshow(as_array(largest))
        row[0].set_title(shortened(data.class_names[label], 20), fontsize=7)
        for axis, answer in zip(row[1:], answers, strict=True):
            _show_heat(axis, answer)
            guess = int(answer.probabilities.argmax())
            said = f"{shortened(data.class_names[guess], 15)} {answer.probabilities[guess]:.0%}"
            axis.set_title(
                said if guess == label else f"\N{BALLOT X} {said}",
                fontsize=7,
                color="black" if guess == label else VERMILLION,
            )
    for axis, network in zip(axes[-1, 1:], networks, strict=True):
        axis.set_xlabel(wrapped(network.title), fontsize=7)
    return figure


def _show_heat(axis: Axes, answer: Answer) -> None:
    """Draw what a network saw, and over it where it looked."""
    bare(axis).imshow(as_array(answer.picture))
    _lay_over(axis, answer.heat)


def classify_photo(networks: Sequence[TrainedNetwork], photo: str | Path, data: Data) -> Figure:
    """What each trained network says of a picture file: what it sees of it, where it looks, and
    its top five classes.

    Without a `photo`, "", a test picture is taken; prints which, or what the networks cannot say.
    Relative paths are those of the notebook. Raises `KitError` when the file cannot be read.
    """
    if not networks:
        return nothing_to_show("no trained network: run notebooks 02 to 05 first", data.note)
    if photo:
        path = Path(photo).expanduser()
        print(f"{path.name}: whatever it shows, the answer is one of {data.num_classes} classes")
    else:
        samples = data.test.dataset
        path, label = samples.paths[len(samples) // 2], samples.labels[len(samples) // 2]
        print(f"no photo named, so a test picture: {data.class_names[label]} ({path.name})")
    figure, axes = new_axes(
        len(networks), 3, width=6, height=1.17 * len(networks) + 0.2, note=data.note,
        widths=(1, 1, 2),
    )  # fmt: skip
    for (seen, looked, said), network in zip(axes, networks, strict=True):
        answer = ask(network, path, data)
        bare(seen).imshow(as_array(answer.picture))
        seen.set_ylabel(wrapped(network.title), fontsize=7)
        _show_heat(looked, answer)
        _draw_top_five(said, answer.probabilities, data.class_names)
    for axis, title in zip(
        axes[0], ("what it sees", "where it looks", "what it says"), strict=True
    ):
        axis.set_title(title, fontsize=8)
    return figure


def _draw_top_five(axis: Axes, probabilities: torch.Tensor, class_names: Sequence[str]) -> None:
    """The five likeliest classes, or all of fewer, as bars with their probabilities."""
    chances, classes = probabilities.topk(min(5, len(class_names)))
    bare(axis).barh(range(len(chances)), chances.numpy(), color=BLUE, height=0.6)
    axis.set_yticks(
        range(len(chances)), [shortened(class_names[one], 24) for one in classes], fontsize=7
    )
    axis.tick_params(length=0)
    axis.set(xlim=(0, 1.2), ylim=(4.6, -0.6))  # the likeliest above, room for five
    for place, chance in enumerate(chances.tolist()):
        axis.text(chance + 0.02, place, f"{chance:.1%}", va="center", fontsize=7)


def draw_network(model: nn.Module) -> Figure:
    """A network as a row of blocks, in the order of its parts: frozen ones grey, trained coloured.

    The height of a block grows with the logarithm of its number of parameters, written below it.
    """
    parts = [
        (name, part) for name, part in model.named_children() if count_parameters(part)["total"]
    ]
    figure, axes = new_axes(width=9, height=2.6)
    axis = axes[0, 0]
    for place, (name, part) in enumerate(parts):
        counts = count_parameters(part)
        frozen = counts["trainable"] == 0
        height = np.log10(counts["total"] + 1) / 8
        axis.add_patch(
            Rectangle(
                (place + 0.1, 0.5 - height / 2), 0.8, height, ec="black",
                fc="#D9D9D9" if frozen else BLUE, hatch="//" if frozen else None,
            )
        )  # fmt: skip
        bn = " (BN)" if any(isinstance(m, nn.BatchNorm2d) for m in part.modules()) else ""
        label = f"{name}{bn}\n{counts['total']:,}"
        axis.text(place + 0.5, -0.05, label, ha="center", va="top", fontsize=8)
        if is_frozen(part):
            axis.text(place + 0.5, 0.97, "eval", ha="center", fontsize=7, color="#555555")
    axis.set(xlim=(0, len(parts)), ylim=(-0.3, 1.25))
    axis.axis("off")
    handles = [Patch(fc=BLUE, ec="black", label="trained"),
               Patch(fc="#D9D9D9", ec="black", hatch="//", label="frozen")]  # fmt: skip
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
    axes[0, 0].set(ylabel="relative change")
    return figure


def plot_features(features: Mapping[str, Data], *, count: int = 7, note: str = "") -> Figure:
    """Features of val in the two dimensions in which they vary most, a panel for each network.

    `features` is what `compute_features` returned, under the name of its network. At most `count`
    classes have a colour and a name. Each title says what part of the variance the two dimensions
    hold, and for what part of the pictures the nearest other one, by all numbers of its vector,
    is of the same class.
    """
    figure, axes = new_axes(1, len(features), width=4.5 * len(features), height=4.2, note=note)
    for axis, (name, data) in zip(axes[0], features.items(), strict=True):
        samples, classes = data.val.dataset, data.num_classes
        named = torch.linspace(0, classes - 1, min(count, classes, len(COLORS))).long()
        places, held = principal_components(samples.vectors)
        others = places[~torch.isin(samples.labels, named)]
        if len(others):
            axis.scatter(*others.T.numpy(), s=7, color="#CCCCCC", label="other classes")
        for label, color, marker in zip(named.tolist(), COLORS, MARKERS, strict=False):
            own = places[samples.labels == label]
            axis.scatter(
                *own.T.numpy(), s=24, color=color, marker=marker, alpha=0.8, linewidths=0,
                label=shortened(data.class_names[label], 22),
            )  # fmt: skip
        alike = neighbours_alike(samples.vectors, samples.labels)
        axis.set_title(
            f"{name}\nthe two axes hold {held:.0%} of the variance\n"
            f"nearest picture of the same class: {alike:.0%}",
            fontsize=9,
        )
        axis.set(xticks=[], yticks=[], xlabel="first axis", ylabel="second axis")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure
