"""What is checked before a run starts, so that it does not fail, or mislead, an hour later."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..models import in_eval_mode
from .errors import KitError
from .memory import is_out_of_memory


@torch.no_grad()
def check_before_training(
    model: nn.Module,
    data,
    criterion: nn.Module,
    scheduler: LRScheduler | None,
    num_epochs: int,
) -> float:
    """Run a few val samples through the model where it is; returns its first loss, in nats.

    Raises `KitError` when the pictures are too small for the network, when the logits do not have
    a column for each class and no more, or when the schedule is not as long as the run.
    """
    check_schedule(scheduler, num_epochs, len(data.train))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise KitError("nothing to train: every parameter is frozen")
    samples, labels = next(iter(data.val))
    device = next(model.parameters()).device
    try:
        with in_eval_mode(model):
            logits = model(samples.to(device)).float()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        shape = " x ".join(str(side) for side in samples.shape[1:])
        reason = str(error).splitlines()[0]
        raise KitError(
            f"the network cannot take samples of {shape}: {reason}. "
            "Pictures may be too small for it: use a larger size"
        ) from None
    check_classes(logits, data)
    return float(criterion(logits, labels.to(device)))


def check_classes(logits: torch.Tensor, data) -> None:
    """Raise `KitError` unless there is one column of logits for each class and each label."""
    largest = max(int(loader.dataset.labels.max()) for loader in data.dataloaders.values())
    if largest >= logits.shape[1]:
        raise KitError(
            f"label {largest} is beyond the head's {logits.shape[1]} outputs: "
            f"build the model with num_classes={data.num_classes}"
        )
    if logits.shape[1] != data.num_classes:
        raise KitError(
            f"the network has {logits.shape[1]} outputs for {data.num_classes} classes (its first "
            f"loss would be near ln {logits.shape[1]} = {math.log(logits.shape[1]):.2f}): "
            "its new head is not in use, or num_classes is wrong"
        )


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise `KitError` when the optimizer would move parameters that are not the model's."""
    own = {id(parameter) for parameter in model.parameters()}
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    foreign = sum(id(parameter) not in own for parameter in moved)
    if foreign:
        raise KitError(
            f"{foreign} of the optimizer's {len(moved)} tensors belong to another network, which "
            "it would train instead: make an optimizer from the parameters of this one"
        )


def check_schedule(scheduler: LRScheduler | None, num_epochs: int, batches: int) -> None:
    """Raise `KitError` when the schedule ends before the run or after it."""
    if num_epochs < 1:
        raise KitError(f"num_epochs={num_epochs}: use at least 1")
    length = getattr(scheduler, "total_steps", None) or getattr(scheduler, "T_max", None)
    steps, used = num_epochs * batches, getattr(scheduler, "last_epoch", 0)
    if length is not None and length - used != steps:
        has = (
            f"has {length - used} of its {length} steps left" if used else f"is {length} steps long"
        )
        raise KitError(
            f"the schedule {has}, but the run is {steps} ({num_epochs} epochs of {batches} "
            "batches): a schedule must be as long as its run, and made anew for each"
        )
