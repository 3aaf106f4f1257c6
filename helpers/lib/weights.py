"""Pretrained weights: fetched once, checked, loaded safely, and named truthfully."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.models import ConvNeXt_Tiny_Weights, ResNet18_Weights

from helpers.errors import KitError
from helpers.lib.fetch import fetch
from helpers.lib.files import sha256
from helpers.lib.folders import MINI_FOLDER, weights_dir
from helpers.lib.packing import unpack


@dataclass(frozen=True)
class WeightFile:
    """A published file of weights; its name ends in the first digits of its SHA-256."""

    url: str
    sha256_prefix: str
    megabytes: int

    @property
    def path(self) -> Path:
        """Where torch keeps it: hub/checkpoints below `TORCH_HOME`."""
        return weights_dir() / self.url.rpartition("/")[2]

    def is_published(self) -> bool:
        """Whether the file in that place is the published one, by its hash."""
        return self.path.is_file() and sha256(self.path).startswith(self.sha256_prefix)


IMAGENET = {  # what the assignment needs
    "resnet18": WeightFile(ResNet18_Weights.IMAGENET1K_V1.url, "f37072fd", 45),
    "efficientnet_b5": WeightFile(
        "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
        "efficientnet-b5-b6417697.pth",
        "b6417697",
        117,
    ),
}
FOR_EXTENSIONS = {  # fetched when one of them asks
    "convnext_tiny": WeightFile(ConvNeXt_Tiny_Weights.IMAGENET1K_V1.url, "983f1562", 109),
}


@dataclass(frozen=True)
class DrawnWeights:
    """A bundled file of weights, pretrained on the source species of the drawn flowers."""

    name: str
    sha256: str
    accuracy: float  # on held-out pictures of the source species, by the script that trained it

    @property
    def path(self) -> Path:
        """Where the kit keeps it."""
        return MINI_FOLDER / "weights" / self.name


# Each line is printed by data/mini/train_weights.py when it has trained, packed and measured.
DRAWN = {
    "resnet18": DrawnWeights(
        "resnet18.npz",
        "8fe8f517dba3fd351a3276f997f1781f9d9d224d18303a8cfa0799af2927bc92",
        0.9861,
    ),
    "efficientnet_b5": DrawnWeights(
        "efficientnet_b5.npz",
        "855c5178b60b0095fb25540340629ba8da91215c420cf792574c672cb857a421",
        0.9736,
    ),
}
HEADS = {  # how each network calls its last layer
    "resnet18": "fc",
    "efficientnet_b5": "_fc",
    "convnext_tiny": "classifier.2",
}


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from, and what they are."""

    state: dict[str, torch.Tensor]  # for `load_state_dict`
    num_classes: int  # outputs of the head that they belong to
    kind: str  # in short, such as "ImageNet"
    source: str  # in full


def pretrained_weights(name: str, origin: str) -> Pretrained:
    """The weights of a pretrained network, fetched if need be; prints what they are.

    Args:
        name: "resnet18", "efficientnet_b5" or "convnext_tiny".
        origin: "imagenet" (torchvision's IMAGENET1K_V1, or those of efficientnet_pytorch), or
            "drawn" (the mini profile's, from 72 drawn species that are not in its data set; there
            are none for "convnext_tiny").

    Returns:
        A state dict, with the number of outputs that its network has, and its origin for a record.

    Raises:
        KitError: when they cannot be had.
    """
    if name not in HEADS:
        raise KitError(f"no weights of {name!r}: there are those of {', '.join(HEADS)}")
    if origin == "drawn":
        file = find_drawn(name)
        state, kind = unpack(file.path), "drawn flowers"
        classes = len(state[f"{HEADS[name]}.bias"])
        source = (
            f"drawn flowers, {classes} species other than these ({file.accuracy:.1%} "
            f"right on held-out drawings), {file.name}"
        )
    elif origin == "imagenet":
        state, kind, source = _imagenet(name)
    else:
        raise KitError(f"unknown weights {origin!r}: use 'imagenet' or 'drawn'")
    print(f"weights of {name}: {source}")
    return Pretrained(state, len(state[f"{HEADS[name]}.bias"]), kind, source)


def find_drawn(name: str) -> DrawnWeights:
    """The bundled weights of a network; raises `KitError` when they are missing or damaged."""
    if name not in DRAWN:
        raise KitError(f"no drawn weights of {name!r}: there are those of {', '.join(DRAWN)}")
    file = DRAWN[name]
    if not file.path.is_file() or sha256(file.path) != file.sha256:
        raise KitError(
            f"{file.path} is missing or damaged: restore it with "
            "`git checkout -- data/mini/weights`, or clone the kit again"
        )
    return file


def _imagenet(name: str) -> tuple[dict[str, torch.Tensor], str, str]:
    """ImageNet weights, fetched if need be; what they are, in short and in full."""
    file = published_file(name)
    if not file.path.exists():
        fetch_weights(name)
    try:
        state = read_state(file.path, HEADS[name])
    except KitError as damage:
        if file.is_published():
            raise
        print(f"{file.path.name} cannot be used: fetching it again")
        try:
            fetch_weights(name)
        except KitError as error:
            raise KitError(f"{damage}; {error}") from None
        state = read_state(file.path, HEADS[name])
    if file.is_published():
        return state, "ImageNet", f"ImageNet, {file.path.name}"
    return (
        state,
        "ImageNet, another file",
        (
            f"ImageNet, but {file.path.name} is NOT the published file (SHA-256 "
            f"{sha256(file.path)[:8]}..., not {file.sha256_prefix}...): say so with any result"
        ),
    )


def published_file(name: str) -> WeightFile:
    """The published file with the ImageNet weights of a network."""
    return IMAGENET[name] if name in IMAGENET else FOR_EXTENSIONS[name]


def fetch_weights(name: str) -> None:
    """Download the ImageNet weights of a network unless the published file is there."""
    file = published_file(name)
    if not file.is_published():
        what = f"weights of {name}, {file.megabytes} MB"
        fetch(file.url, file.path, sha256_prefix=file.sha256_prefix, what=what)


def read_state(path: Path, head: str) -> dict[str, torch.Tensor]:
    """A state dict with a layer `head`, executing nothing; raises `KitError` when it is none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise TypeError("it holds more than tensors")
        if f"{head}.bias" not in state:
            raise KeyError(f"it has no layer {head}")
    except pickle.UnpicklingError:
        raise KitError(f"{path} holds more than weights and was not loaded: delete it") from None
    except Exception as error:  # a damaged file can fail in dozens of ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KitError(
            f"{path} is damaged or of another network: delete it ({reason:.300})"
        ) from None
    return dict(state)
