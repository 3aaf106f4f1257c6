"""Trained networks, read back from their results: what each says of a picture, and where it looks.

They come from `network.pt2`, which holds a network's graph and weights: its class is not needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.transforms import v2 as transforms

from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.datasets import ids_of, paths_of
from helpers.lib.exported import load_exported
from helpers.lib.figures import (
    BLUE,
    VERMILLION,
    as_array,
    bare,
    new_axes,
    nothing_to_show,
    shortened,
    wrapped,
)
from helpers.lib.files import sha256
from helpers.lib.folders import show_path
from helpers.lib.modes import in_eval_mode
from helpers.lib.pictures import read_picture
from helpers.models import check_layer
from helpers.pictures import Normalization, normalize, short_side
from helpers.recipes import plain_types
from helpers.results import Result, Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_NETWORK = "no trained network: run notebooks 02 to 05 first"


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """The network of a result, with the weights that were tested."""

    result: Result
    network: nn.Module  # from images to logits, and maps if a layer of it has some

    @property
    def title(self) -> str:
        return self.result.title

    @property
    def cam_layer(self) -> str:
        """The layer whose maps say where it looks, "" for none."""
        return str(self.result.record.get("cam_layer") or "no layer")

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the pictures that it takes."""
        return tuple(self.result.record["input_shape"][-2:])

    def fits(self, data: Data) -> bool:
        """Whether it was tested on these pictures, in their size and normalisation."""
        record, known = self.result.record, data.normalization
        return bool(
            record["data"]["fingerprint"] == data.fingerprint
            and record["input_shape"] == [3, data.size, data.size]
            and record["data"]["normalization"] == (known and plain_types(known._asdict()))
        )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network says of one picture."""

    picture: torch.Tensor  # (3, height, width) uint8: what the network sees of it
    probabilities: torch.Tensor  # (classes,) float32
    heat: torch.Tensor | None  # (height, width) in 0 ... 1: what speaks for the likeliest class


def load_trained(workspace: Workspace, results: Sequence[Result]) -> list[TrainedNetwork]:
    """The trained networks of some results; prints which cannot be had, and why.

    Args:
        workspace: from `start()`.
        results: from `load_results`.
    """
    networks = []
    for result in results:
        try:
            networks.append(load_network(result))
        except KitError as error:
            print(f"left out: {result.title}, because {error}")
    return networks


def load_network(result: Result) -> TrainedNetwork:
    """The network of one result; raises `KitError` when its file is missing or another."""
    path, again = result.folder / "network.pt2", "run its notebook again"
    if fault := result.record.get("network_fault"):
        raise KitError(f"torch.export could not write it ({fault})")
    if not path.is_file():
        raise KitError(f"{show_path(path)} is missing: {again}")
    if result.record["files"].get("network.pt2") != sha256(path):
        raise KitError(f"{show_path(path)} was changed after it was recorded: {again}")
    if len(result.record["input_shape"]) != 3:
        raise KitError("it takes no pictures")
    return TrainedNetwork(result, load_exported(path))


def predict(trained: TrainedNetwork, path: Path) -> Prediction:
    """What a network says of a picture file, and where it finds what speaks for that.

    The picture is scaled and cut as `load_data` does it for val and test, to the size that the
    network was trained on. Raises `KitError` when the file cannot be read.
    """
    record, sides = trained.result.record, trained.sides
    picture = read_picture(path, short_side(max(sides)))
    picture = transforms.functional.center_crop(picture, list(sides))
    seen = picture
    if record["input_shape"][0] == 1:
        seen = transforms.functional.rgb_to_grayscale(picture)
    if known := record["data"]["normalization"]:
        images = normalize(seen, Normalization(tuple(known["mean"]), tuple(known["std"])))
    else:
        images = transforms.functional.to_dtype(seen, torch.float32, scale=True)
    with torch.enable_grad():
        # The example has to need a gradient: otherwise nothing of a frozen network has one.
        outputs = trained.network(images[None].requires_grad_())
    if not isinstance(outputs, tuple):
        return Prediction(picture, outputs[0].detach().softmax(dim=0), None)
    logits, maps = outputs
    (gradient,) = torch.autograd.grad(logits[0].max(), maps)
    heat = heat_of(maps.detach(), gradient, sides)[0]
    return Prediction(picture, logits[0].detach().softmax(dim=0), heat)


def heat_of(maps: torch.Tensor, gradient: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
    """Grad-CAM (pictures, *sides) in 0 ... 1 from maps and the gradient of a logit."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = F.relu((weights * maps).sum(dim=1, keepdim=True)).float()
    heat = F.interpolate(heat, sides, mode="bilinear")[:, 0]
    return (heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).cpu()


def grad_cam(
    model: nn.Module, layer: nn.Module, images: torch.Tensor, classes: torch.Tensor | None = None
) -> torch.Tensor:
    """Where in each picture a layer finds what speaks for a class (Selvaraju et al., 2016).

    A channel counts as much as the logit of the class would rise with it, on average over the
    positions; the weighted channels are summed, and what speaks against the class is cut off.

    Args:
        model: the network; it and its gradients are left as they were.
        layer: of it, with maps as output; it may be frozen.
        images: (pictures, 3, height, width), as the loaders give them.
        classes: (pictures,) int64: the class in question; by default what the model says.

    Returns:
        (pictures, height, width) in 0 ... 1.
    """
    check_layer(model, layer)
    caught: list[torch.Tensor] = []

    def start_here(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        maps = output.detach().requires_grad_()  # the way back ends here, at a frozen layer, too
        caught.append(maps)
        return maps.clone()  # what follows may write into it in place

    hook = layer.register_forward_hook(start_here)
    try:
        with torch.enable_grad(), in_eval_mode(model):
            logits = model(images.to(next(model.parameters()).device))
            if len(caught) != 1 or caught[0].dim() != 4:
                raise KitError(
                    "Grad-CAM needs a layer that runs once and gives maps (pictures, channels, "
                    "height, width), such as the last convolution"
                )
            chosen = logits.argmax(dim=1) if classes is None else classes.to(logits.device)
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), caught)
    finally:
        hook.remove()
    height, width = images.shape[-2:]
    return heat_of(caught[0].detach(), gradient, (height, width))


