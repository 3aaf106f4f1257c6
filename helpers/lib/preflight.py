"""What is checked before a run starts, so that it does not fail, or mislead, an hour later."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from helpers.errors import KitError
from helpers.lib.devices import device_of
from helpers.lib.memory import is_out_of_memory
from helpers.lib.modes import in_eval_mode
from helpers.lib.randomness import untouched_randomness


@torch.no_grad()
def check_before_training(
    model: nn.Module,
    loaders: Mapping[str, DataLoader],
    num_classes: int,
    criterion: nn.Module,
    optimizer: Optimizer,
) -> float:
    """Run a batch of val through the model: its loss in nats; raises `KitError` for a misfit."""
    own = {id(parameter) for parameter in model.parameters()}
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if foreign := sum(id(parameter) not in own for parameter in moved):
        raise KitError(
            f"{foreign} of the optimizer's {len(moved)} tensors belong to another network, which "
            "it would train instead: make an optimizer from the parameters of this one"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise KitError("nothing to train: every parameter is frozen")
    with untouched_randomness():
        samples, labels = next(iter(loaders["val"]))
    device = device_of(model)
    try:
        with in_eval_mode(model):
            logits = model(samples.to(device)).float()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        shape = " x ".join(str(side) for side in samples.shape[1:])
        raise KitError(
            f"the network cannot take samples of {shape}: {str(error).splitlines()[0]}. "
            "Pictures may be too small for it: use a larger size"
        ) from None
    if logits.dim() != 2:
        raise KitError(
            f"the network gives a tensor of shape {tuple(logits.shape)}: it must be logits, "
            "(batch, classes)"
        )
    if (outputs := logits.shape[1]) < num_classes:
        raise KitError(
            f"label {num_classes - 1} is beyond the head's {outputs} outputs: "
            f"build the model with num_classes={num_classes}"
        )
    if outputs > num_classes:
        raise KitError(
            f"the network has {outputs} outputs for {num_classes} classes (its first "
            f"loss would be near ln {outputs} = {math.log(outputs):.2f}): "
            "its new head is not in use, or num_classes is wrong"
        )
    return float(criterion(logits, labels.to(device)))


def check_schedule(
    scheduler: LRScheduler | None, num_epochs: int, batches: int, step_scheduler: str = "batch"
) -> None:
    """Raise `KitError` when the schedule ends before the run or after it."""
    if num_epochs < 1:
        raise KitError(f"num_epochs={num_epochs}: use at least 1")
    if step_scheduler not in ("batch", "epoch"):
        raise KitError(f'step_scheduler={step_scheduler!r}: use "batch" or "epoch"')
    if isinstance(scheduler, ReduceLROnPlateau) and step_scheduler == "batch":
        raise KitError('ReduceLROnPlateau watches val loss: use step_scheduler="epoch" with it')
    length = getattr(scheduler, "total_steps", None) or getattr(scheduler, "T_max", None)
    if length is None:
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
