"""Pretrain a network on the drawn source species: the weights that the mini profile starts from.

    python data/mini/train_weights.py resnet18          # about 15 minutes on two cores
    python data/mini/train_weights.py efficientnet_b5   # about 50 minutes on two cores

The source species share none with the twelve target species that the notebooks tell apart, as
ImageNet's classes are not Flowers102's. The script draws its pictures once, 400 of each of the 72
species, trains, packs the weights into 8 bits, measures them on pictures that it never trained on,
and prints the line of the table in helpers/lib/weights.py that belongs to them.

It may be stopped at any time and started again: drawing goes on with the next species, training
with the next epoch, and the result is the same.
"""

import argparse
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18
from tqdm import tqdm

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1])]

from draw_flowers import SHORT_SIDE, SOURCE_SPECIES, draw  # noqa: E402

from helpers.lib.files import sha256  # noqa: E402
from helpers.lib.memory import keep_freed_memory  # noqa: E402
from helpers.lib.packing import pack, unpack  # noqa: E402
from helpers.pictures import normalize  # noqa: E402

SEED = 1  # of all drawing and training here; the target pictures are drawn from seed 0
TRAIN_PICTURES = 400  # of each species: the indices below it
HELD_OUT = range(1000, 1010)  # indices of the pictures that measure the weights
HELD_OUT_SIZE = 64  # pixels
BATCH_SIZE = 64


@dataclass(frozen=True)
class Plan:
    """How a network is pretrained: the picture size of each epoch, and the optimiser's numbers.

    Most of the epochs of a costly network run on smaller pictures, at about half the price.
    """

    sizes: tuple[int, ...]
    lr: float  # the highest of the run
    weight_decay: float = 0.05
    warmup: float = 0.1  # part of the run


PLANS = {
    "resnet18": Plan(sizes=(64,) * 5, lr=2e-3),
    "efficientnet_b5": Plan(sizes=(48,) * 3 + (64,), lr=2e-3),
}


def build(name: str) -> nn.Module:
    """The network with one output for each source species and random weights, channels last."""
    torch.manual_seed(SEED)
    classes = len(SOURCE_SPECIES)
    if name == "resnet18":
        model: nn.Module = resnet18(num_classes=classes)
    else:  # in so short a run nothing needs to be dropped at random
        rates = {"dropout_rate": 0, "drop_connect_rate": 0}
        model = EfficientNet.from_name("efficientnet-b5", num_classes=classes, **rates)
        model.set_swish(memory_efficient=False)  # a fifth faster, and memory is not short here
        start_as_identity(model)
    return model.to(memory_format=torch.channels_last)


def start_as_identity(model: EfficientNet) -> None:
    """Let every block that adds its input to its output begin by adding nothing.

    Goyal et al., 2017, did so for ResNet. A network of 39 blocks learns little in its first
    batches otherwise: after 60 it named 2.6 % of the training pictures, and so 14.5 %.
    """
    for block in model._blocks:
        arguments = block._block_args
        if arguments.stride == 1 and arguments.input_filters == arguments.output_filters:
            nn.init.zeros_(block._bn2.weight)


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------


