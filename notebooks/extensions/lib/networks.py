"""The published "NewNet", and how many multiply-accumulates a network needs."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.lib.modes import in_eval_mode


def newnet(num_classes: int = 102, *, device: str = "meta") -> nn.Sequential:
    """The published "NewNet": 179,980,390 parameters for 102 classes, for 224-pixel pictures only.

    Three blocks of convolution, BatchNorm, ReLU and pooling, then four linear layers. Source: the
    experiment that this assignment was published with.

    Args:
        num_classes: of the last layer.
        device: on "meta", it can be counted but has no numbers, and no memory is used; on "cpu"
            it takes 720 MB.

    Returns:
        A network from (batch, 3, 224, 224) to logits (batch, num_classes).
    """
    with torch.device(device):
        layers: list[nn.Module] = []
        for width_in, width_out in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(width_in, width_out, 3), nn.BatchNorm2d(width_out)]
            layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        layers += [nn.Flatten(), nn.Linear(128 * 26 * 26, 2048), nn.ReLU(inplace=True)]
        layers += [nn.Linear(2048, 1024), nn.ReLU(inplace=True)]
        layers += [nn.Linear(1024, 512), nn.ReLU(inplace=True), nn.Linear(512, num_classes)]
        return nn.Sequential(*layers)


def count_macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of one picture's forward pass, in convolutions and linear layers.

    Biases, BatchNorm and activations are not counted: they are about one in a hundred.

    Args:
        model: any network of pictures, also on the meta device; it is left as it was.
        size: pixels of a side; the picture is (3, size, size).

    Returns:
        Half of what PyTorch counts: its FLOPs are multiplications and additions.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad(), in_eval_mode(model):
        model(torch.zeros(1, 3, size, size, device=device))
    return int(counter.get_total_flops()) // 2
