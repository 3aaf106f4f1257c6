"""Compact networks for 32-pixel pictures, as a lesson: first the blocks, then the nets.

Each net takes (batch, 3, 32, 32), returns logits (batch, num_classes), and is a sequence of named
parts, the last of them `head`. The counts are those of the experiments that the extensions repeat,
so the convolutions keep their biases, which BatchNorm makes superfluous.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import nn

# Blocks


class Add(nn.Module):
    """The sum of two ways through: a path and a shortcut around it (He et al., 2015).

    The gradient reaches the layers before it over the shortcut, too, however long the path is.
    """

    def __init__(self, path: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.path, self.shortcut = path, shortcut

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.path(maps) + self.shortcut(maps)


class Concatenate(nn.Module):
    """What came in, and a path's result behind it as further channels (Huang et al., 2016).

    Nothing is ever overwritten: the last layer still sees what the first one found.
    """

    def __init__(self, path: nn.Module) -> None:
        super().__init__()
        self.path = path

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps, self.path(maps)], dim=1)


def parts(**layers: nn.Module) -> nn.Sequential:
    """A network of layers with names, in the order given."""
    return nn.Sequential(OrderedDict(layers))


def conv_bn(
    width_in: int, width_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution and BatchNorm; with stride 1 height and width stay as they are."""
    conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(width_out))


