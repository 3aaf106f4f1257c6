"""The networks of the assignment, their heads, freezing and counting."""

from __future__ import annotations

import contextlib
import copy
import io
from types import MethodType

import torch
import torchsummary
from efficientnet_pytorch import EfficientNet
from torch import nn
from torchvision import models

from helpers.errors import KitError
from helpers.lib.modes import in_eval_mode
from helpers.lib.weights import load_pretrained, num_pretrained_classes

SMALLEST_CHECK = 64  # pixels: large enough for every network here, small enough to cost nothing


def bn_cnn(
    num_classes: int,
    *,
    batch_norm: bool = True,
    widths: tuple[int, ...] = (32, 64, 128, 256),
    dropout: float = 0.2,
) -> nn.Sequential:
    """A small CNN: a block for each width, global average pooling, one linear layer.

    Args:
        num_classes: outputs; 415,110 parameters for 102 of them.
        batch_norm: False leaves BatchNorm out and gives the convolutions a bias.
        widths: channels of each block; each halves height and width.
        dropout: fraction of what enters the last layer that is left out at random in training.

    Returns:
        A network from (batch, 3, size, size), at any size from 16 pixels on, to logits (batch,
        num_classes).
    """
    blocks: list[nn.Module] = []
    for width_in, width_out in zip((3, *widths), widths, strict=False):
        # BatchNorm subtracts the mean of each channel, and a bias with it: one would be wasted.
        blocks.append(nn.Conv2d(width_in, width_out, 3, padding=1, bias=not batch_norm))
        blocks += [nn.BatchNorm2d(width_out)] if batch_norm else []
        blocks += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    model = nn.Sequential(*blocks, *head, nn.Linear(widths[-1], num_classes))
    name_weights(model, "random")
    return model


def name_weights(model: nn.Module, kind: str, source: str = "") -> None:
    """Note with a model what its weights are, in short and in full, for its record."""
    vars(model)["weights_kind"], vars(model)["weights_source"] = kind, source or kind


def resnet18(num_classes: int, *, pretrained: str | None) -> models.ResNet:
    """torchvision's ResNet18 with a new head `fc` of `num_classes` outputs.

    Args:
        num_classes: outputs; 11,228,838 parameters with 102 of them.
        pretrained: what its other layers know: "imagenet" (torchvision's IMAGENET1K_V1 weights),
            "drawn" (the mini profile's, from 72 drawn species that are not in its data set), or
            None for random weights. It is printed.

    Raises:
        KitError: when the weights cannot be had.
    """
    model = models.resnet18(num_classes=num_pretrained_classes(pretrained))
    load_pretrained(model, "resnet18", pretrained)
    replace_head(model, "fc", num_classes)
    return model


def efficientnet_b5(num_classes: int, *, pretrained: str | None) -> EfficientNet:
    """efficientnet_pytorch's EfficientNet-B5 with a new head `_fc` of `num_classes` outputs.

    `pretrained` as for `resnet18`. 28,549,782 parameters with 102 outputs. Assigning a layer to
    `.fc`, as for ResNet18, would leave the 1,000 outputs of `_fc` in use.
    """
    model = EfficientNet.from_name(
        "efficientnet-b5", num_classes=num_pretrained_classes(pretrained)
    )
    model.set_swish(memory_efficient=False)  # the package's own saves memory and costs time
    load_pretrained(model, "efficientnet_b5", pretrained)
    replace_head(model, "_fc", num_classes)
    return model


