"""Trained networks, read back from their results: what each says of a picture, where it looks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from .data import Data, eval_transform, normalize
from .grad_cam import grad_cam
from .kit.errors import KitError
from .kit.files import sha256
from .kit.folders import show_path
from .kit.pictures import read_picture
from .kit.weights import load_state
from .models import bn_cnn, efficientnet_b5, resnet18
from .results import Result, check_belongs
from .workspace import Workspace

FEWEST_PLACES = 4  # a side: a map with fewer hardly says where
# By method: what builds its network for a number of classes, and the layers that can be asked where
# they look, the last one first, with the pixels from one of their places to the next.
_RESNET18 = (functools.partial(resnet18, pretrained=None), (("layer4", 32), ("layer3", 16)))
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[tuple[str, int], ...]]] = {
    "bn_cnn": (bn_cnn, (("14", 8),)),  # the ReLU of the last block
    "resnet18_finetune": _RESNET18,
    "resnet18_extractor": _RESNET18,
    "efficientnet_b5_finetune": (
        functools.partial(efficientnet_b5, pretrained=None),
        (("_bn1", 32), ("_blocks.26", 16)),
    ),
}


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """The network of a result, with the weights that were tested, in eval mode."""

    result: Result
    model: nn.Module
    size: int  # pixels of a side of the pictures that it was trained on
    asked: str  # the name of the layer that is asked where it looks

    @property
    def title(self) -> str:
        return self.result.title


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a network says of one picture."""

    picture: torch.Tensor  # (3, size, size) uint8: what the network sees of it
    probabilities: torch.Tensor  # (classes,) float32
    heat: torch.Tensor  # (size, size) in 0 ... 1: what speaks for the likeliest class, by Grad-CAM


def load_trained(
    workspace: Workspace, results: Sequence[Result], data: Data
) -> list[TrainedNetwork]:
    """The trained networks of some results; prints which cannot be had, and why."""
    networks = []
    for result in results:
        try:
            networks.append(load_network(workspace, result, data))
        except KitError as error:
            print(f"left out: {result.title}, for {error}")
    return networks


def load_network(workspace: Workspace, result: Result, data: Data) -> TrainedNetwork:
    """The network of one result, on the device of the workspace, with nothing left to train.

    Raises `KitError` when the result is not about `data`, when its weights are missing or are not
    those of its record, and when they do not fit the network that its notebook builds.
    """
    check_belongs(result, workspace, data)
    if result.method not in NETWORKS:
        raise KitError(f"{result.method!r} is none of {', '.join(NETWORKS)}")
    path = workspace.results_dir / result.method / "weights.pt"
    shown, again = show_path(path), "run its notebook again"
    if not path.is_file():
        raise KitError(f"{shown} is missing: {again}")
    if result.record["files"].get("weights.pt") != sha256(path):
        raise KitError(f"{shown} was changed after it was recorded: {again}")
    build, layers = NETWORKS[result.method]
    # Built without numbers, which costs nothing; it says that its weights are random, and they are
    # about to be replaced.
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        model = build(data.num_classes)
    model.to_empty(device="cpu")
    try:
        load_state(model, path)
    except KitError:
        raise KitError(
            f"{shown} is of another network than {build_name(build)}({data.num_classes}) makes: "
            f"{again} as it was handed out"
        ) from None
    weights = result.record["weights"]
    model.weights_kind, model.weights_source = weights["kind"], weights["source"]
    size = result.record["recipe"]["size"]
    asked = next((name for name, pixels in layers if size >= FEWEST_PLACES * pixels), layers[-1][0])
    model.to(workspace.device).eval().requires_grad_(False)
    return TrainedNetwork(result, model, size, asked)


def build_name(build: Callable[[int], nn.Module]) -> str:
    """How notebooks call what builds a network."""
    return getattr(build, "func", build).__name__


def ask(network: TrainedNetwork, path: Path, data: Data) -> Answer:
    """What a network says of a picture file, and where it finds what speaks for that.

    The picture is scaled and cut as `load_data` does it for val and test, to the size that the
    network was trained on. Raises `KitError` when the file cannot be read.
    """
    picture = eval_transform(network.size)(read_picture(path, round(network.size * 8 / 7)))
    images = normalize(picture[None], data.normalization)
    with torch.no_grad():
        logits = network.model(images.to(next(network.model.parameters()).device)).float().cpu()
    heat = grad_cam(network.model, network.model.get_submodule(network.asked), images)
    return Answer(picture, logits[0].softmax(dim=0), heat[0])
