"""What to do with a network: check its head, freeze it, count and summarise it."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from types import MethodType

import torch
import torchsummary
from torch import nn

from helpers.errors import KitError
from helpers.lib.modes import in_eval_mode

SMALLEST_CHECK = 64  # pixels: large enough for every network here, small enough to cost nothing


def check_head(model: nn.Module, num_classes: int, *, size: int = SMALLEST_CHECK) -> None:
    """Raise `KitError` unless the logits have `num_classes` columns and gradients reach all layers.

    A forward and a backward pass on two random pictures of `size` pixels, in eval mode; the model,
    its gradients and the random state are left as they were. Frozen layers are not asked for a
    gradient.
    """
    with torch.random.fork_rng(devices=[]), in_eval_mode(model):
        images = torch.rand(2, 3, size, size)
        logits = model(images.to(next(model.parameters()).device))
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        grads: Sequence[torch.Tensor | None] = [None] * len(trainable)
        if logits.requires_grad:
            grads = torch.autograd.grad(logits.sum(), list(trainable.values()), allow_unused=True)
    unused = ", ".join(name for name, grad in zip(trainable, grads, strict=True) if grad is None)
    if logits.dim() != 2 or len(logits) != len(images):
        raise KitError(
            f"the network gives a tensor of shape {tuple(logits.shape)} for {len(images)} "
            f"pictures: it must be logits, ({len(images)}, {num_classes})"
        )
    if (outputs := logits.shape[1]) != num_classes:
        reason = (
            f"its new head is not in use, for no gradient reaches {unused} (is it assigned to the "
            "right name?)"
            if unused
            else "its last layer needs an output for each class"
        )
        raise KitError(f"the network gives {outputs} outputs for {num_classes} classes: {reason}")
    if unused:
        raise KitError(f"no gradient reaches {unused}: the network does not use it")


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
