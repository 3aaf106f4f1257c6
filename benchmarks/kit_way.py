"""The kit's way: what the notebooks do, with the kit's public functions and its own recipes."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

import helpers
from benchmarks.plan import Bench
from coursekit.train import networks
from coursekit.train.train import optimizer_and_schedule
from helpers.data import Data
from helpers.recipes import Recipe
from helpers.training import TrainingRun


def extractor(bench: Bench, views: int) -> TrainingRun:
    """Notebook 04: from the picture files to the val accuracy of a head on stored features."""
    recipe = bench.recipe("resnet18_extractor")
    data = without_test(bench.data(recipe), bench.workspace.seed)
    model = resnet18(bench, data)
    helpers.freeze(model, keep="fc")
    head = model.get_submodule("fc")
    return train(recipe, head, helpers.compute_features(model, head, data, views=views))


def finetune(bench: Bench, num_epochs: int | None = None) -> TrainingRun:
    """Notebook 03: from the picture files to the end of its run, or of one of `num_epochs`."""
    recipe = bench.recipe("resnet18_finetune")
    if num_epochs is not None:
        recipe = dataclasses.replace(recipe, num_epochs=num_epochs)
    data = bench.data(recipe)
    return train(recipe, resnet18(bench, data), data, head="fc")


def bn_cnn(bench: Bench) -> TrainingRun:
    """Notebook 02: from the picture files to the end of its run."""
    recipe = bench.recipe("bn_cnn")
    data = bench.data(recipe)
    torch.manual_seed(bench.workspace.seed)
    return train(recipe, networks.bn_cnn(data.num_classes), data)


def resnet18(bench: Bench, data: Data) -> nn.Module:
    """The network of notebooks 03 and 04, before anything is trained or frozen."""
    torch.manual_seed(bench.workspace.seed)
    model, _ = networks.build_network("resnet18_finetune", data.num_classes, bench.pretrained)
    return model


def without_test(data: Data, seed: int) -> Data:
    """The same with one val picture a class in the place of test.

    `compute_features` runs over test too, which no val accuracy needs.
    """
    few = data.with_loaders(train=data.val).few_per_class(1, seed=seed)
    return data.with_loaders(test=few.train)


def train(recipe: Recipe, model: nn.Module, data: Data, *, head: str = "") -> TrainingRun:
    """Train as the notebooks do.

    `head` names the new layer of a pretrained network; without it, all of `model` is new.
    """
    optimizer, scheduler = optimizer_and_schedule(
        recipe, model, model.get_submodule(head), len(data.train)
    )
    return helpers.train_model(
        model,
        data,
        nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
        optimizer,
        scheduler,
        num_epochs=recipe.num_epochs,
        progress=False,
    )


def epoch_seconds(run: TrainingRun) -> list[float]:
    """Seconds of each epoch: training, loading and evaluation."""
    parts = ("training_seconds", "loading_seconds", "evaluation_seconds")
    return [sum(row[part] for part in parts) for row in run.history]


def training_seconds(run: TrainingRun) -> list[float]:
    """Seconds of each epoch without its evaluation: training and loading."""
    return [row["training_seconds"] + row["loading_seconds"] for row in run.history]


def seconds_until(run: TrainingRun, accuracy: float, elapsed: float) -> float | None:
    """Seconds from the picture files to the end of the first epoch with that val accuracy.

    `elapsed` are those of the whole call. What is not part of any epoch, such as reading and
    decoding, counts in full. None when no epoch was that good.
    """
    seconds = epoch_seconds(run)
    for number, row in enumerate(run.history, start=1):
        if row["val_accuracy"] >= accuracy:
            return elapsed - sum(seconds[number:])
    return None
