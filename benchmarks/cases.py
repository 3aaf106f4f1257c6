"""The cases: what is timed against what. Each yields its rows; `CASES` is the list of them.

A new case is a generator function of a `Bench` and its place in `CASES`.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import helpers
from benchmarks import kit_way, tutorial_way
from benchmarks.kit_way import training_seconds
from benchmarks.measure import (
    MATRIX_SIDE,
    in_turn,
    matrix_rate,
    median,
    peak_memory_of,
    training_flops,
)
from benchmarks.plan import Bench, few_pictures
from benchmarks.report import Row
from benchmarks.rows import (
    KIT,
    TUTORIAL,
    accuracy_text,
    best,
    multiple_row,
    speed_row,
    time_row,
    tutorial_epoch,
    tutorial_seconds,
)
from benchmarks.sides import (
    epochs_in_turn,
    from_files,
    largest_difference,
    one_epoch,
    seconds_of,
    timed,
    tutorial_curve,
    tutorial_resnet18,
)
from benchmarks.tasks import ask
from benchmarks.tutorial_way import BN_CNN_ACCURACY, BN_CNN_EPOCHS, NUM_EPOCHS
from coursekit.notebooks import notebook_paths
from coursekit.train import networks
from helpers.errors import KitError
from helpers.lib.devices import name_of
from helpers.recipes import METHODS

MINI_MEMORY = 2e9  # bytes that a notebook on the mini profile may take


def extractor(bench: Bench) -> Iterator[Row]:
    """25 epochs of a frozen ResNet18, against the kit from picture files to val accuracy"""
    data = bench.data(bench.recipe("resnet18_extractor"))
    start = kit_way.resnet18(bench, data)
    train = tutorial_resnet18(bench, data, start, frozen=True)
    kit_sides = {
        f"{views} view{'s' * (views > 1)}": from_files(kit_way.extractor, bench, views)
        for views in (1, METHODS["resnet18_extractor"].views)
    }
    laps = in_turn({TUTORIAL: lambda: train(1)[0], **kit_sides}, rounds=bench.plan.rounds)
    epoch = median(tutorial_epoch(lap.value) for lap in laps.pop(TUTORIAL))
    curve = tutorial_curve(bench, "extractor", data, start, frozen=True)
    theirs, how = NUM_EPOCHS * epoch, f"one epoch, measured ({epoch:.2f} s), TIMES {NUM_EPOCHS}"
    if curve is not None and bench.plan.in_full:
        theirs, how = curve["seconds"], f"all {NUM_EPOCHS} epochs were run"
    for views, kit in laps.items():
        seconds = median(lap.seconds for lap in kit)
        yield Row(
            case="extractor",
            what=f"from picture files to the final val accuracy, {views} of a training picture",
            against=f"{TUTORIAL}, {NUM_EPOCHS} epochs",
            theirs=theirs,
            kit=seconds,
            unit="s",
            ratio=theirs / seconds,
            aim=30,
            how=f"{TUTORIAL}: {how}; the kit's whole path, {views}, was measured. "
            + accuracy_text(bench, kit[-1].value, curve),
            details={
                "tutorial_epoch_seconds": epoch,
                "val_accuracy": None if bench.plan.quick else kit[-1].value.best_val_accuracy,
                "tutorial_val_accuracy": None if curve is None else best(curve)["val_accuracy"],
            },
        )


def finetune(bench: Bench) -> Iterator[Row]:
    """ResNet18 fine-tuned: pictures a second, and time to the tutorial way's best val accuracy"""
    recipe = bench.recipe("resnet18_finetune")
    data = bench.data(recipe)
    start = kit_way.resnet18(bench, data)
    train = tutorial_resnet18(bench, data, start)
    theirs, kit = epochs_in_turn(bench, train, one_epoch(recipe, start, data, head="fc"))
    yield speed_row("finetune", "ResNet18, training", data, theirs, kit, aim=2.5)
    if bench.plan.quick:
        return
    curve = tutorial_curve(bench, "finetune", data, kit_way.resnet18(bench, data))
    if curve is None:
        raise KitError(
            "how well the tutorial way learns these pictures from these weights is not recorded, "
            "so there is no best val accuracy to reach: run `--cases finetune --in-full` once"
        )
    reached, run = best(curve), timed(from_files(kit_way.finetune, bench))
    epoch, accuracy = median(map(tutorial_epoch, theirs)), reached["val_accuracy"]
    # Which epoch was the best is known when all have run; the second row forgives them the rest.
    for number, aim in ((len(curve["history"]), 20), (int(reached["epoch"]), None)):
        seconds, how = tutorial_seconds(bench, curve, epoch, number)
        yield time_row(
            "finetune",
            f"from picture files to {accuracy:.1%} val, {TUTORIAL}'s best",
            f"{TUTORIAL}, {number} epochs" + " to its best" * (aim is None),
            seconds,
            *run,
            accuracy=accuracy,
            aim=aim,
            how=how,
        )