def compare_grad_cam(
    networks: Sequence[TrainedNetwork], data: Data | dict[str, DataLoader], *, count: int = 3
) -> Figure:
    """Where each trained network looks on the same test pictures, by Grad-CAM for what it says.

    The pictures go from one that the fewest networks got right to one that the most did. What a
    network says is above its map, with a cross and in another colour where it is wrong. Networks
    that were tested on other pictures are left out.
    """
    data = Data.of(data)
    dataset = data.test.dataset
    path_of = dict(zip(ids_of(dataset), paths_of(dataset), strict=False))
    shown = [one for one in networks if set(one.result.ids) <= set(path_of)]
    if not shown:
        return nothing_to_show(NO_NETWORK if not networks else "their pictures are not here")
    first = shown[0].result
    right = torch.stack([one.result.hits for one in shown]).sum(dim=0)
    ranks = right.argsort(stable=True)
    chosen = ranks[torch.linspace(0, len(ranks) - 1, min(count, len(ranks))).long()].tolist()
    columns = len(shown) + 1
    figure, axes = new_axes(
        len(chosen), columns, width=1.12 * columns, height=1.38 * len(chosen) + 0.4, note=data.note
    )
    for row, index in zip(axes, chosen, strict=True):
        label = int(first.labels[index])
        predictions = [predict(one, path_of[first.ids[index]]) for one in shown]
        largest = max((one.picture for one in predictions), key=lambda picture: picture.shape[-1])
        bare(row[0]).imshow(as_array(largest))
        row[0].set_title(shortened(data.class_names[label], 20), fontsize=7)
        for axis, prediction in zip(row[1:], predictions, strict=True):
            bare(axis).imshow(as_array(prediction.picture))
            if prediction.heat is not None:
                lay_over(axis, prediction.heat)
            guess = int(prediction.probabilities.argmax())
            said = f"{shortened(data.class_names[guess], 15)} {prediction.probabilities[guess]:.0%}"
            axis.set_title(
                said if guess == label else f"\N{BALLOT X} {said}",
                fontsize=7,
                color="black" if guess == label else VERMILLION,
            )
    for axis, one in zip(axes[-1, 1:], shown, strict=True):
        axis.set_xlabel(wrapped(one.title), fontsize=7)
    return figure


def lay_over(axis: Axes, heat: torch.Tensor) -> None:
    """Draw a heat map (height, width) over the picture of that size that is there."""
    axis.imshow(heat.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)


def classify_photo(
    networks: Sequence[TrainedNetwork], photo: str | Path, data: Data | dict[str, DataLoader]
) -> Figure:
    """What each trained network says of a picture file: what it sees of it, where it looks, and
    its top five classes.

    Args:
        networks: from `load_trained`.
        photo: a picture file, relative to the notebook; "" takes a test picture, and says which.
        data: whose test picture that is.

    Raises:
        KitError: when the file cannot be read.
    """
    data = Data.of(data)
    if not networks:
        return nothing_to_show(NO_NETWORK, data.note)
    if photo:
        path = Path(photo).expanduser()
        count = len(networks[0].result.class_names)
        print(f"{path.name}: whatever it shows, the answer is one of {count} classes")
    else:
        paths = paths_of(data.test.dataset)
        if not paths:
            raise KitError("name a photo: the test pictures of these data are no files")
        path = paths[len(paths) // 2]
        _, label = data.test.dataset[len(paths) // 2]
        print(f"no photo named, so a test picture: {data.class_names[label]} ({path.name})")
    figure, axes = new_axes(
        len(networks), 3, width=6, height=1.17 * len(networks) + 0.2, note=data.note,
        widths=(1, 1, 2),
    )  # fmt: skip
    for (seen, looked, said), one in zip(axes, networks, strict=True):
        prediction = predict(one, path)
        bare(seen).imshow(as_array(prediction.picture))
        seen.set_ylabel(wrapped(one.title), fontsize=7)
        bare(looked).imshow(as_array(prediction.picture))
        if prediction.heat is not None:
            lay_over(looked, prediction.heat)
        names = one.result.class_names
        chances, classes = prediction.probabilities.topk(min(5, len(names)))
        places = range(len(chances))
        bare(said).barh(places, chances.numpy(), color=BLUE, height=0.6)
        said.set_yticks(places, [shortened(names[label], 24) for label in classes], fontsize=7)
        said.tick_params(length=0)
        said.set(xlim=(0, 1.2), ylim=(4.6, -0.6))  # the likeliest above, room for five
        for place, chance in zip(places, chances.tolist(), strict=True):
            said.text(chance + 0.02, place, f"{chance:.1%}", va="center", fontsize=7)
    titles = ("what it sees", "where it looks", "what it says")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    return figure
