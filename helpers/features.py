"""Features: what a frozen network makes of each picture, computed once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from helpers.data import Data
from helpers.lib.datasets import class_names_of, ids_of, labels_of
from helpers.lib.devices import autocast, move_images, move_model, precision_for
from helpers.lib.loaders import Batches, make_loader, reseed
from helpers.lib.modes import in_eval_mode
from helpers.lib.progress import track
from helpers.lib.run_settings import batch_size_of
from helpers.pictures import plain

FEATURE_BATCH = 64  # pictures at a time


class Features(TensorDataset):
    """A TensorDataset of vectors (samples, width) and labels (samples,), with their names."""

    def __init__(self, vectors: torch.Tensor, dataset: Dataset, views: int = 1) -> None:
        super().__init__(vectors, labels_of(dataset).repeat(views))
        self.ids, self.classes = ids_of(dataset) * views, class_names_of([dataset])

    @property
    def vectors(self) -> torch.Tensor:
        return self.tensors[0]


@torch.no_grad()
def compute_features(
    model: nn.Module,
    head: nn.Module,
    data: Data | Mapping[str, DataLoader],
    *,
    views: int = 1,
    device: torch.device | str | None = None,
    precision: torch.dtype | None = None,
) -> Data:
    """What enters `head` for every picture, as a data set of vectors.

    Training the head on it is training the network with everything before the head frozen, at a
    fraction of the cost, because a picture goes through the network once and not once an epoch.

    Args:
        model: the network, whose BatchNorm is taken in eval mode.
        head: a layer of it, such as `model.fc`.
        data: from `load_data`, or a dict of your own DataLoaders.
        views: how often each training picture is there: once plain, then augmented as `data` says.
        device: by default what `data` says.
        precision: of the network's arithmetic, by default what `data` says.

    Returns:
        The same data with vectors (width,) in the place of pictures. Its `feature_seconds` are
        those for train and val, which training needs; test comes on top.
    """
    data = Data.of(data)
    device = torch.device(device or data.device)
    precision = precision_for(model, device, precision or data.precision)
    move_model(model, device)
    reseed(data.train)
    loaders, seconds = {}, {}
    for split, loader in data.dataloaders.items():
        started, dataset = time.perf_counter(), loader.dataset
        passes = [plain(dataset)] + [dataset] * (views - 1 if split == "train" else 0)
        generator = loader.generator or torch.Generator().manual_seed(data.seed)
        vectors = [
            head_inputs(model, head, one, f"features of {split}", generator, device, precision)
            for one in passes
        ]
        loaders[split] = make_loader(
            Features(torch.cat(vectors), dataset, len(passes)),
            batch_size_of(loader) or FEATURE_BATCH,
            seed=generator.initial_seed(),
            shuffle=split == "train",
        )
        seconds[split] = time.perf_counter() - started
    return dataclasses.replace(
        data,
        dataloaders=loaders,
        precision=torch.float32,  # a head is too small to gain from less
        feature_seconds=seconds["train"] + seconds["val"],
    )


def head_inputs(
    model: nn.Module,
    head: nn.Module,
    dataset: Dataset,
    description: str,
    generator: torch.Generator,
    device: torch.device,
    precision: torch.dtype,
) -> torch.Tensor:
    """The vectors (samples, width) that enter `head`, caught on their way in, in eval mode."""
    loader = make_loader(dataset, FEATURE_BATCH, seed=0, shuffle=False)
    if isinstance(batches := loader.sampler, Batches):
        batches.generator = generator  # each pass draws other augmentations
    caught: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float().cpu()))
    try:
        with in_eval_mode(model):
            for images, _ in track(loader, description):
                with autocast(device, precision):
                    model(move_images(images, device))
    finally:
        hook.remove()
    return torch.cat(caught)
