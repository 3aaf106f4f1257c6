"""The two sides of a comparison as functions that can be called in turn."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import kit_way, tutorial_way
from benchmarks.measure import fresh_process, in_turn, machine_facts
from benchmarks.plan import Bench, nothing_decoded
from benchmarks.rows import KIT, TUTORIAL, History, tutorial_epoch
from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.devices import move_images, move_model
from helpers.lib.files import read_json, write_json
from helpers.lib.modes import in_eval_mode
from helpers.recipes import Recipe
from helpers.training import TrainingRun

TOLERANCE = 1e-3  # by which the outputs of two ways to run one network may differ, in float32
CURVES = Path(__file__).parent  # where --in-full records how the tutorial way learns


def tutorial_resnet18(
    bench: Bench, data: Data, start: nn.Module, *, frozen: bool = False
) -> tutorial_way.Train:
    """The tutorial way on ResNet18, from the same weights as the kit's `start`."""
    torch.manual_seed(bench.workspace.seed)
    model = tutorial_way.resnet18(start.state_dict(), data.num_classes, frozen=frozen)
    return tutorial_way.prepare(model, data, bench.workspace.device, size=data.size)


def one_epoch(
    recipe: Recipe, model: nn.Module, data: Data, *, head: str = ""
) -> Callable[[], TrainingRun]:
    """The kit's training as a side: each call trains `model` for an epoch more."""
    recipe = dataclasses.replace(recipe, num_epochs=1)
    return functools.partial(kit_way.train, recipe, model, data, head=head)


def from_files(
    way: Callable[..., TrainingRun], bench: Bench, *arguments: int
) -> Callable[[], TrainingRun]:
    """One of the kit's ways as a side that begins with picture files: nothing is decoded yet."""

    def side() -> TrainingRun:
        with nothing_decoded(bench) as fresh:
            return way(fresh, *arguments)

    return side


def epochs_in_turn(
    bench: Bench, train: tutorial_way.Train, kit: Callable[[], TrainingRun]
) -> tuple[History, list[TrainingRun]]:
    """An epoch of each side in turn; returns what each round's epoch was like."""
    laps = in_turn({TUTORIAL: lambda: train(1)[0], KIT: kit}, rounds=bench.plan.rounds)
    return [lap.value for lap in laps[TUTORIAL]], [lap.value for lap in laps[KIT]]


def timed(side: Callable[[], TrainingRun]) -> tuple[TrainingRun, float]:
    """What a side returns, and its seconds."""
    began = time.perf_counter()
    return side(), time.perf_counter() - began


def tutorial_curve(
    bench: Bench, case: str, data: Data, start: nn.Module, *, frozen: bool = False
) -> dict[str, Any] | None:
    """How the tutorial way learns in 25 epochs: run and recorded with --in-full, else read.

    None in a quick run, and when no record is of the same pictures and weights.
    """
    path = CURVES / f"tutorial_{case}.json"
    subject = {"fingerprint": data.fingerprint, "weights": bench.weights}
    if bench.plan.quick:
        return None
    if bench.plan.in_full:
        history = tutorial_resnet18(bench, data, start, frozen=frozen)()
        curve = {"case": case, **subject, "machine": machine_facts(bench.workspace)}
        # Without the seconds, which are those of one day: later runs measure an epoch of their own.
        write_json(path, {**curve, "history": [without_seconds(row) for row in history]})
        return {**curve, "seconds": sum(map(tutorial_epoch, history)), "history": history}
    if not path.exists():
        return None
    curve = read_json(path)
    return curve if subject.items() <= curve.items() else None


def without_seconds(row: dict[str, float]) -> dict[str, float]:
    """What an epoch taught, and not how long it took."""
    return {name: value for name, value in row.items() if not name.endswith("_seconds")}


@torch.no_grad()  # not inference_mode: what it moves to the device could not be trained any more
def largest_difference(
    bench: Bench, published: nn.Module, ours: nn.Module, images: torch.Tensor
) -> float:
    """The largest difference of two networks' logits on the same pictures, in float32.

    As called in the tutorial, and in the memory order that the kit trains in. Raises `KitError`
    when they differ by more than `TOLERANCE`: they would not be the same network.
    """
    device = bench.workspace.device
    published.to(device)
    move_model(ours, device)
    with in_eval_mode(published), in_eval_mode(ours):
        expected = published(images.to(device))
        got = ours(move_images(images, device))
    difference = float((expected - got).abs().max())
    if difference > TOLERANCE * min(1.0, float(expected.abs().max())):
        raise KitError(f"the two ways to run B5 differ by {difference:.1e} in their outputs")
    return difference


def seconds_of(statement: str) -> float:
    """Seconds that a statement takes in a process of its own."""
    code = f"import time; began = time.perf_counter(); {statement}"
    return float(fresh_process(f"{code}; print(time.perf_counter() - began)"))