def conv_bn_relu(
    width_in: int, width_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU: what nearly every layer below is made of."""
    layers = conv_bn(width_in, width_out, kernel, stride=stride, groups=groups)
    return layers.append(nn.ReLU(inplace=True))


def residual(path: nn.Module, width_in: int, width_out: int, stride: int) -> nn.Sequential:
    """A path with a shortcut of one 1x1 convolution, then ReLU."""
    shortcut = conv_bn(width_in, width_out, 1, stride=stride)
    return nn.Sequential(Add(path, shortcut), nn.ReLU(inplace=True))


def plain_block(width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    """ResNet's block of two 3x3 convolutions."""
    path = nn.Sequential(
        conv_bn_relu(width_in, width_out, 3, stride=stride), conv_bn(width_out, width_out, 3)
    )
    return residual(path, width_in, width_out, stride)


def bottleneck_block(width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    """ResNet's block for many channels: the costly 3x3 convolution sees a quarter of them."""
    narrow = width_out // 4
    path = nn.Sequential(
        conv_bn_relu(width_in, narrow, 1),
        conv_bn_relu(narrow, narrow, 3, stride=stride),
        conv_bn(narrow, width_out, 1),
    )
    return residual(path, width_in, width_out, stride)


def grouped_block(width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    """ResNeXt's block (Xie et al., 2016): the 3x3 convolution works in 64 groups of 4 channels.

    A channel is made from the 4 of its group and not from all 256, at a 64th of the cost.
    """
    path = nn.Sequential(
        conv_bn_relu(width_in, 256, 1),
        conv_bn_relu(256, 256, 3, stride=stride, groups=64),
        conv_bn(256, width_out, 1),
    )
    return residual(path, width_in, width_out, stride)


def dense_block(width_in: int, growth: int, layers: int = 8) -> nn.Sequential:
    """DenseNet's block: each layer adds `growth` channels to all that were there before."""
    block = nn.Sequential()
    for width in range(width_in, width_in + layers * growth, growth):
        path = nn.Sequential(
            conv_bn_relu(width, 4 * growth, 1), conv_bn_relu(4 * growth, growth, 3)
        )
        block.append(Concatenate(path))
    return block


def average_head(width: int, num_classes: int) -> nn.Sequential:
    """The average over positions, and one linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


# Nets


def three_conv_cnn(num_classes: int) -> nn.Sequential:
    """Three convolutions without padding and without BatchNorm, then two linear layers.

    119,581 parameters for 5 classes, 103,173 of them in the head, which 800 numbers enter.
    """
    features = nn.Sequential(
        nn.Conv2d(3, 32, 5), nn.ReLU(inplace=True),
        nn.Conv2d(32, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 8, 3), nn.ReLU(inplace=True), nn.Flatten(),
    )  # fmt: skip
    head = nn.Sequential(
        nn.Dropout(0.42), nn.Linear(800, 128), nn.ReLU(inplace=True), nn.Linear(128, num_classes)
    )
    return parts(features=features, head=head)


def vgg_like(num_classes: int) -> nn.Sequential:
    """One convolution after another, as in VGG (Simonyan and Zisserman, 2014).

    1,110,826 parameters for 10 classes.
    """
    layers: dict[str, nn.Module] = {"stem": conv_bn_relu(3, 32, 5)}
    for number, width in enumerate((32, 64, 128), start=1):
        layers[f"stage{number}"] = nn.Sequential(
            conv_bn_relu(width, width, 3), nn.Dropout2d(0.2),
            conv_bn_relu(width, 2 * width, 3), nn.MaxPool2d(2),
        )  # fmt: skip
    head = nn.Sequential(
        nn.Flatten(), nn.Linear(4096, 128), nn.Dropout(0.2), nn.ReLU(inplace=True),
        nn.Linear(128, num_classes),
    )  # fmt: skip
    return parts(**layers, head=head)


def resnet_light(num_classes: int) -> nn.Sequential:
    """A stage of plain blocks, then two of bottlenecks; 310,474 parameters for 10 classes."""
    return resnet_like(num_classes, (plain_block, bottleneck_block, bottleneck_block))


def resnet_heavy(num_classes: int) -> nn.Sequential:
    """Two stages of plain blocks, three of bottlenecks; 3,921,994 parameters for 10 classes."""
    return resnet_like(num_classes, (plain_block,) * 2 + (bottleneck_block,) * 3)


def resnet_like(num_classes: int, blocks: Sequence[Callable[..., nn.Module]]) -> nn.Sequential:
    """A stage for each block: two that keep the shape, one to twice the channels, half the side."""
    layers: dict[str, nn.Module] = {"stem": conv_bn_relu(3, 32, 5)}
    width = 32
    for number, block in enumerate(blocks, start=1):
        layers[f"stage{number}"] = nn.Sequential(
            block(width, width), block(width, width), block(width, 2 * width, stride=2)
        )
        width *= 2
    return parts(**layers, head=average_head(width, num_classes))


def resnext_like(num_classes: int, *, stages: int = 3) -> nn.Sequential:
    """Stages of two grouped blocks, each stage with a shortcut of its own around both.

    1,087,114 parameters for 10 classes with 3 stages, 3,090,058 with 4.
    """
    layers: dict[str, nn.Module] = {"stem": conv_bn_relu(3, 64, 5)}
    width = 64
    for number in range(1, stages + 1):
        path = nn.Sequential(grouped_block(width, width), grouped_block(width, 2 * width, stride=2))
        layers[f"stage{number}"] = Add(path, nn.Conv2d(width, 2 * width, 1, stride=2))
        width *= 2
    return parts(**layers, head=average_head(width, num_classes))


def densenet_like(num_classes: int, *, growth: int = 12, chunks: int = 4) -> nn.Sequential:
    """Dense blocks of 8 layers, between them half the channels and half the side.

    508,447 parameters for 10 classes with growth 12 and 4 chunks, 1,098,724 with 16 and 5.
    """
    width = 4 * growth
    layers: dict[str, nn.Module] = {"stem": conv_bn_relu(3, width, 5)}
    for number in range(1, chunks + 1):
        dense = dense_block(width, growth)
        width += 8 * growth
        layers[f"chunk{number}"] = nn.Sequential(
            dense, conv_bn_relu(width, width // 2, 1), nn.AvgPool2d(2)
        )
        width //= 2
    layers["last"] = dense_block(width, growth)
    return parts(**layers, head=average_head(width + 8 * growth, num_classes))