def bn_cnn(bench: Bench) -> Iterator[Row]:
    """the published CNN of 180 M parameters at 224 pixels, against the kit's BN-CNN"""
    recipe = bench.recipe("bn_cnn")
    data = bench.data(recipe)
    torch.manual_seed(bench.workspace.seed)
    published = tutorial_way.published_cnn(data.num_classes)
    train = tutorial_way.prepare(
        published, data, bench.workspace.device, size=tutorial_way.SIZE, phases=["train"]
    )
    ours = networks.bn_cnn(data.num_classes)
    theirs, kit = epochs_in_turn(bench, train, one_epoch(recipe, ours, data))
    sizes = f"CNN of 180 M parameters at 224 pixels and of 0.4 M at {data.size}, training"
    yield speed_row("bn_cnn", sizes, data, theirs, kit)
    if bench.plan.quick:
        return
    epoch = median(row["train_seconds"] for row in theirs)
    del train, published  # 3 GB
    yield time_row(
        "bn_cnn",
        f"from picture files to {BN_CNN_ACCURACY:.1%} val",
        f"{TUTORIAL}, {BN_CNN_EPOCHS} epochs",
        BN_CNN_EPOCHS * epoch,
        *timed(from_files(kit_way.bn_cnn, bench)),
        accuracy=BN_CNN_ACCURACY,
        aim=10,
        how=f"one epoch of training alone was measured ({epoch:.1f} s), TIMES the "
        f"{BN_CNN_EPOCHS} epochs after which that accuracy was published",
    )


def b5(bench: Bench) -> Iterator[Row]:
    """EfficientNet-B5: the same network called as in the tutorial and by the kit"""
    with tempfile.TemporaryDirectory() as folder:
        if not bench.plan.quick:  # a picture a class: they are slow
            one = {"train": 1, "val": 1, "test": 1}
            bench = bench.on(few_pictures(bench, Path(folder), one))
        recipe = bench.recipe("efficientnet_b5_finetune")
        data = bench.data(recipe)
        torch.manual_seed(bench.workspace.seed)
        # Trained weights: through random ones, all pictures come out as good as equal.
        ours, _ = networks.build_network("efficientnet_b5_finetune", data.num_classes, "drawn")
        published = tutorial_way.efficientnet_b5(ours.state_dict(), data.num_classes)
        difference = largest_difference(bench, published, ours, next(iter(data.val))[0])
        train = tutorial_way.prepare(published, data, bench.workspace.device, size=data.size)
        theirs, kit = epochs_in_turn(bench, train, one_epoch(recipe, ours, data, head="_fc"))
        row = speed_row("b5", "EfficientNet-B5, training", data, theirs, kit, aim=1.5)
        text = f"{row.how}. In float32 the outputs of both ways differ by {difference:.0e} at most"
        details = {**row.details, "largest_difference": difference}
        yield dataclasses.replace(row, how=text, details=details)


