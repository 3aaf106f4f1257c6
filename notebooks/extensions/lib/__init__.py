"""What only the extension notebooks use; their kernels stand in the folder above."""

from lib.compact_networks import (
    densenet_like,
    resnet_heavy,
    resnet_light,
    resnext_like,
    three_conv_cnn,
    vgg_like,
)
from lib.data import load_small, only_classes
from lib.fault_lab import FaultLab, train_one_epoch
from lib.figures import (
    plot_claims,
    plot_faults,
    plot_runs,
    plot_seeds,
    plot_with_and_without,
    show_grad_cam,
)
from lib.networks import count_macs, newnet
from lib.recipes import get_extension_recipe

__all__ = [
    "FaultLab",
    "count_macs",
    "densenet_like",
    "get_extension_recipe",
    "load_small",
    "newnet",
    "only_classes",
    "plot_claims",
    "plot_faults",
    "plot_runs",
    "plot_seeds",
    "plot_with_and_without",
    "resnet_heavy",
    "resnet_light",
    "resnext_like",
    "show_grad_cam",
    "three_conv_cnn",
    "train_one_epoch",
    "vgg_like",
]
