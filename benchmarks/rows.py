"""Rows of the table, made of what both sides measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.kit_way import epoch_seconds, seconds_until, training_seconds
from benchmarks.measure import median
from benchmarks.plan import Bench
from benchmarks.report import Row
from helpers.data import Data
from helpers.errors import KitError
from helpers.training import TrainingRun

TUTORIAL, KIT = "the tutorial way", "the kit"
History = list[dict[str, float]]


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