def draw_square(species: int, index: int) -> np.ndarray:
    """The middle square of a picture of a source species; 3 x 80 x 80, uint8."""
    picture = draw(SOURCE_SPECIES[species], index, seed=SEED)
    top, left = ((side - SHORT_SIDE) // 2 for side in picture.shape[:2])
    return picture[top : top + SHORT_SIDE, left : left + SHORT_SIDE].transpose(2, 0, 1)


def draw_species(work: Path, species: int) -> None:
    """Write the training pictures of one species to its file below `work`, unless it is there."""
    path = work / f"species_{species:02d}.npy"
    if not path.exists():
        pictures = np.stack([draw_square(species, index) for index in range(TRAIN_PICTURES)])
        unfinished = path.with_suffix(".tmp.npy")
        np.save(unfinished, pictures)
        unfinished.replace(path)


def training_pictures(work: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All training pictures (n, 3, 80, 80), uint8, and their labels; drawn if need be."""
    work.mkdir(parents=True, exist_ok=True)
    count = len(SOURCE_SPECIES)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = pool.map(draw_species, [work] * count, range(count))
        list(tqdm(jobs, "drawing source species", count, disable=None))
    files = [np.load(work / f"species_{species:02d}.npy") for species in range(count)]
    labels = torch.arange(count).repeat_interleave(TRAIN_PICTURES)
    return torch.from_numpy(np.concatenate(files)), labels


def held_out_pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures that measure the weights, (n, 3, 64, 64), uint8, and their labels."""
    start = (SHORT_SIDE - HELD_OUT_SIZE) // 2
    middle = slice(start, start + HELD_OUT_SIZE)
    pictures = [draw_square(s, i) for s in range(len(SOURCE_SPECIES)) for i in HELD_OUT]
    labels = torch.arange(len(SOURCE_SPECIES)).repeat_interleave(len(HELD_OUT))
    return torch.from_numpy(np.stack(pictures)[:, :, middle, middle].copy()), labels


def augment(images: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """A random part of each picture, turned, mirrored and in other light; (n, 3, size, size)."""

    def between(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(images), *shape, generator=generator)

    part, angle, aspect = between(0.62, 1.0), between(-0.3, 0.3), between(0.85, 1.18).sqrt()
    mirror = between(-1, 1).sign()
    across, down = part * aspect, part / aspect
    cos, sin = angle.cos(), angle.sin()
    x, y = between(-1, 1) * (1 - part), between(-1, 1) * (1 - part)
    rows = [across * cos * mirror, -down * sin, x], [across * sin * mirror, down * cos, y]
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    grid = functional.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    pixels = images.float() / 255
    pixels = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    pixels = pixels * between(0.85, 1.15, 3, 1, 1) * between(0.85, 1.15, 1, 1, 1)
    return normalize(pixels.clamp(0, 1))


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------


def learning_rate(plan: Plan, progress: float) -> float:
    """The learning rate after the part `progress` (0-1) of the run: up in a line, down a cosine."""
    if progress < plan.warmup:
        return plan.lr * progress / plan.warmup
    return plan.lr * (1 + math.cos(math.pi * (progress - plan.warmup) / (1 - plan.warmup))) / 2


def optimizer_for(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; weights of layers decay, biases and BatchNorm do not."""
    decaying = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.lr, weight_decay=plan.weight_decay, fused=True)


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    epoch: int,
    pictures: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """One pass over all pictures; depends on the seed, the epoch and the state it starts from."""
    torch.manual_seed(SEED + epoch)
    generator = torch.Generator().manual_seed(SEED + epoch)
    batches = torch.randperm(len(pictures), generator=generator).split(BATCH_SIZE)
    model.train()
    right = seen = 0
    bar = tqdm(batches, f"epoch {epoch + 1} of {len(plan.sizes)}", mininterval=20)
    for number, batch in enumerate(bar):
        rate = learning_rate(plan, (epoch + number / len(batches)) / len(plan.sizes))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = augment(pictures[batch], plan.sizes[epoch], generator)
        logits = model(images.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right, seen = right + (logits.argmax(1) == labels[batch]).sum().item(), seen + len(batch)
        if number % 50 == 49:
            bar.set_postfix_str(f"train accuracy {right / seen:.1%}", refresh=False)
            right = seen = 0


def accuracy(model: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of uint8 pictures (n, 3, size, size) that the model names rightly, in eval mode."""
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(normalize(batch)) for batch in pictures.split(BATCH_SIZE)])
    return (logits.argmax(1) == labels).float().mean().item()


def pretrain(name: str, work: Path) -> nn.Module:
    """Train a network by its plan, going on from the last finished epoch if there is one."""
    plan, model = PLANS[name], build(name)
    optimizer = optimizer_for(model, plan)
    checkpoint, done = work / f"{name}.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["epochs"]
        print(f"{done} epochs of {name} are done already, in {checkpoint}")
    pictures, labels = training_pictures(work)
    held_out = held_out_pictures()
    for epoch in range(done, len(plan.sizes)):
        started = time.perf_counter()
        train_epoch(model, optimizer, plan, epoch, pictures, labels)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        unfinished = checkpoint.with_suffix(".tmp")
        torch.save(state | {"epochs": epoch + 1}, unfinished)
        unfinished.replace(checkpoint)
        minutes = (time.perf_counter() - started) / 60
        score = accuracy(model, *held_out)
        print(f"epoch {epoch + 1}: held-out {score:.1%}, {minutes:.1f} min", flush=True)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Pretrain one network, pack its weights and print what they reach; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=PLANS)
    parser.add_argument("--out", type=Path, default=_HERE / "weights", help="folder of the result")
    parser.add_argument(
        "--work", type=Path, default=_HERE / "work", help="folder of drawings and checkpoints"
    )
    options = parser.parse_args(arguments)
    keep_freed_memory()
    model = pretrain(options.network, options.work)
    path = options.out / f"{options.network}.npz"
    options.out.mkdir(parents=True, exist_ok=True)
    pack(model.state_dict(), path)
    model.load_state_dict(unpack(path))
    score = accuracy(model, *held_out_pictures())
    print(f'"{options.network}": DrawnWeights("{path.name}", "{sha256(path)}", {score:.4f}),')
    return 0


if __name__ == "__main__":
    sys.exit(main())
