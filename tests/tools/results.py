"""Results made from hits and misses, without any training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from helpers.results import Result
from helpers.scores import accuracy_interval


def made_result(
    method: str,
    hits: Sequence[bool],
    *,
    classes: int = 2,
    ids: Sequence[str] | None = None,
    note: str = "",
    fingerprint: str = "f" * 64,
    place: int = 1,
) -> Result:
    """A result whose test pictures are of the classes in turn; a miss says the next class.

    `place` makes the other numbers of the record differ from one result to the next.
    """
    right = torch.tensor(list(hits))
    labels = torch.arange(len(right)) % classes
    correct, total = int(right.sum()), len(right)
    row = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "learning_rate": 0.1,
           "training_seconds": 1.0 * place, "loading_seconds": 0.5,
           "evaluation_seconds": 0.1}  # fmt: skip
    record = {
        "method": method,
        "data": {"name": "vectors", "note": note, "fingerprint": fingerprint, "classes": classes},
        "val": {"accuracy": 0.2 * place, "epoch": 2},
        "test": {"correct": correct, "total": total, "accuracy": correct / total,
                 "interval": list(accuracy_interval(correct, total))},
        "epochs": 3,
        "first_loss": 0.7,
        "seconds": {"training": 3.0 * place, "loading": 1.5, "evaluation": 0.3, "features": 0.0},
        "training_seconds": 3.0 * place + 1.5,
        "weights": {"kind": "random", "source": "random"},
        "parameters": {"total": 1000 * place, "trainable": 100 * place},
        "history": [{**row, "epoch": epoch, "val_accuracy": 0.2 * epoch} for epoch in (1, 2, 3)],
    }  # fmt: skip
    names = [f"class {label}" for label in range(classes)]
    predictions = torch.where(right, labels, (labels + 1) % classes)
    ids, sure = list(ids or map(str, range(total))), torch.linspace(0.5, 1, total)
    return Result(record, ids, labels, predictions, sure, names)
