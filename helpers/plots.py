"""Every figure of the notebooks and of the report. Each function returns a Figure: put the call on
the last line of a cell to see it."""

from __future__ import annotations

import functools
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, LogFormatter, LogLocator, NullLocator
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from .data import IMAGENET, Data, Normalization, class_counts, denormalize, eval_transform
from .grad_cam import grad_cam
from .kit.figures import SmallFigure
from .models import check_layer, count_parameters, in_eval_mode, is_frozen
from .results import Result, class_accuracy, confused_pairs
from .training import Score, TrainingRun

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
BLUE, RED, GREEN, PURPLE, SKY, ORANGE, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A8A8A",
)  # fmt: skip
COLORS = (BLUE, RED, GREEN, PURPLE, SKY, ORANGE, "black")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 100
MOST_NAMES = 15  # classes whose names fit below a figure


def _axes(rows: int = 1, columns: int = 1, *, width: float, height: float, note: str = ""):
    """A figure of its own and its axes; `note` stands below it, small."""
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, height),
        dpi=DPI,
        squeeze=False,
        layout="constrained",
        FigureClass=SmallFigure,
    )
    # Closed, it is shown once, by the notebook, and not a second time by pyplot.
    plt.close(figure)
    if note:
        figure.supxlabel(note, fontsize=8, color="#555555", ha="right", x=0.99)
    return figure, axes


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
    return _grid(list(images), titles or [""] * len(images), columns=columns, note=note)


def _grid(
    pictures: Sequence[torch.Tensor],
    titles: Sequence[str],
    *,
    columns: int,
    note: str = "",
    colors: Sequence[str] | None = None,
) -> Figure:
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    lines = max(title.count("\n") + 1 if title else 0 for title in map(_wrap, titles))
    figure, axes = _axes(
        rows, columns, width=1.55 * columns, height=(1.5 + 0.17 * lines) * rows + 0.2, note=note
    )
    colors = colors or ["black"] * len(pictures)
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title, color in zip(axes.flat, pictures, titles, colors, strict=False):
        axis.imshow(_as_array(picture))
        axis.set_title(_wrap(title), fontsize=8, color=color, parse_math=False)
    return figure


def _wrap(title: str) -> str:
    return "\n".join(textwrap.fill(line, 19) for line in title.split("\n"))


def _as_array(picture: torch.Tensor) -> np.ndarray:
    """(height, width, 3) for matplotlib."""
    return picture.permute(1, 2, 0).cpu().numpy()


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
    pictures = [_small(square(samples.picture(index))) for index in chosen]
    return _grid(pictures, titles, columns=columns, note=data.note)


def _small(picture: torch.Tensor, side: int = 110) -> torch.Tensor:
    """A picture no larger than a grid shows it, which keeps notebooks small."""
    if min(picture.shape[-2:]) <= side:
        return picture
    shape = [round(length * side / min(picture.shape[-2:])) for length in picture.shape[-2:]]
    scaled = nn.functional.interpolate(
        picture[None].float(), shape, mode="bilinear", antialias=True
    )
    return scaled[0].clamp(0, 255).to(torch.uint8)


def show_augmentation(data: Data, index: int, *, count: int = 5, seed: int = 0) -> Figure:
    """One training picture as it is, and `count` ways in which training may see it."""
    samples = data.train.dataset
    images, labels = samples.__getitems__([(index, seed + draw) for draw in range(count)])
    name = data.class_names[labels[0]]
    pictures = [_small(samples.picture(index)), *denormalize(images, data.normalization)]
    titles = [name, *(f"epoch {epoch}" for epoch in range(1, count + 1))]
    return _grid(pictures, titles, columns=count + 1, note=data.note)


