"""The networks of notebooks 02 to 05, as their solutions build them there in the open."""

from __future__ import annotations

import torchvision
from efficientnet_pytorch import EfficientNet
from torch import nn

from helpers.lib.weights import Pretrained, pretrained_weights
from helpers.recipes import METHODS


def build_network(
    method: str, num_classes: int, origin: str | None
) -> tuple[nn.Module, Pretrained | str]:
    """The network of a method before it is trained, and what it starts from, for its record.

    Args:
        method: One of `METHODS`.
        num_classes: Outputs.
        origin: Of pretrained weights, "imagenet" or "drawn"; None for random ones.
    """
    if not METHODS[method].head:
        return bn_cnn(num_classes), "random"
    if method == "efficientnet_b5_finetune":
        weights = pretrained_weights("efficientnet_b5", origin) if origin else None
        return efficientnet_b5(num_classes, weights), weights or "random"
    weights = pretrained_weights("resnet18", origin) if origin else None
    return resnet18(num_classes, weights), weights or "random"


def bn_cnn(num_classes: int, *, widths: tuple[int, ...] = (32, 64, 128, 256)) -> nn.Sequential:
    """The small CNN of notebook 02: 415,110 parameters for 102 classes.

    Args:
        num_classes: Outputs.
        widths: Channels of each block; each halves height and width.

    Returns:
        A network from (batch, 3, size, size), at any size from 16 pixels on, to logits (batch,
        num_classes).
    """
    blocks: list[nn.Module] = []
    for width_in, width_out in zip((3, *widths), widths, strict=False):
        # BatchNorm subtracts the mean of each channel, and a bias with it: one would be wasted.
        blocks.append(nn.Conv2d(width_in, width_out, 3, padding=1, bias=False))
        blocks += [nn.BatchNorm2d(width_out), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*blocks, *head, nn.Linear(widths[-1], num_classes))


def resnet18(num_classes: int, weights: Pretrained | None = None) -> torchvision.models.ResNet:
    """torchvision's ResNet18 with a new head `fc`: 11,228,838 parameters for 102 classes."""
    outputs = weights.num_classes if weights else num_classes
    model = torchvision.models.resnet18(num_classes=outputs)
    if weights:
        model.load_state_dict(weights.state)
    model.fc = nn.Linear(model.fc.in_features, num_classes)
    return model


def efficientnet_b5(num_classes: int, weights: Pretrained | None = None) -> EfficientNet:
    """efficientnet_pytorch's B5 with a new head `_fc`: 28,549,782 parameters for 102 classes."""
    outputs = weights.num_classes if weights else num_classes
    model = EfficientNet.from_name("efficientnet-b5", num_classes=outputs)
    model.set_swish(memory_efficient=False)  # the package's own saves memory and costs time
    if weights:
        model.load_state_dict(weights.state)
    model._fc = nn.Linear(model._fc.in_features, num_classes)
    return model