def rate(bench: Bench) -> Iterator[Row]:
    """the fraction of the machine's matrix-product rate that training ResNet18 at 224 reaches"""
    device, precision = bench.workspace.device, bench.workspace.precision
    recipe = helpers.get_recipe("resnet18_finetune", "full")
    data = bench.data(recipe)
    model = kit_way.resnet18(bench, data)
    flops = training_flops(model, data.size)
    side = 1024 if bench.plan.quick else MATRIX_SIDE
    laps = in_turn(
        {
            "matrix products": lambda: matrix_rate(device, precision, side=side),
            KIT: one_epoch(recipe, model, data, head="fc"),
        },
        rounds=bench.plan.rounds,
    )
    seconds = median(training_seconds(lap.value)[0] for lap in laps[KIT])
    machine = median(lap.value for lap in laps["matrix products"])
    reached = flops * data.sizes["train"] / seconds
    yield Row(
        case="rate",
        what=f"ResNet18 at {data.size} pixels, training",
        against=f"torch.matmul of {side:,} x {side:,} in {name_of(precision)}",
        theirs=machine / 1e9,
        kit=reached / 1e9,
        unit="GFLOP/s",
        ratio=reached / machine,
        aim=0.7,
        how=f"{flops / 1e9:.2f} GFLOP a picture (forward, and twice that for backward) times "
        f"{data.sizes['train']:,} pictures in {seconds:.2f} s of training and loading",
        details={"flops_per_picture": flops, "seconds": seconds},
    )


def start(bench: Bench) -> Iterator[Row]:
    """`import helpers; helpers.start()` against `import torch, torchvision`, in new processes"""
    theirs, ours = "import torch, torchvision", "import helpers; helpers.start()"
    sides = {code: functools.partial(seconds_of, code) for code in (theirs, ours)}
    laps = in_turn(sides, rounds=bench.plan.rounds)
    yield multiple_row(
        "start",
        f"`{ours}`",
        f"`{theirs}`",
        median(lap.value for lap in laps[theirs]),
        median(lap.value for lap in laps[ours]),
        unit="s",
        aim=1.5,
        how="each statement in a process of its own, without the start of Python",
    )


def first_epoch(bench: Bench) -> Iterator[Row]:
    """the first epoch of a new process against its later ones: decoding, fresh memory"""
    first, *later = ask(bench, "first_epochs")
    yield multiple_row(
        "first_epoch",
        "ResNet18 fine-tuned by the kit, first epoch",
        "later epochs",
        median(later),
        first,
        unit="s",
        aim=1.3,
        how=f"one new process; the first epoch, which decodes, and the median of {len(later)} more",
    )


def memory(bench: Bench) -> Iterator[Row]:
    """peak memory of fine-tuning ResNet18, each side in a new process"""
    yield multiple_row(
        "memory",
        "peak memory of fine-tuning ResNet18",
        TUTORIAL,
        ask(bench, "tutorial_memory") / 1e9,
        ask(bench, "kit_memory") / 1e9,
        unit="GB",
        how="the peak of the resident set of a new process after an epoch with its validation; "
        f"the {tutorial_way.NUM_WORKERS} loader workers of {TUTORIAL} are NOT counted",
    )


def notebooks(bench: Bench) -> Iterator[Row]:
    """peak memory of the notebooks on the mini profile, each in a new kernel"""
    numbers = [name[:2] for name in notebook_paths()]
    run = [sys.executable, "-m", "coursekit", "run", "--profile", "mini", "--notebooks"]
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers[:1] if bench.plan.quick else numbers:
            peaks[number] = peak_memory_of([*run, number], KIT_RESULTS=folder) / 1e9
            print(f"  notebook {number:<28} {peaks[number]:.2f} GB")
    largest = max(peaks, key=peaks.__getitem__)
    yield multiple_row(
        "notebooks",
        f"peak memory of a notebook on mini, the largest of {len(peaks)} ({largest})",
        "its limit",
        MINI_MEMORY / 1e9,
        peaks[largest],
        unit="GB",
        aim=1,
        how="the peak of the resident set of the kernel, from its start to the last cell",
        details={"peak_gb": peaks},
    )


CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    case.__name__: case
    for case in (extractor, finetune, rate, bn_cnn, b5, start, first_epoch, memory, notebooks)
}
