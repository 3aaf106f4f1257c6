"""The cases: what is timed against what. Each yields its rows; `CASES` is the list of them.

A new case is a generator function of a `Bench` and its place in `CASES`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import helpers
from coursekit.notebooks import notebook_paths
from coursekit.train.train import FEATURE_VIEWS
from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.files import read_json, write_json
from helpers.models import in_eval_mode
from helpers.recipes import Recipe
from helpers.training import TrainingRun, memory_format
from helpers.workspace import find_workspace

from . import kit_way, tutorial_way
from .kit_way import epoch_seconds, seconds_until, training_seconds
from .measure import (
    MATRIX_SIDE,
    fresh_process,
    in_turn,
    machine_facts,
    matrix_rate,
    median,
    peak_memory,
    peak_memory_of,
    precision_name,
    training_flops,
)
from .plan import Bench, Plan, few_pictures, nothing_decoded, open_bench
from .report import Row
from .tutorial_way import BN_CNN_ACCURACY, BN_CNN_EPOCHS, NUM_EPOCHS

TUTORIAL, KIT = "the tutorial way", "the kit"
TOLERANCE = 1e-3  # by which the outputs of two ways to run one network may differ, in float32
MINI_MEMORY = 2e9  # bytes that a notebook on the mini profile may take
CURVES = Path(__file__).parent  # where --in-full records how the tutorial way learns
History = list[dict[str, float]]


def extractor(bench: Bench) -> Iterator[Row]:
    """25 epochs of a frozen ResNet18, against the kit from picture files to val accuracy"""
    data = bench.data(bench.recipe("resnet18_extractor"))
    start = kit_way.resnet18(bench, data)
    train = tutorial_resnet18(bench, data, start, frozen=True)
    kit_sides = {
        f"{views} view{'s' * (views > 1)}": from_files(kit_way.extractor, bench, views)
        for views in (1, FEATURE_VIEWS)
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
    theirs, kit = epochs_in_turn(bench, train, one_epoch(bench, recipe, start, data, head="fc"))
    yield speed_row("finetune", "ResNet18, training", data, theirs, kit, aim=2.5)
    if bench.plan.quick:
        return
    curve = tutorial_curve(bench, "finetune", data, kit_way.resnet18(bench, data))
    if curve is None:
        raise KitError(
            "how well the tutorial way learns these pictures from these weights is not recorded, "
            "so there is no best val accuracy to reach: run `--cases finetune --in-full` once"
        )
    reached, kit = best(curve), timed(from_files(kit_way.finetune, bench))
    epoch, accuracy = median(map(tutorial_epoch, theirs)), reached["val_accuracy"]
    # Which epoch was the best is known when all have run; the second row forgives them the rest.
    for number, aim in ((len(curve["history"]), 20), (int(reached["epoch"]), None)):
        seconds, how = tutorial_seconds(bench, curve, epoch, number)
        yield time_row(
            "finetune",
            f"from picture files to {accuracy:.1%} val, {TUTORIAL}'s best",
            f"{TUTORIAL}, {number} epochs" + " to its best" * (aim is None),
            seconds,
            *kit,
            accuracy=accuracy,
            aim=aim,
            how=how,
        )


def bn_cnn(bench: Bench) -> Iterator[Row]:
    """the published CNN of 180 M parameters at 224 pixels, against the kit's BN-CNN"""
    recipe = bench.recipe("bn_cnn")
    data = bench.data(recipe)
    torch.manual_seed(bench.workspace.seed)
    published = helpers.newnet(data.num_classes, device="cpu")
    train = tutorial_way.prepare(
        published, data, bench.workspace.device, size=tutorial_way.SIZE, phases=["train"]
    )
    ours = helpers.bn_cnn(data.num_classes)
    theirs, kit = epochs_in_turn(bench, train, one_epoch(bench, recipe, ours, data))
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
        ours = helpers.efficientnet_b5(data.num_classes, pretrained="drawn")
        published = tutorial_way.efficientnet_b5(ours.state_dict(), data.num_classes)
        difference = largest_difference(bench, published, ours, next(iter(data.val))[0])
        train = tutorial_way.prepare(published, data, bench.workspace.device, size=data.size)
        theirs, kit = epochs_in_turn(bench, train, one_epoch(bench, recipe, ours, data, head="_fc"))
        row = speed_row("b5", "EfficientNet-B5, training", data, theirs, kit, aim=1.5)
        text = f"{row.how}. In float32 the outputs of both ways differ by {difference:.0e} at most"
        details = {**row.details, "largest_difference": difference}
        yield dataclasses.replace(row, how=text, details=details)


