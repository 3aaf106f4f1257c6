"""What a run leaves behind: a record, its predictions and its weights; and their comparison."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import importlib.metadata
import io
import itertools
import math
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from scipy import stats
from torch import nn

from .data import Data, DataSet
from .kit.checkpoints import check_finished
from .kit.errors import KitError
from .kit.files import json_text, only_writer, read_json, save_tensors, sha256, written_atomically
from .kit.identity import kit_version
from .kit.records import record_fault
from .models import count_parameters
from .recipes import METHODS, Recipe
from .training import Score, TrainingRun
from .workspace import Workspace

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Result:
    """One method's record and its predictions, as read from the results folder."""

    record: dict[str, Any]
    ids: list[str]  # of the test pictures
    labels: torch.Tensor  # (pictures,) int64
    predictions: torch.Tensor  # (pictures,) int64
    class_names: dict[int, str] = dataclasses.field(default_factory=dict)  # those that occur

    @property
    def method(self) -> str:
        return self.record["method"]

    @property
    def title(self) -> str:
        return METHODS.get(self.method, self.method)

    @property
    def hits(self) -> torch.Tensor:
        """(pictures,) bool: which predictions are right."""
        return self.predictions == self.labels

    @property
    def run(self) -> TrainingRun:
        """The training run, as far as the record tells of it."""
        record = self.record
        return TrainingRun(
            history=record["history"],
            first_loss=record["first_loss"],
            best_epoch=record["val"]["epoch"],
            best_val_accuracy=record["val"]["accuracy"],
            num_epochs=record["epochs"],
            seconds=record["seconds"],
        )


def save_result(
    workspace: Workspace,
    recipe: Recipe,
    *,
    model: nn.Module,
    data: Data,
    run: TrainingRun,
    score: Score,
) -> Path:
    """Write results/<profile>/<method>/: record.json, predictions.csv and weights.pt.

    A run of an extension goes to results/<profile>/extensions/<notebook>/<run>/ instead.

    The record holds the hashes of the other two, and all three are renamed to their places when
    all are written: an interrupted run leaves an earlier result as it was. Returns the folder.
    Raises `KitError` when the training of `model` was interrupted, when another run is writing the
    same result, and when the disk is full.
    """
    check_finished(model)
    folder = workspace.results_dir / recipe.folder
    with only_writer(folder.with_name(f".{folder.name}.lock"), f"the result {folder.name}"):
        record = make_record(workspace, recipe, model=model, data=data, run=run, score=score)
        with (  # renamed from the last to the first: without its files no record appears
            written_atomically(folder / "record.json") as record_file,
            written_atomically(folder / "weights.pt") as weights,
            written_atomically(folder / "predictions.csv") as predictions,
        ):
            save_tensors({k: v.cpu() for k, v in model.state_dict().items()}, weights)
            text = predictions_csv(score, data.class_names)
            predictions.write_text(text, encoding="utf-8", newline="\n")
            record["files"] = {
                "predictions.csv": sha256(predictions),
                "weights.pt": sha256(weights),
            }
            record_file.write_text(json_text(record), encoding="utf-8", newline="\n")
    return folder


