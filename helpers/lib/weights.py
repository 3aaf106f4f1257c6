"""Pretrained weights: fetched once, checked, loaded safely, and named truthfully."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torchvision.models import ResNet18_Weights

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


IMAGENET = {
    "resnet18": WeightFile(ResNet18_Weights.IMAGENET1K_V1.url, "f37072fd", 45),
    "efficientnet_b5": WeightFile(
        "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
        "efficientnet-b5-b6417697.pth",
        "b6417697",
        117,
    ),
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
CLASSES = {"imagenet": 1000, "drawn": 72, None: 1000}  # that weights of this origin tell apart


def num_pretrained_classes(pretrained: str | None) -> int:
    """How many outputs a network needs for its weights to fit, before it gets a new head."""
    if pretrained not in CLASSES:
        raise KitError(f"unknown weights {pretrained!r}: use 'imagenet', 'drawn' or None")
    return CLASSES[pretrained]


def load_pretrained(model: nn.Module, name: str, pretrained: str | None) -> None:
    """Load the weights that `pretrained` names into `model`, and print what they are.

    `pretrained` is "imagenet", "drawn", or None for random weights. The model gets two attributes
    for the record, `weights_kind` in short and `weights_source` in full.
    """
    kind = source = "random"
    if pretrained == "drawn":
        file = find_drawn(name)
        model.load_state_dict(unpack(file.path))
        kind = "drawn flowers"
        source = (
            f"drawn flowers, {CLASSES['drawn']} species other than these ({file.accuracy:.1%} "
            f"right on held-out drawings), {file.name}"
        )
    elif pretrained == "imagenet":
        kind, source = _load_imagenet(model, name)
    model.weights_kind, model.weights_source = kind, source  # type: ignore[assignment]
    print(f"weights of {name}: {source}")


def find_drawn(name: str) -> DrawnWeights:
    """The bundled weights of a network; raises `KitError` when they are missing or damaged."""
    file = DRAWN[name]
    if not file.path.is_file() or sha256(file.path) != file.sha256:
        raise KitError(
            f"{file.path} is missing or damaged: restore it with "
            "`git checkout -- data/mini/weights`, or clone the kit again"
        )
    return file


def _load_imagenet(model: nn.Module, name: str) -> tuple[str, str]:
    """Load ImageNet weights, fetched if need be; returns what they are, in short and in full."""
    file = IMAGENET[name]
    if not file.path.exists():
        fetch_weights(name)
    try:
        load_state(model, file.path)
    except KitError as damage:
        if file.is_published():
            raise
        print(f"{file.path.name} cannot be used: fetching it again")
        try:
            fetch_weights(name)
        except KitError as error:
            raise KitError(f"{damage}; {error}") from None
        load_state(model, file.path)
    if file.is_published():
        return "ImageNet", f"ImageNet, {file.path.name}"
    return "ImageNet, another file", (
        f"ImageNet, but {file.path.name} is NOT the published file (SHA-256 "
        f"{sha256(file.path)[:8]}..., not {file.sha256_prefix}...): say so with any result"
    )


def fetch_weights(name: str) -> None:
    """Download the ImageNet weights of a network unless the published file is there."""
    file = IMAGENET[name]
    if not file.is_published():
        what = f"weights of {name}, {file.megabytes} MB"
        fetch(file.url, file.path, sha256_prefix=file.sha256_prefix, what=what)


def load_state(model: nn.Module, path: Path) -> None:
    """Load a state dict, executing nothing; raises `KitError` when it cannot be or does not fit."""
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:
        raise KitError(f"{path} holds more than weights and was not loaded: delete it") from None
    except Exception as error:  # a damaged file can fail in dozens of ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KitError(
            f"{path} is damaged or of another network: delete it ({reason:.300})"
        ) from None
