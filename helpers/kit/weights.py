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


IMAGENET = {
    "resnet18": WeightFile(ResNet18_Weights.IMAGENET1K_V1.url, "f37072fd", 45),
    "efficientnet_b5": WeightFile(
        "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
        "efficientnet-b5-b6417697.pth",
        "b6417697",
        117,
    ),
}


def load_pretrained(model: nn.Module, name: str, pretrained: str | None) -> None:
    """Load the weights that `pretrained` names into `model`, and print what they are.

    `name` is "resnet18" or "efficientnet_b5". What was loaded stands in `model.weights_source`,
    in short in `model.weights_kind`, for the record. Raises `KitError` when the weights cannot be
    had or do not fit.
    """
    if pretrained is None:
        kind = source = "random"
    elif pretrained == "drawn":
        kind = "random (none bundled)"
        source = "RANDOM weights: this version bundles none for drawn flowers"
    elif pretrained == "imagenet":
        kind, source = load_imagenet(model, name)
    else:
        raise KitError(f"unknown weights {pretrained!r}: use 'imagenet', 'drawn' or None")
    model.weights_kind, model.weights_source = kind, source
    print(f"weights of {name}: {source}")


def load_imagenet(model: nn.Module, name: str) -> tuple[str, str]:
    """Load ImageNet weights, fetched if need be; returns what they are, in short and in full."""
    file = IMAGENET[name]
    load_state(model, fetch_weights(name))
    digest = sha256(file.path)
    if digest.startswith(file.sha256_prefix):
        return "ImageNet", f"ImageNet, {file.path.name}"
    return "ImageNet, another file", (
        f"ImageNet, but {file.path.name} is NOT the published file (SHA-256 {digest[:8]}..., "
        f"not {file.sha256_prefix}...): say so with any result"
    )


def fetch_weights(name: str) -> Path:
    """Download the ImageNet weights of a network unless they are there; returns their path."""
    file = IMAGENET[name]
    if not file.path.exists():
        fetch(
            file.url,
            file.path,
            sha256_prefix=file.sha256_prefix,
            what=f"weights of {name}, {file.megabytes} MB",
        )
    return file.path


def load_state(model: nn.Module, path: Path) -> None:
    """Load a state dict from `path` into `model`; nothing in the file is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path} is damaged or of another network: delete it. ({error})") from None
    except pickle.UnpicklingError:
        raise KitError(f"{path} holds more than weights and was not loaded: delete it") from None