def make_record(
    workspace: Workspace,
    recipe: Recipe,
    *,
    model: nn.Module,
    data: Data,
    run: TrainingRun,
    score: Score,
) -> dict[str, Any]:
    """Everything that a reader of a result wants to know of it, in plain JSON types."""
    counts = count_parameters(model)
    low, high = score.interval
    return {
        "schema": SCHEMA,
        "method": recipe.method,
        "profile": workspace.profile,
        "student": workspace.student,
        "seed": workspace.seed,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": {
            "name": data.name,
            "note": data.note,
            "fingerprint": data.fingerprint,
            "classes": data.num_classes,
            "sizes": data.sizes,
            "all_sizes": dict(data.all_sizes),
            "left_out": len(data.left_out),
        },
        "val": {"accuracy": run.best_val_accuracy, "epoch": run.best_epoch},
        "test": {
            "correct": score.correct,
            "total": score.total,
            "accuracy": score.accuracy,
            "interval": [low, high],
            "top5": score.top5,
            "loss": score.loss,
            "seconds": score.seconds,
        },
        "epochs": run.num_epochs,
        "trained": run.ended,
        "resumed": run.resumed,
        "first_loss": run.first_loss,
        "seconds": run.seconds,
        "training_seconds": run.training_seconds,
        "weights": {
            "kind": getattr(model, "weights_kind", "random"),
            "source": getattr(model, "weights_source", "random"),
        },
        "parameters": {
            "total": counts["total"],
            "trainable": counts["trainable"],
        },
        "recipe": dataclasses.asdict(recipe),
        "machine": {
            "device": str(workspace.device),
            "device_name": device_name(workspace.device),
            "threads": workspace.threads,
            "processes": workspace.processes,
            "precision": str(workspace.precision).removeprefix("torch."),
            "system": platform.platform(),
        },
        "versions": {
            "kit": kit_version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "efficientnet_pytorch": importlib.metadata.version("efficientnet_pytorch"),
        },
        "history": run.history,
    }


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def predictions_csv(score: Score, class_names: Sequence[str]) -> str:
    """A line a test picture: its id, label and prediction as numbers and names, and probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "label", "prediction", "probability", "class", "predicted_class"])
    rows = zip(score.ids, score.labels.tolist(), score.predictions.tolist(), strict=True)
    for (name, label, guess), p in zip(rows, score.probabilities, strict=True):
        writer.writerow(
            [name, label, guess, f"{float(p[guess]):.4f}", class_names[label], class_names[guess]]
        )
    return text.getvalue()


def load_results(
    workspace: Workspace, data: Data | None = None, *, extension: str | None = None
) -> list[Result]:
    """Read the results of this profile, in the order of the notebooks; [] when there is none.

    After the methods of the assignment come results that were saved under other names. With the
    name of an `extension` notebook, its runs are read instead, in the order in which they were
    recorded; they may be about several tasks. Raises `KitError` when a record is damaged or of
    another version, when records come from different profiles, data sets or students, and, with
    `data`, when they are not about it.
    """
    if extension is None:
        paths = [workspace.results_dir / method / "record.json" for method in METHODS]
        paths += sorted(set(workspace.results_dir.glob("*/record.json")) - set(paths))
    else:
        found = (workspace.results_dir / "extensions" / extension).glob("*/record.json")
        paths = sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))
    results = [read_result(path) for path in paths if path.exists()]
    for result in results:
        check_belongs(result, workspace, data)
    if extension is not None:
        return results
    for first, other in itertools.pairwise(results):
        if first.record["data"]["fingerprint"] != other.record["data"]["fingerprint"]:
            raise KitError(
                f"{first.method} and {other.method} were run on different data "
                f"({first.record['data']['name']}, {other.record['data']['name']}): run the "
                "older one again before comparing them"
            )
    return results


def check_belongs(result: Result, workspace: Workspace, data: Data | DataSet | None) -> None:
    """Raise `KitError` unless a record is of this profile, this student and these pictures."""
    record, again = result.record, "run its notebook again, or set KIT_RESULTS to another folder"
    if record["profile"] != workspace.profile:
        raise KitError(
            f"results/{workspace.profile}/{result.method} holds a record of the profile "
            f"{record['profile']!r}: {again}"
        )
    if workspace.student and record["student"] != workspace.student:
        raise KitError(
            f"the record of {result.method} is student {record['student']!r}'s, "
            f"not {workspace.student!r}'s: {again}"
        )
    if data is not None and record["data"]["fingerprint"] != data.fingerprint:
        raise KitError(
            f"the record of {result.method} is about other pictures or splits "
            f"({record['data']['name']}) than {data.name} here: {again}"
        )


def read_result(path: Path) -> Result:
    """Read a record and the predictions beside it; raises `KitError` when they do not agree."""
    record, again = read_json(path), f"delete {path.parent} and run its notebook again"
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise KitError(
            f"{path} is not a record of this version of the kit{_writer(record)}: {again}"
        )
    if fault := record_fault(record):
        raise KitError(f"{path} is damaged ({fault}): {again}")
    table = path.with_name("predictions.csv")
    try:
        if record["files"]["predictions.csv"] != sha256(table):
            raise KitError(f"{table} was changed after it was recorded: {again}")
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        labels, predictions = (
            torch.tensor([_class_number(row[name], record) for row in rows])
            for name in ("label", "prediction")
        )
        names = {
            _class_number(row[number], record): row[name]
            for row in rows
            for number, name in (("label", "class"), ("prediction", "predicted_class"))
        }
        correct = int((labels == predictions).sum())
        if [correct, len(rows)] != [record["test"]["correct"], record["test"]["total"]]:
            raise KitError(
                f"{path} says {record['test']['correct']} of {record['test']['total']} are right, "
                f"its predictions say {correct} of {len(rows)}: {again}"
            )
        if not math.isclose(record["test"]["accuracy"], correct / len(rows)):
            raise KitError(
                f"{path} says that the accuracy is {record['test']['accuracy']}, its predictions "
                f"say {correct / len(rows):.4f}: {again}"
            )
        return Result(record, [row["picture"] for row in rows], labels, predictions, names)
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise KitError(f"{path} or {table.name} is damaged ({error!r:.200}): {again}") from None


def _class_number(text: str, record: dict[str, Any]) -> int:
    """A class as its number; raises `ValueError` when the record's data have no such class."""
    number, classes = int(text), record["data"]["classes"]
    if not 0 <= number < classes:
        raise ValueError(f"class {number} of {classes}")
    return number