def plot_class_balance(data: Data) -> Figure:
    """Number of pictures of each class, split by split; most test pictures first."""
    figure, axes = _axes(width=8, height=2.8, note=data.note)
    order = class_counts(data, "test").argsort(descending=True, stable=True)
    edges = np.arange(data.num_classes + 1) - 0.5
    styles = ({"lw": 5, "alpha": 0.4}, {"ls": "--"}, {})  # told apart where they coincide
    for split, color, style in zip(data.dataloaders, COLORS, styles, strict=False):
        counts = class_counts(data, split)[order].numpy()
        axes[0, 0].stairs(counts, edges, baseline=None, color=color, label=split, **style)
    axes[0, 0].set(xlabel="classes, most test pictures first", ylabel="pictures", ylim=(0, None))
    if data.num_classes <= MOST_NAMES:
        names = [_short(data.class_names[label]) for label in order.tolist()]
        axes[0, 0].set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=8,
                              parse_math=False)  # fmt: skip
    axes[0, 0].legend(frameon=False)
    return figure


def _short(name: str, most: int = 24) -> str:
    """A name that fits below an axis."""
    return name if len(name) <= most else name[: most - 1] + "…"


def plot_picture_sizes(sizes: Sequence[tuple[int, int]], size: int, *, note: str = "") -> Figure:
    """Width and height of every picture in pixels, and the square of `size` that a network sees."""
    figure, axes = _axes(width=4.4, height=3.8, note=note)
    widths, heights = np.array(sizes).T
    axis = axes[0, 0]
    axis.scatter(widths, heights, s=8, alpha=0.3, color=BLUE, linewidths=0, label="pictures")
    axis.add_patch(
        Rectangle((0, 0), size, size, fill=False, color=RED, label="what the network sees")
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
    figure, axes = _axes(width=6, height=2.6)
    epochs = np.arange(len(rates)) / batches
    for column, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        axes[0, 0].plot(epochs, rates[:, column], color=color, label=name)
    axes[0, 0].set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes[0, 0].legend(frameon=False)
    return figure


def plot_history(runs: TrainingRun | Mapping[str, TrainingRun], *, note: str = "") -> Figure:
    """Loss and accuracy over the epochs, train dashed and val solid, of one run or of several."""
    runs = {"": runs} if isinstance(runs, TrainingRun) else runs
    figure, axes = _axes(1, 2, width=9, height=3, note=note)
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
    figure, axes = _axes(1, 2, width=9, height=2.8, note=note)
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


def plot_filters(layer: nn.Conv2d, *, columns: int = 16, note: str = "") -> Figure:
    """The filters of a first convolution as colour pictures, each stretched to its own range."""
    filters = layer.weight.detach().cpu()
    low, high = filters.amin(dim=(1, 2, 3), keepdim=True), filters.amax(dim=(1, 2, 3), keepdim=True)
    filters = ((filters - low) / (high - low).clamp(min=1e-8)).permute(0, 2, 3, 1).numpy()
    rows = -(-len(filters) // columns)
    figure, axes = _axes(rows, columns, width=0.55 * columns, height=0.55 * rows + 0.2, note=note)
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
    figure, axes = _axes(len(layers), count + 1, width=width, height=height, note=note)
    for row, (name, maps) in zip(axes, caught.items(), strict=True):
        strongest = maps.mean(dim=(1, 2)).argsort(descending=True)[:count]
        row[0].imshow(_as_array(denormalize(image)))
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
    figure, axes = _axes(
        len(images), count + 1, width=1.9 * (count + 1), height=2.1 * len(images), note=data.note
    )
    for row, image, label, shown in zip(axes, images, labels, range(len(images)), strict=True):
        for axis in row:
            axis.imshow(_as_array(denormalize(image, data.normalization)))
            axis.axis("off")
        row[0].set_title(data.class_names[int(label)], fontsize=8)
        for axis, heat, chance, guess in zip(
            row[1:], heats, chances[shown], likeliest[shown], strict=True
        ):
            axis.imshow(heat[shown].numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
            axis.set_title(f"{data.class_names[int(guess)]}? {chance:.0%}", fontsize=8)
    return figure


def draw_network(model: nn.Module) -> Figure:
    """A network as a row of blocks, in the order of its parts: frozen ones grey, trained coloured.

    The height of a block grows with the logarithm of its number of parameters, written below it.
    """
    parts = [
        (name, part) for name, part in model.named_children() if count_parameters(part)["total"]
    ]
    figure, axes = _axes(width=9, height=2.6)
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
    figure, axes = _axes(width=6, height=2.5, note=note)
    axes[0, 0].bar(list(moved), list(moved.values()), color=BLUE)
    axes[0, 0].set(ylabel="relative change")
    return figure


def show_predictions(score: Score, data: Data, *, count: int = 12, columns: int = 6) -> Figure:
    """Test pictures spread over the split with the class that a model says; wrong ones in red."""
    chosen = torch.linspace(0, score.total - 1, min(count, score.total)).long().tolist()
    titles, colors = [], []
    for index in chosen:
        guess, label = int(score.predictions[index]), int(score.labels[index])
        titles.append(data.class_names[guess])
        if guess != label:
            titles[-1] += f"\n(not {data.class_names[label]})"
        colors.append("black" if guess == label else RED)
    pictures = [_small(data.test.dataset.picture(index)) for index in chosen]
    return _grid(pictures, titles, columns=columns, colors=colors, note=data.note)


def plot_accuracy_against_count(
    accuracy: Mapping[int, float] | Mapping[str, Mapping[int, float]], *, note: str = ""
) -> Figure:
    """Accuracy against the number of training pictures a class, of one method or of several.

    Several are told apart by their names; the counts are then spaced by their logarithms.
    """
    several = isinstance(next(iter(accuracy.values())), Mapping)
    curves = accuracy if several else {"": accuracy}
    figure, axes = _axes(width=5, height=2.8, note=note)
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
    figure, axes = _axes(width=6, height=3.2, note=note)
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


def _nothing(text: str, note: str = "") -> Figure:
    """A figure that says why there is nothing to see."""
    figure, axes = _axes(width=5, height=0.8, note=note)
    axes[0, 0].axis("off")
    axes[0, 0].text(0.5, 0.5, text, ha="center", va="center")
    return figure


def _needs_results(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a figure of results say so when there is none."""

    @functools.wraps(plot)
    def with_or_without(results: Sequence[Result] | Result | None, *args, **options) -> Figure:
        if not results:
            return _nothing("no results yet: run notebooks 02 to 05 first")
        return plot(results, *args, **options)

    return with_or_without


def _note_of(results: Sequence[Result]) -> str:
    return results[0].record["data"]["note"] if results else ""


@_needs_results
def plot_comparison(results: Sequence[Result]) -> Figure:
    """Test accuracy of each method, with its 95 % interval."""
    figure, axes = _axes(width=7, height=0.9 + 0.5 * len(results), note=_note_of(results))
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
    figure, axes = _axes(width=6, height=3.4, note=_note_of(results))
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
    figure, axes = _axes(1, len(costs), width=10, height=3.4, note=_note_of(results))
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
    figure, axes = _axes(width=6, height=3.2, note=_note_of(results))
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
    figure, axes = _axes(width=8, height=3, note=_note_of(results))
    for row, result, color, marker in zip(accuracy, results, COLORS, MARKERS, strict=False):
        axes[0, 0].plot(row[order], marker, color=color, ms=4, label=result.title)
    axes[0, 0].set(xlabel="classes, hardest first", ylabel="accuracy on test", ylim=(-0.03, 1.03))
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


@_needs_results
def show_confused(result: Result, data: Data, *, count: int = 4) -> Figure:
    """The pairs of classes that a method mixes up most: two mistaken pictures of each pair."""
    place = {name: index for index, name in enumerate(data.test.dataset.ids)}
    pictures, titles = [], []
    for _, _, mistakes in confused_pairs(result, count):
        for index in mistakes[:2]:
            label, guess = int(result.labels[index]), int(result.predictions[index])
            pictures.append(_small(data.test.dataset.picture(place[result.ids[index]])))
            titles.append(f"{data.class_names[label]}\ntaken for\n{data.class_names[guess]}")
    if not pictures:
        return _nothing("no test picture was mistaken", data.note)
    return _grid(pictures, titles, columns=4, note=data.note)
