"""The tutorial way: how the published assignment trains, copied from PyTorch's tutorial.

After "Transfer Learning for Computer Vision Tutorial" by Sasank Chilamkurthy
(https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html), written anew. What costs
its time is kept: four pictures a batch, float32, every picture opened and transformed by loader
workers each time it is needed, workers started anew for each pass, a frozen network run again in
every epoch, validation after every epoch. The names are the tutorial's; what it keeps in globals
is handed over here, and the seconds of each phase are noted.
"""

from __future__ import annotations

import copy
import functools
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from efficientnet_pytorch import EfficientNet
from PIL import Image
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from helpers.data import Data
from helpers.lib.datasets import labels_of, paths_of
from helpers.lib.folders import ROOT
from helpers.pictures import IMAGENET

BATCH_SIZE, NUM_WORKERS, NUM_EPOCHS = 4, 4, 25
SIZE = 224  # pixels of a side
BN_CNN_EPOCHS, BN_CNN_ACCURACY = 99, 0.356  # published: so many epochs, and the val accuracy after

Train = Callable[..., list[dict[str, float]]]


class PictureFiles(Dataset):
    """As torchvision's Flowers102: open a picture, convert it to RGB, transform it."""

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int], transform: transforms.Compose
    ) -> None:
        self.paths, self.labels, self.transform = list(paths), list(labels), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.paths[index]).convert("RGB")
        return self.transform(image), self.labels[index]


def data_transforms(size: int) -> dict[str, transforms.Compose]:
    """Random crop and flip for training; the centre for validation."""
    to_numbers = [transforms.ToTensor(), transforms.Normalize(*IMAGENET)]
    return {
        "train": transforms.Compose(
            [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), *to_numbers]
        ),
        "val": transforms.Compose(
            [transforms.Resize(round(size * 8 / 7)), transforms.CenterCrop(size), *to_numbers]
        ),
    }


def make_dataloaders(data: Data, size: int) -> dict[str, DataLoader]:
    """Loaders of the same train and val pictures that `data` holds."""
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores
    dataloaders = {}
    for phase, transform in data_transforms(size).items():
        samples = data.dataloaders[phase].dataset
        files = PictureFiles(paths_of(samples), labels_of(samples).tolist(), transform)
        dataloaders[phase] = DataLoader(
            files, batch_size=BATCH_SIZE, shuffle=True, num_workers=NUM_WORKERS
        )
    return dataloaders


def resnet18(
    weights: Mapping[str, torch.Tensor], num_classes: int, *, frozen: bool = False
) -> nn.Module:
    """ResNet18 with a new head. Frozen, only the head has gradients: BatchNorm still moves.

    `weights` stand for `weights="IMAGENET1K_V1"`: those that the other side starts from too.
    """
    model = models.resnet18()
    backbone = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    model.load_state_dict(backbone, strict=False)
    if frozen:
        for param in model.parameters():
            param.requires_grad = False
    num_ftrs = model.fc.in_features
    model.fc = nn.Linear(num_ftrs, num_classes)
    return model


def published_cnn(num_classes: int) -> nn.Module:
    """The assignment's own CNN of 180 M parameters, which extension 07 draws."""
    sys.path.append(str(ROOT / "notebooks" / "extensions"))
    from lib.networks import newnet

    return newnet(num_classes, device="cpu")


def efficientnet_b5(weights: Mapping[str, torch.Tensor], num_classes: int) -> nn.Module:
    """EfficientNet-B5 with its head under the right name, `_fc`.

    The assignment put it under `.fc`, where it was not in use; that cost no time. `weights`, head
    included, stand for those of `EfficientNet.from_pretrained`.
    """
    model = EfficientNet.from_name("efficientnet-b5")
    model._fc = nn.Linear(model._fc.in_features, num_classes)
    model.load_state_dict(weights)
    return model


def prepare(
    model: nn.Module,
    data: Data,
    device: torch.device,
    *,
    size: int,
    phases: Sequence[str] = ("train", "val"),
) -> Train:
    """The tutorial's cells up to `train_model`, as a function that trains `num_epochs` more."""
    dataloaders = make_dataloaders(data, size)
    model = model.to(device)
    criterion = nn.CrossEntropyLoss()
    trainable = [param for param in model.parameters() if param.requires_grad]
    optimizer = optim.SGD(trainable, lr=0.001, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    return functools.partial(
        train_model,
        model,
        criterion,
        optimizer,
        scheduler,
        {phase: dataloaders[phase] for phase in phases},
        device,
    )


def train_model(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: optim.Optimizer,
    scheduler: lr_scheduler.LRScheduler,
    dataloaders: Mapping[str, DataLoader],
    device: torch.device,
    num_epochs: int = NUM_EPOCHS,
) -> list[dict[str, float]]:
    """Train and keep the best weights; returns loss, accuracy and seconds by epoch and phase."""
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc, history = 0.0, []
    for epoch in range(num_epochs):
        row: dict[str, float] = {"epoch": epoch + 1}
        for phase, dataloader in dataloaders.items():
            since = time.perf_counter()
            model.train(phase == "train")
            running_loss, running_corrects = 0.0, 0.0
            size = len(dataloader.dataset)  # type: ignore[arg-type]
            for inputs, labels in dataloader:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data).item()
            if phase == "train":
                scheduler.step()
            row[f"{phase}_loss"] = running_loss / size
            row[f"{phase}_accuracy"] = running_corrects / size
            if phase == "val" and row["val_accuracy"] > best_acc:
                best_acc = row["val_accuracy"]
                best_model_wts = copy.deepcopy(model.state_dict())
            row[f"{phase}_seconds"] = time.perf_counter() - since
        history.append(row)
        print("  " + ", ".join(f"{name} {value:.3g}" for name, value in row.items()))
    model.load_state_dict(best_model_wts)
    return history
