"""The networks of the assignment, their heads, freezing and counting."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator
from types import MethodType

import torch
import torchsummary
from efficientnet_pytorch import EfficientNet
from torch import nn
from torchvision import models

from .kit.errors import KitError
from .kit.weights import load_pretrained, num_pretrained_classes

SMALLEST_CHECK = 64  # pixels: large enough for every network here, small enough to cost nothing


def bn_cnn(
    num_classes: int,
    *,
    batch_norm: bool = True,
    widths: tuple[int, ...] = (32, 64, 128, 256),
    dropout: float = 0.2,
) -> nn.Sequential:
    """A small CNN: a block for each width, global average pooling, one linear layer.

    Takes (batch, 3, size, size) and returns logits (batch, num_classes), at any size from 16
    pixels on, since the average over positions leaves one number a channel. 415,110 parameters
    for 102 classes. `batch_norm=False` leaves BatchNorm out and gives the convolutions a bias.
    """
    blocks: list[nn.Module] = []
    for width_in, width_out in zip((3, *widths), widths, strict=False):
        blocks += cnn_block(width_in, width_out, batch_norm)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*blocks, *head, nn.Linear(widths[-1], num_classes))


def cnn_block(width_in: int, width_out: int, batch_norm: bool) -> list[nn.Module]:
    """Convolution, BatchNorm, ReLU, and halving of height and width."""
    # BatchNorm subtracts the mean of each channel, and a bias with it: one would be wasted.
    layers: list[nn.Module] = [nn.Conv2d(width_in, width_out, 3, padding=1, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(width_out))
    return [*layers, nn.ReLU(inplace=True), nn.MaxPool2d(2)]


def newnet(num_classes: int = 102, *, device: str = "meta") -> nn.Sequential:
    """The published "NewNet": 179,980,390 parameters for 102 classes, for 224-pixel pictures only.

    On the "meta" device, the default, it can be counted but has no numbers, and no memory is used
    (on "cpu" it takes 720 MB). Source: the experiment that this assignment was published with;
    three blocks of convolution, BatchNorm, ReLU and pooling, then four linear layers.
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


def resnet18(num_classes: int, *, pretrained: str | None) -> models.ResNet:
    """torchvision's ResNet18 with a new head `fc` of `num_classes` outputs.

    `pretrained` says what its other layers know: "imagenet" (torchvision's IMAGENET1K_V1 weights),
    "drawn" (the mini profile's, from 72 drawn species that are not in its data set), or None for
    random weights. Prints which. 11,228,838 parameters with 102 outputs. Raises `KitError` when
    weights cannot be had.
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

    With `hidden`, a layer of that many numbers and a ReLU come before it; with `dropout`, that part
    of what enters the last layer is left out at random in training. Raises `KitError` when there
    is no such linear layer, and when the network's output does not come from it, as when it is
    called `fc` in a network whose last layer is `_fc`.
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
    """Freeze a network, and print what is left to train.

    All of it is frozen, or all but the layer `keep`, or only its parts from the first one up to
    `through` and including it: "layer1" of a ResNet18 leaves `layer2` and what follows to train.
    Frozen means: no gradients, and eval mode that a later `model.train()` does not undo, so that
    the running statistics of BatchNorm stay as they are too. Returns `model`, changed in place.
    """
    layers = dict(model.named_modules())
    if keep is not None and through is not None:
        raise KitError(f"freeze with keep={keep!r} or with through={through!r}, not with both")
    if keep is not None and keep not in layers:
        raise KitError(f"the network has no layer {keep!r}; it has {', '.join(layers)[:200]} ...")
    names = [] if keep is None else [keep]
    if through is not None:
        names = _parts_after(model, through)
    kept = {layer for name in names for layer in layers[name].modules()}
    on_the_way = {
        layer for outer, layer in layers.items() if any(_contains(outer, name) for name in names)
    }
    for layer in layers.values():
        if layer not in kept | on_the_way:
            layer.train = MethodType(stay_in_eval_mode, layer)
            layer.eval()
        elif is_frozen(layer):
            del layer.train  # frozen before, and wanted now
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(layer in kept)
    counts = count_parameters(model)
    frozen_layers = [layer for layer in layers.values() if is_frozen(layer)]
    buffers = sum(b.numel() for layer in frozen_layers for b in layer.buffers(recurse=False))
    print(
        f"trainable {counts['trainable']:,}, frozen {counts['frozen']:,} parameters; "
        f"{buffers:,} numbers in buffers (running statistics) of frozen layers stay too"
    )
    return model


def _contains(outer: str, inner: str) -> bool:
    return inner != "" and (outer == "" or inner.startswith(f"{outer}."))


def _parts_after(model: nn.Module, through: str) -> list[str]:
    """The names of a network's parts that come after the part `through`."""
    names = [name for name, _ in model.named_children()]
    if through not in names:
        raise KitError(f"the network has no part {through!r}; it has {', '.join(names)}")
    return names[names.index(through) + 1 :]


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
    return {
        "total": total,
        "trainable": trainable,
        "frozen": total - trainable,
        "buffers": buffers,
    }


