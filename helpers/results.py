"""What a run leaves behind: a record, its predictions, its weights and its network."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import importlib.metadata
import io
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader

from helpers.data import Data, DataSet
from helpers.errors import KitError
from helpers.lib.checkpoint import check_finished
from helpers.lib.devices import device_name, device_of, name_of
from helpers.lib.exported import export_network, without_wrapper
from helpers.lib.files import (
    json_text,
    only_writer,
    read_json,
    save_tensors,
    sha256,
    written_atomically,
)
from helpers.lib.identity import kit_version
from helpers.lib.records import COLUMNS, SCHEMAS, parse_predictions, record_fault
from helpers.lib.weights import Pretrained
from helpers.models import count_parameters
from helpers.recipes import METHODS, as_dict, method_title, plain_types
from helpers.scores import Score
from helpers.training import TrainingRun
from helpers.workspace import Workspace

SCHEMA = 2
KEPT_NAMES = ("checkpoints", "extensions", "previous")  # of other folders beside the results


@dataclasses.dataclass(frozen=True)
class Result:
    """One method's record and its predictions, as read from the results folder."""

    record: dict[str, Any]
    ids: list[str]  # of the test pictures
    labels: torch.Tensor  # (pictures,) int64
    predictions: torch.Tensor  # (pictures,) int64
    probabilities: torch.Tensor  # (pictures,) float32: of the prediction, to 4 decimals
    class_names: list[str]
    folder: Path = Path()

    @property
    def method(self) -> str:
        return str(self.record["method"])

    @property
    def title(self) -> str:
        return method_title(self.method)

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
    recipe: Any,
    *,
    model: nn.Module,
    data: Data | Mapping[str, DataLoader],
    run: TrainingRun,
    score: Score,
    weights: Pretrained | str = "not stated",
    cam_layer: str | None = None,
    processes: int = 1,
) -> Path:
    """Write results/<profile>/<method>/, for the comparison in notebook 06 and the report.

    `record.json` says what ran, and has the hashes of the others: `predictions.csv`, `weights.pt`
    (a state dict) and `network.pt2` (the network itself, by torch.export, which notebook 06 can
    load without its class). All are renamed to their places when all are written: an interrupted
    run leaves an earlier result as it was.

    Args:
        workspace: from `start()`.
        recipe: a `Recipe`, or a dict or dataclass of your own, with a "method": its name.
        model: that was tested; any module that returns logits.
        data: it was trained and tested on.
        run: what `train_model` returned.
        score: what `test` returned.
        weights: what training started from: from `pretrained_weights`, or a text such as "random".
        cam_layer: the name of the layer that Grad-CAM looks at; by default the last with at least
            4 x 4 places.
        processes: that trained together.

    Returns:
        The folder.

    Raises:
        KitError: when the training of `model` was interrupted, when another run is writing the
            same result, and when the disk is full.
    """
    data, settings = Data.of(data), plain_types(as_dict(recipe))
    check_finished(model)
    model = without_wrapper(model)
    folder = workspace.results_dir / folder_of(settings)
    last = data.sizes["val"] - 1
    images = torch.stack([data.val.dataset[index][0] for index in (0, last)])
    with only_writer(folder.with_name(f".{folder.name}.lock"), f"the result {folder.name}"):
        record = make_record(
            workspace, settings, model=model, data=data, run=run, score=score, weights=weights
        )
        record["machine"]["processes"] = processes
        record["input_shape"] = list(images.shape[1:])
        with (  # renamed from the last to the first: without its files no record appears
            written_atomically(folder / "record.json") as record_file,
            written_atomically(folder / "weights.pt") as weights_file,
            written_atomically(folder / "predictions.csv") as predictions,
            written_atomically(folder / "network.pt2") as network,
        ):
            save_tensors({k: v.cpu() for k, v in model.state_dict().items()}, weights_file)
            text = predictions_csv(score, data.class_names)
            predictions.write_text(text, encoding="utf-8", newline="\n")
            record["files"] = {
                "predictions.csv": sha256(predictions),
                "weights.pt": sha256(weights_file),
            }
            json_text(record)  # a number that is NaN is to be found before anything is replaced
            layer, fault = export_network(model, images, cam_layer, network)
            record["cam_layer"] = layer
            if fault:
                record["network_fault"] = fault
                print(f"NOTE: notebook 06 cannot ask this network about pictures ({fault})")
            else:
                record["files"]["network.pt2"] = sha256(network)
            record_file.write_text(json_text(record), encoding="utf-8", newline="\n")
        if fault:
            (folder / "network.pt2").unlink()  # it is empty
    return folder


def folder_of(settings: Mapping[str, Any]) -> str:
    """Where a result is kept, below results/<profile>: under its "method".

    An extension's recipe has a "folder", which may lie deeper.
    """
    name = settings.get("folder") or settings.get("method")
    parts = name.strip().replace("\\", "/").split("/") if isinstance(name, str) else [""]
    # Of a plain path: none is empty, "." or "..", a hidden folder or a drive.
    is_path = all(part.strip() and not part.startswith(".") and ":" not in part for part in parts)
    is_listed = "folder" in settings or (len(parts) == 1 and parts[0] not in KEPT_NAMES)
    if not is_path or not is_listed:
        raise KitError(
            f"a result cannot be called {name!r}: give the recipe a method without slashes that "
            f'is none of {", ".join(KEPT_NAMES)}, as {{"method": "my_cnn"}}'
        )
    return "/".join(parts)


