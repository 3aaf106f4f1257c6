"""What is checked before a run starts, so that it does not fail, or mislead, an hour later."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from helpers.errors import KitError
from helpers.lib.devices import device_of
from helpers.lib.memory import is_out_of_memory
from helpers.lib.modes import in_eval_mode, logits_of
from helpers.lib.randomness import untouched_randomness
from helpers.lib.run_settings import batch_size_of

# What torch's layers say of pictures that are too small for them.
TOO_SMALL = ("too small", "greater than actual input size", "Wrong image height", "Wrong image wid")


@torch.no_grad()
def check_before_training(
    model: nn.Module,
    loaders: Mapping[str, DataLoader],
    num_classes: int,
    criterion: nn.Module,
    optimizer: Optimizer,
) -> float:
    """Run a batch of val through the model: its loss; raises `KitError` for a misfit."""
    own = {id(parameter) for parameter in model.parameters()}
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if foreign := sum(id(parameter) not in own for parameter in moved):
        raise KitError(
            f"{foreign} of the optimizer's {len(moved)} tensors belong to another network, which "
            "it would train instead: make an optimizer from the parameters of this one"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise KitError("nothing to train: every parameter is frozen")
    if not any(parameter.requires_grad for parameter in moved):
        raise KitError(
            "nothing to train: every tensor of the optimizer is frozen, and what is not frozen is "
            "not in it"
        )
    check_batches(model, loaders["train"])
    with untouched_randomness():
        samples, labels = next(iter(loaders["val"]))
    device = device_of(model)
    shape = " x ".join(str(side) for side in samples.shape[1:])
    with in_eval_mode(model), told(f"the network cannot take samples of {shape}"):
        output = model(samples.to(device))
    logits = logits_of(output).float()
    if logits.dim() != 2:
        raise KitError(
            f"the network gives a tensor of shape {tuple(logits.shape)}: it must be logits, "
            "(batch, classes)"
        )
    if (outputs := logits.shape[1]) < num_classes:
        raise KitError(
            f"label {num_classes - 1} is beyond the head's {outputs} outputs: "
            f"give its last layer {num_classes}"
        )
    if outputs > num_classes:
        raise KitError(
            f"the network has {outputs} outputs for {num_classes} classes (a new head of that "
            f"size starts near a loss of ln {outputs} = {math.log(outputs):.2f}): "
            "its new head is not in use, or num_classes is wrong"
        )
    return first_loss_of(criterion, logits, labels.to(device))


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn an error of a student's own network or criterion into a line that begins with `what`."""
    try:
        yield
    except Exception as error:  # whatever it raises
        if is_out_of_memory(error) or isinstance(error, KitError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        small = any(words in reason for words in TOO_SMALL)
        hint = ". Pictures are too small for it: use a larger size" if small else ""
        raise KitError(f"{what}: {reason:.300}{hint}") from None


def check_batches(model: nn.Module, loader: DataLoader) -> None:
    """Raise `KitError` for batches of one, from which BatchNorm learns nothing."""
    if batch_size_of(loader) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise KitError("BatchNorm cannot train on batches of one sample: use batch_size=2 or more")


def first_loss_of(criterion: nn.Module, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The loss of a batch; raises `KitError` for a criterion that gives no mean of such a batch."""
    if isinstance(criterion, type):
        raise KitError(f"criterion is a class: write {criterion.__name__}(), with parentheses")
    reduction = getattr(criterion, "reduction", "mean")
    if reduction != "mean":
        raise KitError(
            f"criterion has reduction={reduction!r}, and every loss here is a mean over samples: "
            'use reduction="mean", which is the default'
        )
    name = type(criterion).__name__
    with warnings.catch_warnings(), told(
        f"{name} cannot compare logits {tuple(logits.shape)} with class numbers "
        f"{tuple(labels.shape)}; nn.CrossEntropyLoss() does"
    ):  # fmt: skip
        warnings.filterwarnings("error", "Using a target size")  # sizes that are stretched to fit
        loss = criterion(logits, labels)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shape = tuple(getattr(loss, "shape", ()))
        raise KitError(f"{name} gives a tensor of shape {shape}: it must be one number, a mean")
    return float(loss)


def step_of(
    scheduler: LRScheduler | None, wanted: str | None, num_epochs: int, batches: int
) -> str:
    """When a schedule takes its steps, "batch" or "epoch": as `wanted`, else as it is meant.

    PyTorch's tutorials step most of them once an epoch; those that are as long as all batches
    together, and OneCycleLR and CyclicLR, are made for a step after each batch.
    """
    if wanted is not None:
        return wanted
    left = _length(scheduler) - getattr(scheduler, "last_epoch", 0)
    if isinstance(scheduler, CyclicLR) or left == num_epochs * batches:
        return "batch"
    return "batch" if isinstance(scheduler, OneCycleLR) else "epoch"


def _length(scheduler: LRScheduler | None) -> int:
    """The steps of a schedule; 0 for one without an end."""
    return getattr(scheduler, "total_steps", None) or getattr(scheduler, "T_max", None) or 0


def check_schedule(
    scheduler: LRScheduler | None,
    num_epochs: int,
    batches: int,
    step_scheduler: str = "batch",
    *,
    optimizer: Optimizer | None = None,
) -> None:
    """Raise `KitError` when the schedule ends before the run or after it, or is another's."""
    if num_epochs < 1:
        raise KitError(f"num_epochs={num_epochs}: use at least 1")
    if step_scheduler not in ("batch", "epoch"):
        raise KitError(f'step_scheduler={step_scheduler!r}: use "batch" or "epoch"')
    if isinstance(scheduler, ReduceLROnPlateau) and step_scheduler == "batch":
        raise KitError('ReduceLROnPlateau watches val loss: use step_scheduler="epoch" with it')
    if optimizer is not None and getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise KitError("the schedule belongs to another optimizer: make one for this optimizer")
    if not (length := _length(scheduler)):
        return
    used = getattr(scheduler, "last_epoch", 0)
    steps = {"batch": num_epochs * batches, "epoch": num_epochs}
    if (left := length - used) != steps[step_scheduler]:
        has = f"has {left} of its {length} steps left" if used else f"is {length} steps long"
        other = "epoch" if step_scheduler == "batch" else "batch"
        hint = f'; or use step_scheduler="{other}"' if left == steps[other] else ""
        raise KitError(
            f"the schedule {has}, but the run is {steps[step_scheduler]} ({num_epochs} epochs of "
            f"{batches} batches, a step after each {step_scheduler}): a schedule must be as long "
            f"as its run, and made anew for each{hint}"
        )
