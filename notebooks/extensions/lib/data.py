"""Pictures of 32 pixels: CIFAR-10, CIFAR-100, and on the mini profile small drawings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2 as transforms

from helpers.data import Data, data_from
from helpers.errors import KitError
from helpers.lib.datasets import ids_of, labels_of
from helpers.lib.identity import fingerprint_of
from helpers.lib.loaders import loader_like
from helpers.lib.sources import list_small_pictures
from helpers.pictures import Normalization, Pictures, eval_transform
from helpers.tour import channel_statistics
from helpers.workspace import Workspace
from lib.recipes import ExtensionRecipe, SmallAugmentation


def load_small(workspace: Workspace, recipe: ExtensionRecipe, *, own_colors: bool = False) -> Data:
    """Load the small pictures of a recipe, with train, val and test splits.

    Args:
        workspace: from `start()`.
        recipe: `dataset` is "CIFAR10" or "CIFAR100" (small drawings on the mini profile),
            `val_fraction` of its training pictures becomes val, `per_class` training pictures of
            each class are used at most. Pictures are kept whole, and scaled to `size` only on
            their way to the network.
        own_colors: normalise by the colours of these training pictures, not by ImageNet's.

    Returns:
        Loaders of images (batch, 3, size, size), float32 and normalised, and labels.

    Raises:
        KitError: when pictures are missing, or the data set is none of the extensions.
    """
    listing = list_small_pictures(
        recipe.dataset,
        profile=workspace.profile,
        data_dir=workspace.data_dir,
        seed=workspace.seed,
        val_fraction=recipe.val_fraction,
    )
    data = data_from(
        workspace,
        listing,
        size=recipe.size,
        batch_size=recipe.batch_size,
        short_side=listing.side,
        transform=small_train_transform(listing.side, recipe.size, recipe.augment),
        plain_transform=small_eval_transform(listing.side, recipe.size),
    )
    if own_colors:
        data = with_own_colors(data)
    if recipe.per_class is None:
        return data
    smallest = int(torch.bincount(labels_of(data.train.dataset)).min())
    return data.few_per_class(min(recipe.per_class, smallest), seed=workspace.seed)


def small_train_transform(side: int, size: int, augment: SmallAugmentation) -> transforms.Transform:
    """A small picture shifted, mirrored and turned at random, then scaled; uint8 to uint8."""
    steps: list[transforms.Transform] = []  # only what is wanted: each costs time for each picture
    if augment.padding:
        steps.append(transforms.RandomCrop(side, padding=augment.padding))
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip(augment.flip))
    if augment.rotation:
        bilinear = transforms.InterpolationMode.BILINEAR
        steps.append(transforms.RandomRotation(augment.rotation, interpolation=bilinear))
    return transforms.Compose([*steps, small_eval_transform(side, size)])


def small_eval_transform(side: int, size: int) -> transforms.Transform:
    """The whole of a small picture, always the same, scaled to `size`."""
    whole = eval_transform(side)
    if size == side:
        return whole
    return transforms.Compose([whole, transforms.Resize((size, size), antialias=True)])


def with_own_colors(data: Data) -> Data:
    """The same data, normalised by the colours of its training pictures; changed in place."""
    mean, std = channel_statistics(data)
    normalization = Normalization(tuple(mean.tolist()), tuple(std.tolist()))
    for loader in data.dataloaders.values():
        pictures_of(loader.dataset).normalization = normalization
    return dataclasses.replace(data, normalization=normalization)


def only_classes(data: Data, classes: Sequence[int]) -> Data:
    """The same data with some of its classes, labelled 0, 1, ... in the order given.

    It is another task, so it has another fingerprint.

    Args:
        data: from `load_small`.
        classes: at least two labels of it.

    Raises:
        KitError: for a class that is not there or given twice, and for fewer than two.
    """
    wrong = [label for label in classes if label not in range(data.num_classes)]
    if wrong or len(set(classes)) != len(classes) or len(classes) < 2:
        raise KitError(
            f"classes={list(classes)}: use at least two different ones of 0 ... "
            f"{data.num_classes - 1}"
        )
    names = [data.class_names[label] for label in classes]
    new_label = torch.full((data.num_classes,), -1)
    new_label[list(classes)] = torch.arange(len(classes))
    loaders = {}
    for split, loader in data.dataloaders.items():
        chosen = (new_label[labels_of(loader.dataset)] >= 0).nonzero().flatten().tolist()
        subset = Subset(relabelled(loader.dataset, new_label, names), chosen)
        loaders[split] = loader_like(loader, subset)
    pairs = {
        split: zip(ids_of(loader.dataset), labels_of(loader.dataset).tolist(), strict=True)
        for split, loader in loaders.items()
    }
    return dataclasses.replace(
        data, class_names=names, dataloaders=loaders, fingerprint=fingerprint_of(pairs)
    )


def relabelled(dataset: Dataset, new_label: torch.Tensor, class_names: Sequence[str]) -> Dataset:
    """The same pictures, with the label new_label[i] where it was i."""
    if isinstance(dataset, Subset):
        return Subset(relabelled(dataset.dataset, new_label, class_names), dataset.indices)
    pictures = pictures_of(dataset)
    return Pictures(
        pictures.store,
        new_label[pictures.targets].tolist(),
        pictures.ids,
        class_names=class_names,
        transform=pictures.transform,
        plain_transform=pictures.plain_transform,
        normalization=pictures.normalization,
    )


def pictures_of(dataset: Dataset) -> Pictures:
    """The pictures below a data set of `load_small`; raises `KitError` for another one."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    if not isinstance(dataset, Pictures):
        raise KitError(f"use data of load_small, not a {type(dataset).__name__}")
    return dataset