def make_record(
    workspace: Workspace,
    settings: Mapping[str, Any],
    *,
    model: nn.Module,
    data: Data,
    run: TrainingRun,
    score: Score,
    weights: Pretrained | str,
) -> dict[str, Any]:
    """Everything that a reader of a result wants to know of it, in plain JSON types."""
    counts, device = count_parameters(model), device_of(model)
    normalization = data.normalization
    kind = weights.kind if isinstance(weights, Pretrained) else weights
    source = weights.source if isinstance(weights, Pretrained) else weights
    return {
        "schema": SCHEMA,
        "method": settings["method"],
        "profile": workspace.profile,
        "student": workspace.student,
        "seed": workspace.seed,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": {
            "name": data.name,
            "note": data.note,
            "fingerprint": data.fingerprint,
            "classes": data.num_classes,
            "class_names": data.class_names,
            "normalization": normalization and plain_types(normalization._asdict()),
            "sizes": data.sizes,
            "all_sizes": dict(data.all_sizes),
            "left_out": len(data.left_out),
        },
        "val": {"accuracy": run.best_val_accuracy, "epoch": run.best_epoch},
        "test": {
            **{name: getattr(score, name) for name in ("correct", "total", "accuracy")},
            "interval": list(score.interval),
            **{name: getattr(score, name) for name in ("top5", "loss", "seconds")},
        },
        "epochs": run.num_epochs,
        "trained": run.ended,
        "resumed": run.resumed,
        "first_loss": run.first_loss,
        "seconds": run.seconds,
        "training_seconds": run.training_seconds,
        "weights": {"kind": kind, "source": source},
        "parameters": {"total": counts["total"], "trainable": counts["trainable"]},
        "recipe": dict(settings),
        "settings": run.settings,  # of what ran, whatever the recipe says
        "machine": {
            "device": str(device),
            "device_name": device_name(device),
            "threads": torch.get_num_threads(),
            "processes": 1,
            "precision": run.settings.get("precision", name_of(data.precision)),
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


def predictions_csv(score: Score, class_names: Sequence[str]) -> str:
    """A line a test picture: its id, label and prediction as numbers and names, and probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = zip(score.ids, score.labels.tolist(), score.predictions.tolist(), strict=True)
    for (name, label, guess), p in zip(rows, score.probabilities, strict=True):
        writer.writerow(
            [name, label, guess, f"{float(p[guess]):.4f}", class_names[label], class_names[guess]]
        )
    return text.getvalue()


def load_results(
    workspace: Workspace,
    data: Data | Mapping[str, DataLoader] | None = None,
    *,
    extension: str | None = None,
) -> list[Result]:
    """Read the results of this profile, in the order of the notebooks; [] when there is none.

    After the methods of the assignment come results that were saved under other names.

    Args:
        workspace: from `start()`.
        data: results about other pictures than these are told of.
        extension: the name of an extension notebook: its runs are read instead, in the order in
            which they were recorded.

    Raises:
        KitError: when a record is damaged, or of another version, profile or student.
    """
    data = None if data is None else Data.of(data)
    if extension is None:
        paths = [workspace.results_dir / method / "record.json" for method in METHODS]
        paths += sorted(set(workspace.results_dir.glob("*/record.json")) - set(paths))
    else:
        found = (workspace.results_dir / "extensions" / extension).glob("*/record.json")
        paths = sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))
    results = [read_result(path) for path in paths if path.exists()]
    for result in results:
        check_belongs(result, workspace, None)
        other = result.record["data"]
        if data is not None and other["fingerprint"] != data.fingerprint:
            print(
                f"NOTE: {result.title} was tested on other pictures or splits ({other['name']}) "
                f"than {data.name} here: it cannot be compared with results on these"
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
    if not isinstance(record, dict) or record.get("schema") not in SCHEMAS:
        raise KitError(f"{path} is not a record of this version of the kit: {again}")
    if fault := record_fault(record):
        raise KitError(f"{path} is damaged ({fault}): {again}")
    table, test = path.with_name("predictions.csv"), record["test"]
    try:
        if record["files"]["predictions.csv"] != sha256(table):
            raise KitError(f"{table} was changed after it was recorded: {again}")
        found = parse_predictions(table.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KitError(f"{table} is damaged ({error}): {again}") from None
    if [found.correct, len(found.pictures)] != [test["correct"], test["total"]] or not math.isclose(
        test["accuracy"], test["correct"] / test["total"]
    ):
        raise KitError(
            f"{path} says {test['correct']} of {test['total']} are right ({test['accuracy']:.4f}), "
            f"its predictions say {found.correct} of {len(found.pictures)}: {again}"
        )
    classes = record["data"]["classes"]
    if not all(0 <= number < classes for number in (*found.labels, *found.guesses)):
        raise KitError(f"{table} has a class that is none of {classes}: {again}")
    names = record["data"].get("class_names") or [
        found.names.get(number, f"class {number}") for number in range(classes)
    ]
    labels, guesses = (torch.from_numpy(one).long() for one in (found.labels, found.guesses))
    sure = torch.from_numpy(found.probabilities) / 10_000
    return Result(record, found.pictures, labels, guesses, sure, names, path.parent)