def count_macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of one picture's forward pass, in convolutions and linear layers.

    The picture is (3, size, size). Biases, BatchNorm and activations are not counted: they are
    about one in a hundred. The model is left as it was.
    """
    total = 0

    def add(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()  # of one output number

    hooks = [
        layer.register_forward_hook(add)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.inference_mode(), in_eval_mode(model):
            model(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The trainable parameters as an optimizer takes them, with weight decay for weights only.

    Decay keeps a weight from growing for the sake of a few pictures. A bias or a number of
    BatchNorm does no such thing: pulling it towards zero only shifts or shrinks a whole channel.
    These are the parameters with one dimension.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]


def check_layer(model: nn.Module, layer: nn.Module) -> None:
    """Raise `KitError` when `layer` is not one of the layers of `model`."""
    if not any(layer is own for own in model.modules()):
        raise KitError(
            f"this {type(layer).__name__} is no layer of this network: pictures do not pass "
            "through it (is it one of another network, or of an earlier version of this one?)"
        )


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and each of its layers back in the mode it had."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def summarize(model: nn.Module, size: int, *, max_rows: int = 30) -> None:
    """Print torchsummary's table of a network for pictures of `size` pixels, and true totals.

    torchsummary runs the network in its current mode, which in train mode moves the running
    statistics of BatchNorm, and draws from the random state; here both are left untouched, on
    any device. Tables longer than `max_rows` are cut in the middle. The totals below the table
    count every parameter once, which torchsummary does not where a layer is shared.
    """
    device = next(model.parameters()).device
    text = io.StringIO()
    # torchsummary knows only "cpu" and "cuda": any other device sits the table out on the CPU.
    table_device = device.type if device.type == "cuda" else "cpu"
    try:
        with torch.random.fork_rng(), torch.no_grad(), contextlib.redirect_stdout(text):
            # A copy, because torchsummary leaves its hooks behind when the network fails.
            copied = copy.deepcopy(model).to(table_device).eval()
            torchsummary.summary(copied, (3, size, size), batch_size=-1, device=table_device)
    except RuntimeError as error:
        raise KitError(f"the network cannot take {size}-pixel pictures: {error}") from None
    rows = text.getvalue().split("=" * 64)
    body = rows[1].strip("\n").splitlines() if len(rows) > 1 else []
    if len(body) > max_rows:
        half = max_rows // 2
        body = [*body[:half], f"{'':>8}... {len(body) - 2 * half} more layers ...", *body[-half:]]
    print(f"{'Layer (type)':>25} {'Output shape':>25} {'Parameters':>15}", "-" * 67, sep="\n")
    print("\n".join(body), "-" * 67, sep="\n")
    counts = count_parameters(model)
    print(f"total {counts['total']:,}, trainable {counts['trainable']:,} parameters")
