"""Training outside the notebooks: the experiment of each method's notebook, from its recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from coursekit.train.parallel import ALONE, Processes
from helpers.data import Data, load_data
from helpers.errors import KitError
from helpers.lib.folders import show_path
from helpers.lib.preflight import check_schedule
from helpers.models import bn_cnn, efficientnet_b5, freeze, resnet18
from helpers.recipes import Recipe, get_recipe
from helpers.results import save_result
from helpers.training import TrainingRun, compute_features, test, train_model
from helpers.workspace import Workspace, start

# A method's network, and the name of the layer that learns at `head_lr`; "" is all of the network.
NETWORKS = {
    "bn_cnn": (lambda num_classes, pretrained: bn_cnn(num_classes), ""),
    "resnet18_finetune": (resnet18, "fc"),
    "resnet18_extractor": (resnet18, "fc"),
    "efficientnet_b5_finetune": (efficientnet_b5, "_fc"),
}
FROZEN = ("resnet18_extractor",)  # the methods that train the head only, on features
FEATURE_VIEWS = 2  # of each training picture: plain, and augmented


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
    """Train, test and record a method as its notebook does; returns the folder of its result.

    `dataset` is by default the one that notebook 01 has chosen. `num_epochs` makes the run shorter
    or longer, with its schedule, and the recipe in the record says so. An interrupted run goes on,
    and a finished one is loaded unless `rerun`. An earlier result of the method moves to
    results/<profile>/previous/. Of several `processes` each calls this, the first one records, and
    none keeps a checkpoint. Raises `KitError` for an unknown method, profile, device or data set,
    and for numbers that make no run.
    """
    workspace = start(profile=profile, device=processes.device(device), dataset=dataset)
    workspace = dataclasses.replace(workspace, processes=processes.count)
    recipe = recipe_for(method, workspace.profile, num_epochs)
    if num_workers < 0:
        raise KitError(f"num_workers={num_workers}: use 0 or more")
    data = load_data(
        workspace,
        size=recipe.size,
        batch_size=recipe.batch_size,
        augment=recipe.augment,
        num_workers=num_workers,
    )
    print(recipe)

    build, head = NETWORKS[method]
    torch.manual_seed(workspace.seed)
    with processes.one_goes_first():  # it may have to download the weights
        model = build(data.num_classes, pretrained=workspace.pretrained)
    workspace = workspace.suited_to(model)
    if processes.count > 1:
        print("NOTE     several processes keep no checkpoint: interrupted, they start anew")
    train = train_head if method in FROZEN else train_network
    run = train(workspace, recipe, model, head, data, processes, rerun=rerun)

    score = test(
        processes.test_together(model),
        processes.share(data).test,
        device=workspace.device,
        precision=workspace.precision,
    )
    print("test:", score)
    print(
        f"val:  accuracy {run.best_val_accuracy:.1%}, the number that chose epoch {run.best_epoch}"
    )
    folder = workspace.results_dir / method
    if processes.is_first:
        keep_earlier_result(workspace, method)
        folder = save_result(workspace, recipe, model=model, data=data, run=run, score=score)
    print(f"record {show_path(folder / 'record.json')}")
    return folder


def recipe_for(method: str, profile: str, num_epochs: int | None) -> Recipe:
    """The recipe of a method, for another number of epochs if one is given."""
    recipe = get_recipe(method, profile)
    if num_epochs in (None, recipe.num_epochs):
        return recipe
    check_schedule(None, num_epochs, 0)
    print(f"NOTE     {num_epochs} epochs, where the recipe has {recipe.num_epochs}")
    return dataclasses.replace(recipe, num_epochs=num_epochs)


def train_network(
    workspace: Workspace,
    recipe: Recipe,
    model: nn.Module,
    head: str,
    data: Data,
    processes: Processes = ALONE,
    *,
    precision: torch.dtype | None = None,
    rerun: bool = False,
) -> TrainingRun:
    """Train all of `model` as notebooks 02, 03 and 05 do; it then has its best weights."""
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    optimizer, scheduler = optimizer_and_schedule(
        recipe, model, model.get_submodule(head), len(data.train)
    )
    # Processes that draw alike would drop out the same places of their different samples.
    torch.manual_seed(workspace.seed + processes.rank)
    return train_model(
        processes.train_together(model, workspace.device),
        processes.share(data),
        criterion,
        optimizer,
        scheduler,
        num_epochs=recipe.num_epochs,
        device=workspace.device,
        precision=precision or workspace.precision,
        checkpoint=workspace.checkpoints_dir / recipe.method if processes.count == 1 else None,
        rerun=rerun,
    )


def train_head(
    workspace: Workspace,
    recipe: Recipe,
    model: nn.Module,
    head: str,
    data: Data,
    processes: Processes = ALONE,
    *,
    rerun: bool = False,
) -> TrainingRun:
    """Freeze `model` but for its head and train that on features, as notebook 04 does."""
    freeze(model, keep=head)
    layer = model.get_submodule(head)
    with processes.gathering(layer):
        features = compute_features(
            model,
            layer,
            processes.share(data),
            views=FEATURE_VIEWS,
            device=workspace.device,
            precision=workspace.precision,
        )
    return train_network(
        workspace, recipe, layer, "", features, processes, precision=torch.float32, rerun=rerun
    )


def optimizer_and_schedule(
    recipe: Recipe, model: nn.Module, head: nn.Module, batches: int
) -> tuple[Optimizer, LRScheduler]:
    """What the notebooks make of a recipe, for epochs of that many batches.

    `head` learns at `recipe.head_lr`; the rest of `model` at `recipe.backbone_lr`, unless that is
    None. Raises `KitError` when the rise of the rate would be a single step.
    """
    groups = [{"params": list(head.parameters()), "lr": recipe.head_lr}]
    if recipe.backbone_lr is not None:
        in_head = {id(parameter) for parameter in head.parameters()}
        backbone = [p for p in model.parameters() if id(p) not in in_head]
        groups.insert(0, {"params": backbone, "lr": recipe.backbone_lr})
    momentum = {"momentum": 0.9, "nesterov": True} if recipe.optimizer == "SGD" else {}
    optimizer = getattr(torch.optim, recipe.optimizer)(
        groups, lr=recipe.head_lr, weight_decay=recipe.weight_decay, **momentum
    )
    steps = recipe.num_epochs * batches
    try:
        scheduler = OneCycleLR(
            optimizer,
            [group["lr"] for group in groups],
            total_steps=steps,
            pct_start=recipe.warmup,
        )
    except ZeroDivisionError:
        raise KitError(
            f"a run of {steps} steps ({recipe.num_epochs} x {batches} batches) leaves its rate a "
            "single step to rise in, which the schedule cannot do: use more epochs"
        ) from None
    return optimizer, scheduler


def keep_earlier_result(workspace: Workspace, method: str) -> None:
    """Move the result that a new one would replace to results/<profile>/previous/."""
    from coursekit.run.runner import (
        keep_previous_result,  # it knows Jupyter, which training does not need
    )

    keep_previous_result(workspace, method)