def _writer(record: Any) -> str:
    """Which version wrote a record, as far as it says so, for a message."""
    if not isinstance(record, dict) or "schema" not in record:
        return ""
    versions = record.get("versions")
    writer = versions.get("kit", "unknown") if isinstance(versions, dict) else "unknown"
    return (
        f" (version {writer!s:.20} wrote it, with schema {record['schema']!s:.20}; "
        f"this is {kit_version()}, with schema {SCHEMA})"
    )


def comparison_table(results: Sequence[Result]) -> list[dict[str, str]]:
    """The comparison of the methods, one dict of texts a row, in the order of `results`."""
    rows = []
    for result in results:
        record, test = result.record, result.record["test"]
        low, high = test["interval"]
        seconds = record["training_seconds"]
        rows.append(
            {
                "Method": result.title,
                "Test accuracy": f"{test['accuracy']:.1%}",
                "95 % interval": f"{low:.1%} to {high:.1%}",
                "Val accuracy": f"{record['val']['accuracy']:.1%}",
                "Training": f"{seconds:,.1f} s",
                "Epochs": str(record["epochs"]),
                "An epoch": f"{seconds / record['epochs']:,.2f} s",
                "Parameters": f"{record['parameters']['total']:,}",
                "Trainable": f"{record['parameters']['trainable']:,}",
                "Weights": record["weights"]["kind"],
            }
        )
    return rows


def format_table(rows: Sequence[dict[str, str]], *, note: str = "") -> str:
    """Rows of texts as an aligned table for a terminal or a notebook, `note` below it."""
    if not rows:
        return "no results"
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    lines = ["  ".join(key.ljust(width) for key, width in widths.items())]
    lines.append("  ".join("-" * width for width in widths.values()))
    lines += ["  ".join(row[key].ljust(width) for key, width in widths.items()) for row in rows]
    if note:
        lines.append(f"({note})")
    return "\n".join(line.rstrip() for line in lines)


def compare_pairs(results: Sequence[Result]) -> list[dict[str, str]]:
    """For each pair of methods: does one do better on the same pictures, or is it chance?

    The exact McNemar test (McNemar, 1947): of the pictures that only one of the two gets right, a
    fair coin would give each half. One dict of texts a pair: `Difference` is the second's accuracy
    less the first's, in percentage points; `p` is two-sided.
    """
    rows = []
    for first, second in itertools.combinations(results, 2):
        if first.ids != second.ids:
            raise KitError(f"{first.method} and {second.method} were tested on other pictures")
        only_first = int((first.hits & ~second.hits).sum())
        only_second = int((second.hits & ~first.hits).sum())
        differ = only_first + only_second
        p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
        rows.append(
            {
                "Pair": f"{first.title} / {second.title}",
                "Only the first right": str(only_first),
                "Only the second right": str(only_second),
                "Difference": f"{100 * (only_second - only_first) / len(first.ids):+.1f} points",
                "p": "below 0.001" if p < 0.001 else f"{p:.3f}",
                "Verdict": "a real difference" if p < 0.05 else "may be chance",
            }
        )
    return rows


def confused_pairs(result: Result, count: int) -> list[tuple[int, int, list[int]]]:
    """The `count` pairs of classes that a method mixes up most, either way.

    Each is (class, other class, indices of the test pictures of either taken for the other), the
    most frequent first; of the indices, too, those of the more frequent way come first.
    """
    mistakes: dict[tuple[int, int], list[int]] = {}
    for index in torch.nonzero(~result.hits).flatten().tolist():
        pair = sorted((int(result.labels[index]), int(result.predictions[index])))
        mistakes.setdefault((pair[0], pair[1]), []).append(index)
    ordered = sorted(mistakes.items(), key=lambda item: (-len(item[1]), item[0]))[:count]
    for _, indices in ordered:
        ways = Counter(int(result.labels[index]) for index in indices)
        indices.sort(key=lambda index: -ways[int(result.labels[index])])
    return [(*pair, indices) for pair, indices in ordered]


def class_accuracy(result: Result) -> torch.Tensor:
    """(classes,) accuracy of each class on test; NaN where a class has no picture."""
    classes = result.record["data"]["classes"]
    counts = torch.bincount(result.labels, minlength=classes)
    return torch.bincount(result.labels, weights=result.hits.double(), minlength=classes) / counts