def rate(bench: Bench) -> Iterator[Row]:
    """the share of the machine's matrix-product rate that training ResNet18 at 224 reaches"""
    device, precision = bench.workspace.device, bench.workspace.precision
    recipe = helpers.get_recipe("resnet18_finetune", "full")
    data = bench.data(recipe)
    model = kit_way.resnet18(bench, data)
    flops = training_flops(model, data.size)
    side = 1024 if bench.plan.quick else MATRIX_SIDE
    laps = in_turn(
        {
            "matrix products": lambda: matrix_rate(device, precision, side=side),
            KIT: one_epoch(bench, recipe, model, data, head="fc"),
        },
        rounds=bench.plan.rounds,
    )
    seconds = median(training_seconds(lap.value)[0] for lap in laps[KIT])
    machine = median(lap.value for lap in laps["matrix products"])
    reached = flops * data.sizes["train"] / seconds
    yield Row(
        case="rate",
        what=f"ResNet18 at {data.size} pixels, training",
        against=f"torch.matmul of {side:,} x {side:,} in {precision_name(precision)}",
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


def tutorial_resnet18(
    bench: Bench, data: Data, start: nn.Module, *, frozen: bool = False
) -> tutorial_way.Train:
    """The tutorial way on ResNet18, from the same weights as the kit's `start`."""
    torch.manual_seed(bench.workspace.seed)
    model = tutorial_way.resnet18(start.state_dict(), data.num_classes, frozen=frozen)
    return tutorial_way.prepare(model, data, bench.workspace.device, size=data.size)


def one_epoch(
    bench: Bench, recipe: Recipe, model: nn.Module, data: Data, *, head: str = ""
) -> Callable[[], TrainingRun]:
    """The kit's training as a side: each call trains `model` for an epoch more."""
    recipe = dataclasses.replace(recipe, num_epochs=1)
    return functools.partial(kit_way.train, bench, recipe, model, data, head=head)


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


def tutorial_epoch(row: dict[str, float]) -> float:
    """Seconds of one of the tutorial's epochs, with its validation."""
    return row["train_seconds"] + row["val_seconds"]


def speed_row(
    case: str,
    what: str,
    data: Data,
    theirs: History,
    kit: Sequence[TrainingRun],
    *,
    aim: float | None = None,
) -> Row:
    """Training pictures a second of both sides, loading included and validation not."""
    pictures = data.sizes["train"]
    their_seconds = median(row["train_seconds"] for row in theirs)
    kit_seconds = median(training_seconds(run)[0] for run in kit)
    return Row(
        case=case,
        what=what,
        against=TUTORIAL,
        theirs=pictures / their_seconds,
        kit=pictures / kit_seconds,
        unit="pictures/s",
        ratio=their_seconds / kit_seconds,
        aim=aim,
        how=f"{pictures:,} pictures an epoch at {data.size} pixels (the kit), training and "
        "loading, without validation; the kit has decoded its pictures in the warm-up",
        details={
            "tutorial_epochs": theirs,
            "kit_epoch_seconds": [epoch_seconds(run)[0] for run in kit],
        },
    )


def timed(side: Callable[[], TrainingRun]) -> tuple[TrainingRun, float]:
    """What a side returns, and its seconds."""
    began = time.perf_counter()
    return side(), time.perf_counter() - began


def time_row(
    case: str,
    what: str,
    against: str,
    theirs: float,
    run: TrainingRun,
    elapsed: float,
    *,
    accuracy: float,
    aim: float | None,
    how: str,
) -> Row:
    """Seconds to a val accuracy. Raises `KitError` when the kit did not reach it."""
    seconds = seconds_until(run, accuracy, elapsed)
    if seconds is None:
        raise KitError(
            f"the kit's run did not reach {accuracy:.1%} val: its best was "
            f"{run.best_val_accuracy:.1%}, in epoch {run.best_epoch} of {run.num_epochs}"
        )
    return Row(
        case=case,
        what=what,
        against=against,
        theirs=theirs,
        kit=seconds,
        unit="s",
        ratio=theirs / seconds,
        aim=aim,
        how=f"{TUTORIAL}: {how}; the kit's own recipe was run once, {elapsed:.0f} s to its end "
        f"and {run.best_val_accuracy:.1%} val",
        details={"kit_history": run.history, "kit_seconds": elapsed},
    )


def multiple_row(
    case: str,
    what: str,
    against: str,
    theirs: float,
    kit: float,
    *,
    unit: str,
    how: str,
    aim: float | None = None,
    details: dict[str, Any] | None = None,
) -> Row:
    """A cost of the kit as a multiple of something: less is better."""
    return Row(
        case=case,
        what=what,
        against=against,
        theirs=theirs,
        kit=kit,
        unit=unit,
        ratio=kit / theirs,
        how=how,
        aim=aim,
        lower_is_better=True,
        details=details or {},
    )


def tutorial_curve(
    bench: Bench, case: str, data: Data, start: nn.Module, *, frozen: bool = False
) -> dict[str, Any] | None:
    """How the tutorial way learns in 25 epochs: run and recorded with --in-full, else read.

    None in a quick run, and when no record is of the same pictures and weights.
    """
    path = CURVES / f"tutorial_{case}.json"
    subject = {
        "fingerprint": data.fingerprint,
        "weights": getattr(start, "weights_source", "unknown"),
    }
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


def best(curve: dict[str, Any]) -> dict[str, float]:
    """The epoch with the highest val accuracy; of equals, the first."""
    return max(curve["history"], key=lambda row: row["val_accuracy"])


def tutorial_seconds(
    bench: Bench, curve: dict[str, Any], epoch: float, number: int
) -> tuple[float, str]:
    """Seconds the tutorial way takes for its first `number` epochs, and how they were found.

    `epoch` are the seconds of one of its epochs, measured in this run.
    """
    if bench.plan.in_full:
        return sum(map(tutorial_epoch, curve["history"][:number])), "all 25 epochs were run"
    return number * epoch, (
        f"one epoch, measured ({epoch:.1f} s), TIMES {number}; its accuracies are those of the "
        f"run recorded on {curve['machine']['date'][:10]}"
    )


def accuracy_text(bench: Bench, run: TrainingRun, curve: dict[str, Any] | None) -> str:
    """The val accuracies of both sides, as far as they are known."""
    if bench.plan.quick:
        return "No accuracy was measured"
    text = f"Val accuracy of the kit {run.best_val_accuracy:.1%}"
    if curve is None:
        return f"{text}; that of {TUTORIAL} after 25 epochs is not known (--in-full)"
    return f"{text}, of {TUTORIAL} {best(curve)['val_accuracy']:.1%} (best of 25 epochs)"


@torch.no_grad()  # not inference_mode: what it moves to the device could not be trained any more
def largest_difference(
    bench: Bench, published: nn.Module, ours: nn.Module, images: torch.Tensor
) -> float:
    """The largest difference of two networks' logits on the same pictures, in float32.

    As called in the tutorial, and in the memory order that the kit trains in. Raises `KitError`
    when they differ by more than `TOLERANCE`: they would not be the same network.
    """
    device = bench.workspace.device
    order = memory_format(device)
    published.to(device)
    ours.to(device, memory_format=order)
    with in_eval_mode(published), in_eval_mode(ours):
        expected = published(images.to(device))
        got = ours(images.to(device, memory_format=order))
    difference = float((expected - got).abs().max())
    if difference > TOLERANCE * min(1.0, float(expected.abs().max())):
        raise KitError(f"the two ways to run B5 differ by {difference:.1e} in their outputs")
    return difference


def seconds_of(statement: str) -> float:
    """Seconds that a statement takes in a process of its own."""
    code = f"import time; began = time.perf_counter(); {statement}"
    return float(fresh_process(f"{code}; print(time.perf_counter() - began)"))


def ask(bench: Bench, task: str) -> Any:
    """Carry out a task of `TASKS` in a process of its own; returns what it answers."""
    code = "import sys; from benchmarks.cases import answer; answer(*sys.argv[1:])"
    return json.loads(fresh_process(code, task, json.dumps(dataclasses.asdict(bench.plan))))


def answer(task: str, plan: str) -> None:
    """The other end of `ask`: print the answer as the last line."""
    print(json.dumps(TASKS[task](Plan(**json.loads(plan)))))


def first_epochs(plan: Plan) -> list[float]:
    """Seconds of the kit's first epochs in this process."""
    return epoch_seconds(from_files(kit_way.finetune, open_bench(plan), 1 + plan.rounds)())


def kit_memory(plan: Plan) -> int:
    """Peak bytes of this process after an epoch of the kit."""
    from_files(kit_way.finetune, open_bench(plan), 1)()
    return peak_memory()


def tutorial_memory(plan: Plan) -> int:
    """Peak bytes of this process after an epoch of the tutorial way, memory handled as usual."""
    bench = Bench(find_workspace(profile=plan.profile), plan)  # no start(): it keeps freed memory
    data = bench.data(bench.recipe("resnet18_finetune"))
    tutorial_resnet18(bench, data, kit_way.resnet18(bench, data))(1)
    return peak_memory()


TASKS: dict[str, Callable[[Plan], Any]] = {
    task.__name__: task for task in (first_epochs, kit_memory, tutorial_memory)
}
