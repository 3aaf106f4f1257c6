"""Training outside the notebooks: the experiment of each method's notebook, from its recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from coursekit.run.keep import keep_previous_result
from coursekit.train.networks import build_network
from coursekit.train.parallel import ALONE, Processes
from helpers.data import Data, load_data
from helpers.errors import KitError
from helpers.features import compute_features
from helpers.lib.folders import show_path
from helpers.lib.preflight import check_schedule
from helpers.models import freeze
from helpers.recipes import METHODS, Recipe, get_recipe
from helpers.results import save_result
from helpers.scores import test
from helpers.training import TrainingRun, train_model
from helpers.workspace import Workspace, start


def train_method(
    method: str,
    *,
    profile: str | None = None,
    dataset: str | Path | None = None,
    device: str | None = None,
    num_epochs: int | None = None,
    num_workers: int = 0,
    rerun: bool = False,
    processes: Processes = ALONE,
) -> Path:
    """Train, test and record a method as its notebook does.

    An interrupted run goes on, and a finished one is loaded. An earlier result of the method moves
    to results/<profile>/previous/.

    Args:
        method: One of `METHODS`.
        profile: "mini" or "full"; by default what `start` chooses.
        dataset: By default the one that notebook 01 has chosen.
        device: "cpu", "cuda" or "mps"; by default the fastest there is.
        num_epochs: Makes the run shorter or longer, with its schedule, and the record says so.
        num_workers: Processes that prepare pictures ahead, beside each that trains.
        rerun: Train anew, also when the run was finished before.
        processes: That train together: each calls this, the first one tests and records, and none
            keeps a checkpoint.

    Returns:
        The folder of the result.

    Raises:
        KitError: The method, profile, device or data set is unknown, or numbers make no run.
    """
    get_recipe(method, profile or "mini")  # nothing is printed before a refused argument
    check_schedule(None, 1 if num_epochs is None else num_epochs, 0)
    if num_workers < 0:
        raise KitError(f"num_workers={num_workers}: use 0 or more")
    workspace = start(profile=profile, device=processes.device(device), dataset=dataset)
    recipe = recipe_for(method, workspace.profile, num_epochs)
    data = load_data(workspace, recipe, num_workers=num_workers)
    print(recipe)
    torch.manual_seed(workspace.seed)
    with processes.one_goes_first():  # it may have to download the weights
        model, weights = build_network(method, data.num_classes, workspace.pretrained)
    if processes.count > 1:
        print("NOTE     several processes keep no checkpoint: interrupted, they start anew")
    run = train_network(workspace, recipe, model, data, processes, rerun=rerun)
    folder = workspace.results_dir / method
    if processes.is_first:
        score = test(model, data)
        print("test:", score)
        print(
            f"val:  accuracy {run.best_val_accuracy:.1%}, the number that chose epoch "
            f"{run.best_epoch}"
        )
        keep_previous_result(workspace, method)
        folder = save_result(
            workspace, recipe,
            model=model, data=data, run=run, score=score, weights=weights,
            processes=processes.count,
        )  # fmt: skip
        print(f"record {show_path(folder / 'record.json')}")
    return folder


def recipe_for(method: str, profile: str, num_epochs: int | None) -> Recipe:
    """The recipe of a method, for another number of epochs if one is given."""
    recipe = get_recipe(method, profile)
    if num_epochs in (None, recipe.num_epochs):
        return recipe
    print(f"NOTE     {num_epochs} epochs, where the recipe has {recipe.num_epochs}")
    return dataclasses.replace(recipe, num_epochs=num_epochs)


def train_network(
    workspace: Workspace,
    recipe: Recipe,
    model: nn.Module,
    data: Data,
    processes: Processes = ALONE,
    *,
    rerun: bool = False,
) -> TrainingRun:
    """Train `model` as its method's notebook does; it then has its best weights."""
    method = METHODS[recipe.method]
    head = model.get_submodule(method.head)
    if method.frozen:
        freeze(model, keep=method.head)
        data = compute_features(model, head, data, views=method.views)
        model = head
    data = processes.divide(data)
    optimizer, scheduler = optimizer_and_schedule(recipe, model, head, len(data.train))
    # Processes that draw alike would drop out the same places of their different samples.
    torch.manual_seed(workspace.seed + processes.rank)
    return train_model(
        processes.train_together(model, workspace.device),
        data,
        nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
        optimizer,
        scheduler,
        num_epochs=recipe.num_epochs,
        checkpoint=workspace.checkpoints_dir / recipe.method if processes.count == 1 else None,
        rerun=rerun,
    )


def optimizer_and_schedule(
    recipe: Recipe, model: nn.Module, head: nn.Module, batches: int
) -> tuple[Optimizer, LRScheduler]:
    """What the notebooks make of a recipe.

    Args:
        recipe: Names the optimizer and its rates.
        model: All of it learns, at `recipe.backbone_lr` unless that is None.
        head: The part of it, or all, that learns at `recipe.head_lr`.
        batches: In an epoch.

    Raises:
        KitError: The rise of the rate would be a single step.
    """
    groups: list[dict[str, Any]] = [{"params": list(head.parameters()), "lr": recipe.head_lr}]
    if recipe.backbone_lr is not None:
        in_head = {id(parameter) for parameter in head.parameters()}
        backbone = [p for p in model.parameters() if id(p) not in in_head]
        groups.insert(0, {"params": backbone, "lr": recipe.backbone_lr})
    momentum = {"momentum": 0.9} if recipe.optimizer == "SGD" else {}
    optimizer = getattr(torch.optim, recipe.optimizer)(
        groups, lr=recipe.head_lr, weight_decay=recipe.weight_decay, **momentum
    )
    steps, rates = recipe.num_epochs * batches, [group["lr"] for group in groups]
    try:
        scheduler = OneCycleLR(
            optimizer, rates, total_steps=steps, pct_start=recipe.warmup, cycle_momentum=False
        )
    except ZeroDivisionError:
        raise KitError(
            f"a run of {steps} steps ({recipe.num_epochs} x {batches} batches) leaves its rate a "
            "single step to rise in, which the schedule cannot do: use more epochs"
        ) from None
    return optimizer, scheduler
