"""Pretrained weights: fetched once, checked, loaded safely, and named truthfully."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import hub, nn
from torchvision.models import ResNet18_Weights

from .downloads import fetch
from .errors import KitError
from .files import sha256
from .folders import MINI_FOLDER
from .packing import unpack


@dataclass(frozen=True)
class WeightFile:
    """A published file of weights; its name ends in the first digits of its SHA-256."""

    url: str
    sha256_prefix: str
    megabytes: int

    @property
    def path(self) -> Path:
        """Where torch keeps it: hub/checkpoints below `TORCH_HOME`."""
        return Path(hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2]

    def is_published(self) -> bool:
        """Whether the file in that place is the published one, by its hash."""
        try:
            return sha256(self.path).startswith(self.sha256_prefix)
        except OSError:
            return False


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
    """How many outputs a network needs for its weights to fit, before it gets a new head.

    Raises `KitError` for an origin that is not "imagenet", "drawn" or None.
    """
    if pretrained not in CLASSES:
        raise KitError(f"unknown weights {pretrained!r}: use 'imagenet', 'drawn' or None")
    return CLASSES[pretrained]


def load_pretrained(model: nn.Module, name: str, pretrained: str | None) -> None:
    """Load the weights that `pretrained` names into `model`, and print what they are.

    `name` is "resnet18" or "efficientnet_b5"; `model` has `num_pretrained_classes(pretrained)`
    outputs. What was loaded stands in `model.weights_source`, in short in `model.weights_kind`,
    for the record. Raises `KitError` when the weights cannot be had or do not fit.
    """
    kind = source = "random"
    if pretrained == "drawn":
        kind, source = load_drawn(model, name)
    elif pretrained == "imagenet":
        kind, source = load_imagenet(model, name)
    model.weights_kind, model.weights_source = kind, source
    print(f"weights of {name}: {source}")


def load_drawn(model: nn.Module, name: str) -> tuple[str, str]:
    """Load the bundled weights of drawn flowers; returns what they are, in short and in full."""
    file = find_drawn(name)
    model.load_state_dict(unpack(file.path))
    return "drawn flowers", (
        f"drawn flowers, {CLASSES['drawn']} species other than these ({file.accuracy:.1%} right "
        f"on held-out drawings), {file.name}"
    )


def find_drawn(name: str) -> DrawnWeights:
    """The bundled weights of a network; raises `KitError` when the file is missing or damaged."""
    file = DRAWN[name]
    mend = "restore it with `git checkout -- data/mini/weights`, or clone the kit again"
    if not file.path.is_file():
        raise KitError(f"{file.path} is missing: {mend}")
    digest = sha256(file.path)
    if digest != file.sha256:
        difference = f"its SHA-256 is {digest[:8]}..., not {file.sha256[:8]}..."
        raise KitError(f"{file.path} is damaged ({difference}): {mend}")
    return file


def load_imagenet(model: nn.Module, name: str) -> tuple[str, str]:
    """Load ImageNet weights, fetched if need be; returns what they are, in short and in full."""
    file = IMAGENET[name]
    if not file.path.exists():
        fetch_weights(name)
    try:
        load_state(model, file.path)
    except KitError as damage:
        replace_damaged(name, damage)
        load_state(model, file.path)
    digest = sha256(file.path)
    if digest.startswith(file.sha256_prefix):
        return "ImageNet", f"ImageNet, {file.path.name}"
    return "ImageNet, another file", (
        f"ImageNet, but {file.path.name} is NOT the published file (SHA-256 {digest[:8]}..., "
        f"not {file.sha256_prefix}...): say so with any result"
    )


def replace_damaged(name: str, damage: KitError) -> None:
    """Put the published file in the place of one that cannot be loaded.

    Raises `KitError` that tells of both, when there is no network or it is the published file.
    """
    if IMAGENET[name].is_published():
        raise damage
    print(f"{IMAGENET[name].path.name} cannot be used: fetching it again")
    try:
        fetch_weights(name)
    except KitError as error:
        raise KitError(f"{damage}; {error}") from None


def fetch_weights(name: str) -> Path:
    """Download the ImageNet weights of a network unless they are there, whole; returns their path.

    A file of that name which is not the published one is replaced.
    """
    file = IMAGENET[name]
    if not file.is_published():
        fetch(
            file.url,
            file.path,
            sha256_prefix=file.sha256_prefix,
            what=f"weights of {name}, {file.megabytes} MB",
        )
    return file.path


def load_state(model: nn.Module, path: Path) -> None:
    """Load a state dict from `path` into `model`; nothing in the file is executed.

    Raises `KitError` when the file is damaged, of another network, or holds more than weights.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except pickle.UnpicklingError:
        raise KitError(f"{path} holds more than weights and was not loaded: delete it") from None
    except Exception as error:  # a damaged file can fail in dozens of ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KitError(
            f"{path} is damaged or of another network: delete it ({reason:.300})"
        ) from None