def replace_head(
    model: nn.Module,
    name: str,
    num_classes: int,
    *,
    hidden: int | None = None,
    dropout: float = 0.0,
) -> None:
    """Put a new linear layer with `num_classes` outputs in the place of the layer `name`.

    Args:
        model: the network, changed in place.
        name: of its last linear layer.
        num_classes: outputs.
        hidden: numbers of a layer, with a ReLU, before it; None for no such layer.
        dropout: fraction of what enters the last layer that is left out at random in training.

    Raises:
        KitError: when there is no such linear layer, and when the network's output does not come
            from it, as when it is called `fc` in a network whose last layer is `_fc`.
    """
    old = getattr(model, name, None)
    if not isinstance(old, nn.Linear):
        linear = [key for key, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        raise KitError(f"the network has no linear layer {name!r}; it has {', '.join(linear)}")
    layers: list[nn.Module] = []
    if hidden is not None:
        layers += [nn.Linear(old.in_features, hidden), nn.ReLU(inplace=True)]
    if dropout:
        layers.append(nn.Dropout(dropout))
    last = nn.Linear(hidden or old.in_features, num_classes)
    setattr(model, name, nn.Sequential(*layers, last) if layers else last)
    check_head(model, num_classes)


def check_head(model: nn.Module, num_classes: int) -> None:
    """Raise `KitError` unless the logits have `num_classes` columns and gradients reach all layers.

    A forward and a backward pass on two random pictures, in eval mode; the model, its gradients
    and the random state are left as they were.
    """
    with torch.random.fork_rng(devices=[]), in_eval_mode(model):
        images = torch.rand(2, 3, SMALLEST_CHECK, SMALLEST_CHECK)
        logits = model(images.to(next(model.parameters()).device))
        if logits.shape != (2, num_classes):
            raise KitError(
                f"the network gives {logits.shape[-1]} outputs for {num_classes} classes: "
                "its new head is not in use (is it assigned to the right name?)"
            )
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        grads = torch.autograd.grad(logits.sum(), list(trainable.values()), allow_unused=True)
    unused = [name for name, grad in zip(trainable, grads, strict=True) if grad is None]
    if unused:
        raise KitError(f"no gradient reaches {', '.join(unused)}: the network does not use it")


def freeze(model: nn.Module, *, keep: str | None = None, through: str | None = None) -> nn.Module:
    """Freeze a network, or some of its parts, and print what is left to train.

    Frozen means: no gradients, and eval mode that a later `model.train()` does not undo, so that
    the running statistics of BatchNorm stay as they are, too.

    Args:
        model: the network, changed in place.
        keep: the part that is not frozen, such as "fc".
        through: freeze the parts up to this one, and including it: "layer1" of a ResNet18 leaves
            `layer2` and what follows as they are.

    Returns:
        The same network.

    Raises:
        KitError: when it has no such part.
    """
    parts = dict(model.named_children())
    if keep is not None and through is not None:
        raise KitError(f"freeze with keep={keep!r} or with through={through!r}, not with both")
    for name in (keep, through):
        if name is not None and name not in parts:
            raise KitError(f"the network has no part {name!r}; it has {', '.join(parts)}")
    names = list(parts)
    if through is not None:
        names = names[: names.index(through) + 1]
    whole = keep is None and through is None
    for part in [model] if whole else [parts[name] for name in names if name != keep]:
        part.requires_grad_(False).eval()
        for layer in part.modules():
            vars(layer)["train"] = MethodType(stay_in_eval_mode, layer)
    counts, frozen = count_parameters(model), [m for m in model.modules() if is_frozen(m)]
    buffers = sum(buffer.numel() for m in frozen for buffer in m.buffers(recurse=False))
    print(
        f"trainable {counts['trainable']:,}, frozen {counts['frozen']:,} parameters; "
        f"{buffers:,} numbers in buffers (running statistics) of frozen layers stay too"
    )
    return model


def stay_in_eval_mode(layer: nn.Module, mode: bool = True) -> nn.Module:
    """What `train()` of a frozen layer does, whatever `mode` it is given."""
    return nn.Module.train(layer, False)


def is_frozen(layer: nn.Module) -> bool:
    """Whether `freeze` has frozen this layer."""
    return getattr(layer.train, "__func__", None) is stay_in_eval_mode


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Numbers in a model, by kind: "total", "trainable", "frozen", and "buffers" besides."""
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    buffers = sum(b.numel() for b in model.buffers())
    frozen = total - trainable
    return {"total": total, "trainable": trainable, "frozen": frozen, "buffers": buffers}


def check_layer(model: nn.Module, layer: nn.Module) -> None:
    """Raise `KitError` when `layer` is not one of the layers of `model`."""
    if not any(layer is own for own in model.modules()):
        raise KitError(
            f"this {type(layer).__name__} is no layer of this network: pictures do not pass "
            "through it (is it one of another network, or of an earlier version of this one?)"
        )


def summarize(model: nn.Module, size: int, *, max_rows: int = 30) -> None:
    """Print torchsummary's table of a network for pictures of `size` pixels, and true totals.

    The network and the random state are left untouched, on any device. Tables longer than
    `max_rows` are cut in the middle. The totals count every parameter once, which torchsummary
    does not where a layer is shared.
    """
    text = io.StringIO()
    try:
        with torch.random.fork_rng(), torch.no_grad(), contextlib.redirect_stdout(text):
            # A copy on the CPU: torchsummary knows few devices, and can leave its hooks behind.
            copied = copy.deepcopy(model).cpu().eval()
            torchsummary.summary(copied, (3, size, size), batch_size=-1, device="cpu")
    except RuntimeError as error:
        raise KitError(f"the network cannot take {size}-pixel pictures: {error}") from None
    body = text.getvalue().split("=" * 64)[1].strip("\n").splitlines()
    if len(body) > max_rows:
        half = max_rows // 2
        body = [*body[:half], f"{'':>8}... {len(body) - 2 * half} more layers ...", *body[-half:]]
    print(f"{'Layer (type)':>25} {'Output shape':>25} {'Parameters':>15}", "-" * 67, sep="\n")
    print("\n".join(body), "-" * 67, sep="\n")
    counts = count_parameters(model)
    print(f"total {counts['total']:,}, trainable {counts['trainable']:,} parameters")
