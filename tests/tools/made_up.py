"""Small made-up results and notebooks for the tests of what reads them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat import v4

from helpers.lib.files import sha256, write_json, write_text
from helpers.recipes import METHODS
from helpers.results import SCHEMA, predictions_csv
from helpers.scores import Score

CLASS_NAMES = ["rose", "iris", "lily", "aloe"]


def write_result(
    results_dir: Path,
    method: str,
    *,
    student: str | None = "s1234567",
    profile: str = "mini",
    right: float = 0.7,
    fingerprint: str = "abc",
) -> Path:
    """Write a result of 40 pictures in 4 classes as `save_result` does; returns its folder."""
    folder = results_dir / method
    score = _score(random.Random(method), right)
    write_text(folder / "predictions.csv", predictions_csv(score, CLASS_NAMES))
    record = _record(folder, method, score, student, profile)
    record["data"]["fingerprint"] = fingerprint
    write_json(folder / "record.json", record)
    return folder


def _score(chance: random.Random, right: float) -> Score:
    labels = torch.arange(40) % 4
    hits = torch.tensor([chance.random() < right for _ in range(40)])
    predictions = torch.where(hits, labels, (labels + 1) % 4)
    correct = int(hits.sum())
    return Score(
        correct=correct,
        total=40,
        loss=0.9,
        top5=1.0,
        per_class=torch.full((4,), correct / 40),
        labels=labels,
        predictions=predictions,
        probabilities=torch.nn.functional.one_hot(predictions, 4).float(),
        ids=[f"image_{number:05d}" for number in range(40)],
        seconds=0.5,
    )


def _record(
    folder: Path, method: str, score: Score, student: str | None, profile: str
) -> dict[str, Any]:
    order = [*METHODS, method].index(method) + 1
    return {
        "schema": SCHEMA,
        "method": method,
        "profile": profile,
        "student": student,
        "seed": 1,
        "finished": "2026-01-02T03:04:05+00:00",
        "data": {
            "name": "Flowers102 (drawn)",
            "note": "drawn flowers (mini profile), not photographs",
            "fingerprint": "abc",
            "classes": 4,
            "class_names": CLASS_NAMES,
            "normalization": None,
            "sizes": {"train": 40, "val": 40, "test": 40},
        },
        "val": {"accuracy": score.accuracy, "epoch": 2},
        "test": {
            "correct": score.correct,
            "total": score.total,
            "accuracy": score.accuracy,
            "interval": list(score.interval),
            "top5": score.top5,
            "loss": score.loss,
            "seconds": score.seconds,
        },
        "epochs": 3,
        "first_loss": 1.4,
        "seconds": {"training": 3.0, "loading": 1.0, "evaluation": 1.0, "features": 0.0},
        "training_seconds": 4.0 * order,
        "weights": {"kind": "made up", "source": "made-up weights"},
        "parameters": {"total": 1000 * order, "trainable": 100 * order},
        "input_shape": [3, 64, 64],
        "settings": {"criterion": "CrossEntropyLoss", "optimizer": "SGD", "batch_size": 16},
        "recipe": {"method": method, "profile": profile, "size": 64, "num_epochs": 3},
        "machine": {
            "device": "cpu",
            "device_name": "a processor",
            "threads": 2,
            "processes": 1,
            "precision": "float32",
            "system": "Linux",
        },
        "versions": {"python": "3.10", "torch": "2.6", "torchvision": "0.21"},
        "history": [_epoch(number) for number in (1, 2, 3)],
        "files": {"predictions.csv": sha256(folder / "predictions.csv")},
    }


def _epoch(number: int) -> dict[str, float]:
    return {
        "epoch": number,
        "train_loss": 2.0 / number,
        "train_accuracy": 0.2 * number,
        "val_loss": 2.1 / number,
        "val_accuracy": 0.2 * number,
        "learning_rate": 0.1,
        "training_seconds": 1.0,
        "loading_seconds": 0.3,
        "evaluation_seconds": 0.3,
    }


def write_notebook(folder: Path, name: str, *sources: str) -> Path:
    """Write a notebook, not executed, with a title and these code cells; returns its path."""
    cells = [v4.new_markdown_cell(f"# {name}"), *map(v4.new_code_cell, sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / f"{name}.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path
