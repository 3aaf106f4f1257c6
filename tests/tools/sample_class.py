"""A made-up class: hand-ins that look like real ones, good, late, incomplete, broken, tampered.

They are the repository's own notebooks with made-up but consistent results. The guide's sample
class is written by `python tests/tools/sample_class.py FOLDER` (see --help).
"""

from __future__ import annotations

import argparse
import copy
import datetime
import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import savemat

from coursekit.grading.labels import Labels, read_labels
from coursekit.notebooks import notebook_paths
from helpers.comparison import comparison_table
from helpers.lib.identity import seed_of
from helpers.lib.progress import EpochTable
from helpers.recipes import METHODS, get_recipe
from helpers.results import Result
from helpers.scores import Score, accuracy_interval

CLASSES = 102
START = datetime.datetime(2026, 5, 4, 8, 0, tzinfo=datetime.timezone.utc)
ACCURACY = {
    "bn_cnn": 0.39,
    "resnet18_finetune": 0.86,
    "resnet18_extractor": 0.79,
    "efficientnet_b5_finetune": 0.88,
}
SECONDS = {
    "bn_cnn": 11.0,
    "resnet18_finetune": 45.0,
    "resnet18_extractor": 2.5,
    "efficientnet_b5_finetune": 330.0,
}  # of an epoch
METHOD_OF = {method.notebook: name for name, method in METHODS.items()}
SHORT_ANSWER = "A flip changes a letter such as b, and strong changes of hue are wrong for flowers."
WORDS = {
    "opening": "I think|In my run|It seems to me|As far as I see|Looking at the curves|My guess is "
    "that|From the table|After reading the cell twice|Honestly|What surprised me:",
    "subject": "the small network|the head|the backbone|BatchNorm|the val accuracy|the schedule|"
    "augmentation|the interval|the extractor|B5|the test split|the loss|ResNet18|every epoch",
    "verb": "learns|depends on|hides|changes|does not touch|is limited by|explains|follows|beats|"
    "needs|wastes|profits from|cannot see|averages over",
    "object": "the few pictures|its first layers|the running statistics|a higher rate|the rare "
    "classes|noise|what ImageNet taught|the last epochs|most of the gain|the time|shape and colour|"
    "its own mistakes|a wider net|the size of the pictures",
    "link": "because|and yet|while|so|although|which means|unless|since|but|and therefore",
}
OWN_LINES = (
    "print(data.sizes['{w}'], {n})",
    "check = [row['{w}_loss'] for row in run.history[:{n}]]",
    "assert len(check) <= {n}, '{w}'",
    "for place in range({n}):\n    print(place, check[place] if place < len(check) else '{w}')",
    "table = dict(zip(data.class_names, range({n})))",
    "print(sorted(table, key=table.get)[-{n}:])",
    "largest = max(check, default={n}) - min(check, default=0)",
    "print(f'{w}: {{largest:.{n}f}}')",
    "if largest > {n}:\n    print('{w}')",
)  # fmt: skip


@dataclass
class HandIn:
    """The files of one hand-in before they are packed, as Python values."""

    student: str
    name: str
    chance: np.random.Generator
    created: datetime.datetime = START
    notebooks: dict[str, dict] = field(default_factory=dict)  # by number
    records: dict[str, dict] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)  # guesses, by method
    chances: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # of the table, by method
    log: list[dict] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # what is packed

    @property
    def file_name(self) -> str:
        return f"submission-{self.student}.zip"


@cache
def templates() -> dict[str, dict]:
    paths = notebook_paths().values()
    return {p.name[:2]: json.loads(p.read_text(encoding="utf-8")) | {"_": p.name} for p in paths}


def write_labels(data_dir: Path, test: int = 600) -> Labels:
    """Write made-up label files of Flowers102 with that many test pictures; returns the labels."""
    folder = data_dir / "flowers-102"
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(102)
    total = 2040 + test
    numbers = chance.permutation(total) + 1
    savemat(
        folder / "imagelabels.mat",
        {"labels": chance.integers(1, CLASSES + 1, (1, total))},
        do_compression=True,
    )
    sets = {"trnid": numbers[None, :1020], "valid": numbers[None, 1020:2040]}
    savemat(
        folder / "setid.mat", sets | {"tstid": np.sort(numbers[None, 2040:])}, do_compression=True
    )
    labels = read_labels(folder)
    assert labels is not None
    return labels


def make_hand_in(number: int, labels: Labels, *, seed: int = 0) -> HandIn:
    """An honest, complete hand-in of student `number`; `pack` makes its files."""
    student = f"s{1000000 + 37 * number}"
    chance = np.random.default_rng([seed, number])
    hand_in = HandIn(student, f"Student {number:03d}", chance)
    truth = np.array(list(labels.test.values()))
    for method in METHODS:
        _run_method(hand_in, method, labels, truth)
    hand_in.notebooks = {number: _notebook(hand_in, number, labels) for number in templates()}
    add_own_cell(hand_in, int(chance.integers(0, 4)))
    write_log(hand_in)
    return hand_in


@cache
def _world(method: str, size: int, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """How hard each test picture is, and what it is confused with: the same for everybody."""
    chance = np.random.default_rng([seed, list(METHODS).index(method)])
    return chance.normal(size=size), chance.integers(1, CLASSES, size)


def _run_method(hand_in: HandIn, method: str, labels: Labels, truth: np.ndarray) -> None:
    """A made-up run: hard pictures are hard for everybody, the rest is the seed's chance."""
    chance, size = hand_in.chance, len(truth)
    hardness, favourite = _world(method, size)
    # A fixed extractor's runs differ least: its features are the same for everybody.
    own = 0.25 if method == "resnet18_extractor" else 0.6
    felt = hardness + own * chance.normal(size=size)
    right = felt < np.quantile(felt, ACCURACY[method] + 0.008 * chance.normal())
    other = np.where(chance.random(size) < 0.7, favourite, chance.integers(1, CLASSES, size))
    guesses = np.where(right, truth, (truth + other) % CLASSES)
    certainty = 1 / (1 + np.exp(felt - 1 + 0.1 * chance.normal(size=size)))
    hand_in.tables[method], hand_in.labels[method] = guesses, truth
    hand_in.chances[method] = np.clip(certainty, 0.05, 0.9999)
    hand_in.records[method] = _record(hand_in, method, labels, int(right.sum()), size)


def _record(hand_in: HandIn, method: str, labels: Labels, correct: int, total: int) -> dict:
    chance, recipe = hand_in.chance, get_recipe(method, "full")
    epochs, speed = recipe.num_epochs, math.exp(0.5 * chance.normal())
    learnt = 1 - np.exp(-4 * (np.arange(epochs) + 1) / epochs)
    val = np.clip(correct / total * learnt + 0.01 * chance.normal(size=epochs), 0, 1)
    history = [
        {
            "epoch": epoch + 1,
            "train_loss": 4.6 - 3.2 * float(learnt[epoch]),
            "train_accuracy": float(learnt[epoch]) * 0.95,
            "val_loss": 4.6 - 2.8 * float(learnt[epoch]),
            "val_accuracy": round(float(val[epoch]) * 1020) / 1020,
            "learning_rate": recipe.head_lr,
            "training_seconds": SECONDS[method] * speed,
            "loading_seconds": 0.1 * SECONDS[method] * speed,
            "evaluation_seconds": 0.4,
        }
        for epoch in range(epochs)
    ]
    best = max(history, key=lambda row: row["val_accuracy"])
    seconds = {
        "training": sum(row["training_seconds"] for row in history),
        "loading": sum(row["loading_seconds"] for row in history),
        "evaluation": 0.4 * epochs,
        "features": 60.0 * speed if method == "resnet18_extractor" else 0.0,
    }
    order = list(METHODS).index(method)
    return {
        "schema": 2,
        "method": method,
        "profile": "full",
        "student": hand_in.student,
        "seed": seed_of(hand_in.student),
        "finished": (START + datetime.timedelta(hours=order + 1, minutes=50)).isoformat(),
        "data": {
            "name": "Flowers102",
            "note": "",
            "fingerprint": labels.fingerprint,
            "classes": CLASSES,
            "class_names": [f"class {number}" for number in range(CLASSES)],
            "normalization": None,
            "sizes": labels.sizes,
        },
        "val": {"accuracy": best["val_accuracy"], "epoch": best["epoch"]},
        "test": {
            "correct": correct,
            "total": total,
            "accuracy": correct / total,
            "interval": list(accuracy_interval(correct, total)),
            "top5": 0.95,
            "loss": 0.8,
            "seconds": 9.0 * speed,
        },
        "epochs": epochs,
        "first_loss": math.log(CLASSES) + 0.05 * chance.normal(),
        "seconds": seconds,
        "training_seconds": sum(seconds[n] for n in ("training", "loading", "features")),
        "weights": {"kind": "ImageNet", "source": "made-up weights"},
        "parameters": {"total": 11_000_000 * (order + 1), "trainable": 50_000 * (order + 1)},
        "recipe": {"method": method, "profile": "full", "size": 64, "num_epochs": epochs},
        "settings": {"num_epochs": epochs, "precision": "float32"},
        "input_shape": [3, 64, 64],
        "machine": {
            "device": "cpu",
            "device_name": "a processor",
            "threads": 2,
            "precision": "float32",
            "system": f"System {hand_in.student[-1]}",
        },
        "versions": {"python": "3.11", "torch": "2.7", "torchvision": "0.22"},
        "history": history,
        "files": {"predictions.csv": "", "weights.pt": hand_in.chance.bytes(32).hex()},
    }


def _notebook(hand_in: HandIn, number: str, labels: Labels) -> dict:
    """The repository's notebook with this student's outputs and answers."""
    notebook = copy.deepcopy(templates()[number])
    method = METHOD_OF.get(number)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(code, start=1):
        cell["execution_count"] = count
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "answer" in cell["metadata"].get("tags", []):
            cell["source"] = f"*Your answer:* {answer(hand_in.chance)}"
        elif cell["cell_type"] == "code":
            _show(cell, source, hand_in, method, labels)
    return notebook


def _show(cell: dict, source: str, hand_in: HandIn, method: str | None, labels: Labels) -> None:
    """Put made-up outputs where a cell prints what the grader reads."""
    if "start(" in source:
        cell["source"] = source.replace('student=""', f'student="{hand_in.student}"')
        cell["outputs"] = [_stdout(f"profile  full: made up\nstudent  {hand_in.student}\n")]
    if "data.sizes.items()" in source:
        lines = [f"{split:<6}{size:>6,} pictures\n" for split, size in labels.sizes.items()]
        cell["outputs"] = [_stdout("".join(lines))]
    if "save_result(" in source and method:
        cell["outputs"] = [_stdout(printed_accuracy(hand_in.records[method]))]
    if re.search(r"^run = train_model\(", source, re.MULTILINE) and method:
        text = "\n".join(epoch_lines(hand_in.records[method]))
        cell["outputs"] = [{"output_type": "display_data", "data": {"text/plain": text}}]
    if "comparison_table(results)" in source:
        cell["outputs"] = [_stdout(comparison(hand_in) + "\n")]


def _stdout(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}


def printed_accuracy(record: dict) -> str:
    """What the cell of a notebook prints that tests the network."""
    test = {key: record["test"][key] for key in ("correct", "total", "loss", "top5", "seconds")}
    unused: dict[str, Any] = dict.fromkeys(("labels", "predictions", "probabilities", "ids"))
    val = f"val:  accuracy {record['val']['accuracy']:.1%}, the number that chose the epoch\n"
    return f"test: {Score(per_class=torch.zeros(CLASSES), **test, **unused)}\n{val}"


def epoch_lines(record: dict) -> list[str]:
    table = EpochTable(record["epochs"], 1, show=False)
    for row in record["history"]:
        table.epoch_done(row, is_best=row["epoch"] == record["val"]["epoch"])
    return table.lines


def comparison(hand_in: HandIn) -> str:
    none = torch.zeros(0, dtype=torch.int64)
    results = [Result(record, [], none, none, none, []) for record in hand_in.records.values()]
    return str(comparison_table(results))


def answer(chance: np.random.Generator, clauses: int = 5) -> str:
    """A made-up answer of some forty words: grammatical, and nonsense."""
    pick = {name: text.split("|") for name, text in WORDS.items()}
    words = [chance.choice(pick["opening"])]
    for clause in range(int(chance.integers(3, clauses + 1))):
        words += [chance.choice(pick["link"])] * bool(clause)
        words += [chance.choice(pick[name]) for name in ("subject", "verb", "object")]
    return " ".join(words) + "."


def add_own_cell(hand_in: HandIn, lines: int, number: str = "02") -> str:
    """Add a code cell of the student's own before the questions; returns its source."""
    chance, words = hand_in.chance, ("train", "val", "test")
    chosen = [OWN_LINES[i] for i in chance.integers(0, len(OWN_LINES), lines)]
    source = "\n".join(
        line.format(n=chance.integers(2, 9), w=chance.choice(words)) for line in chosen
    )
    if source:
        insert_cell(hand_in, source, number)
    return source


def insert_cell(hand_in: HandIn, source: str, number: str = "02") -> None:
    """Put a code cell after the last one of a notebook, executed."""
    cells = hand_in.notebooks[number]["cells"]
    place = max(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    cells.insert(
        place + 1,
        {
            "cell_type": "code",
            "id": f"own-{place}",
            "metadata": {},
            "source": source,
            "execution_count": cells[place]["execution_count"] + 1,
            "outputs": [],
        },
    )


def write_log(hand_in: HandIn) -> None:
    """The log as the kit writes it: a line an executed cell, a session a notebook."""
    hand_in.log = []
    for hour, (number, notebook) in enumerate(hand_in.notebooks.items()):
        session = hand_in.chance.bytes(8).hex()
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for place, cell in enumerate(code):
            minutes = 50 * (place + 1) / len(code)
            time = START + datetime.timedelta(hours=hour, minutes=minutes)
            if "save_result(" in "".join(cell["source"]):
                finished = hand_in.records[METHOD_OF[number]]["finished"]
                time = datetime.datetime.fromisoformat(finished)
            hand_in.log.append(
                {
                    "notebook": notebook["_"],
                    "cell": hashlib.sha256("".join(cell["source"]).encode()).hexdigest(),
                    "count": cell["execution_count"],
                    "time": time.isoformat(),
                    "ok": True,
                    "seconds": 2.0,
                    "session": session,
                }
            )


def predictions_csv(hand_in: HandIn, method: str, labels: Labels) -> bytes:
    """The table of predictions as the kit writes it."""
    rows = zip(
        labels.test, hand_in.labels[method].tolist(), hand_in.tables[method].tolist(),
        hand_in.chances[method].tolist(), strict=True,
    )  # fmt: skip
    lines = [f"{name},{a},{b},{p:.4f},class {a},class {b}" for name, a, b, p in rows]
    head = "picture,label,prediction,probability,class,predicted_class"
    return "\n".join([head, *lines, ""]).encode()


def build(hand_in: HandIn, labels: Labels, *, trust_hashes: bool = False) -> dict[str, bytes]:
    """The files of a hand-in, with a manifest that fits them; kept in `hand_in.files`.

    With `trust_hashes` the hashes that the records hold are left alone.
    """
    files: dict[str, bytes] = {}
    for method, record in hand_in.records.items():
        table = predictions_csv(hand_in, method, labels)
        if not trust_hashes:
            record["files"]["predictions.csv"] = hashlib.sha256(table).hexdigest()
        files[f"results/{method}/predictions.csv"] = table
        files[f"results/{method}/record.json"] = json.dumps(record, indent=2).encode()
    for notebook in hand_in.notebooks.values():
        raw = {key: value for key, value in notebook.items() if key != "_"}
        files[f"notebooks/{notebook['_']}"] = json.dumps(raw, indent=1).encode()
    files["results/log.jsonl"] = "".join(json.dumps(line) + "\n" for line in hand_in.log).encode()
    hand_in.files = files
    seal(hand_in)
    return files


def seal(hand_in: HandIn, **changes: object) -> None:
    """Write the manifest for the files as they are."""
    hashes = {n: hashlib.sha256(d).hexdigest() for n, d in sorted(hand_in.files.items())
              if n != "manifest.json"}  # fmt: skip
    missing = [f"notebook {n} is missing" for n in templates() if n not in hand_in.notebooks]
    manifest = {
        "schema": 1,
        "kit": "0.1.0",
        "student": hand_in.student,
        "name": hand_in.name,
        "created": hand_in.created.isoformat(),
        "profile": "full",
        "complete": not missing,
        "missing": missing,
        "machine": next(iter(hand_in.records.values()), {}).get("machine", {}),
        "files": hashes,
    }
    hand_in.files["manifest.json"] = json.dumps(manifest | changes, indent=1).encode()


def zipped(files: dict[str, bytes]) -> bytes:
    """Files as a zip whose bytes are always the same."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, data in files.items():
            packed.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 1)
    return stream.getvalue()


# Tampering, as students have done it elsewhere. Each takes the hand-in and an innocent other one.


def edit_notebook(hand_in: HandIn, other: HandIn) -> None:
    """A better accuracy is typed into the notebook."""
    better = copy.deepcopy(hand_in.records["bn_cnn"])
    _raise_accuracy(better)
    _reprint(hand_in, "bn_cnn", better)


def edit_record(hand_in: HandIn, other: HandIn) -> None:
    """... into the record."""
    _raise_accuracy(hand_in.records["resnet18_finetune"])


def edit_both(hand_in: HandIn, other: HandIn) -> None:
    """... into the record, the notebook, and the comparison."""
    record = hand_in.records["efficientnet_b5_finetune"]
    _raise_accuracy(record)
    _reprint(hand_in, "efficientnet_b5_finetune", record)


def edit_labels(hand_in: HandIn, other: HandIn) -> None:
    """... everywhere, with labels changed to fit, and the hash of the table made anew."""
    edit_both(hand_in, other)
    method = "efficientnet_b5_finetune"
    guesses, truth = hand_in.tables[method], hand_in.labels[method].copy()
    wrong = np.flatnonzero(guesses != truth)
    gained = hand_in.records[method]["test"]["correct"] - int((guesses == truth).sum())
    truth[wrong[:gained]] = guesses[wrong[:gained]]
    hand_in.labels[method] = truth


def edit_table(hand_in: HandIn, other: HandIn) -> None:
    """... into the table of notebook 06."""
    for cell in hand_in.notebooks["06"]["cells"]:
        if "comparison_table(results)" in "".join(cell["source"]):
            text = "".join(cell["outputs"][0]["text"])
            cell["outputs"] = [_stdout(re.sub(r"(?<=fine-tuned  )\s*\d\d\.\d%", "99.1%", text))]


def _raise_accuracy(record: dict) -> None:
    test = record["test"]
    test["correct"] = min(test["correct"] + test["total"] // 20, test["total"])
    test["accuracy"] = test["correct"] / test["total"]


def _reprint(hand_in: HandIn, method: str, record: dict) -> None:
    for cell in hand_in.notebooks[METHODS[method].notebook]["cells"]:
        if "save_result(" in "".join(cell["source"]):
            cell["outputs"] = [_stdout(printed_accuracy(record))]
    for cell in hand_in.notebooks["06"]["cells"]:
        if "comparison_table(results)" in "".join(cell["source"]):
            cell["outputs"] = [_stdout(comparison(hand_in) + "\n")]


def copy_work(hand_in: HandIn, other: HandIn) -> None:
    """Answers are copied, and a cell of the other's own with its variables renamed."""
    for number in ("02", "03", "04"):
        pairs = zip(answer_cells(hand_in, number), answer_cells(other, number), strict=True)
        for mine, theirs in pairs:
            mine["source"] = theirs["source"].replace("I think", "we think")
    source = _long_cell(other)
    for old, new in (("check", "losses"), ("table", "names_of"), ("largest", "span"),
                     ("place", "k")):  # fmt: skip
        source = re.sub(rf"\b{old}\b", new, source)
    insert_cell(hand_in, source, "03")
    write_log(hand_in)


def _long_cell(hand_in: HandIn) -> str:
    """A cell of the student's own that is long enough to be worth copying."""
    source = add_own_cell(hand_in, 12, "03")
    write_log(hand_in)
    return source


def copy_predictions(hand_in: HandIn, other: HandIn) -> None:
    """The other one's predictions, with a record and outputs that fit them."""
    method = "resnet18_extractor"
    hand_in.tables[method] = other.tables[method]
    hand_in.chances[method] = other.chances[method]
    test = hand_in.records[method]["test"]
    test["correct"] = int((other.tables[method] == other.labels[method]).sum())
    test["accuracy"] = test["correct"] / test["total"]
    _reprint(hand_in, method, hand_in.records[method])


def wrong_seed(hand_in: HandIn, other: HandIn) -> None:
    """Another student's seed."""
    for record in hand_in.records.values():
        record["seed"] = seed_of(other.student)


def edit_cell(hand_in: HandIn, other: HandIn) -> None:
    """Code is changed after it ran."""
    cell = next(c for c in hand_in.notebooks["03"]["cells"] if "summarize(" in str(c["source"]))
    cell["source"] = "".join(cell["source"]).replace("max_rows=16", "max_rows=99")
    record_date = datetime.datetime.fromisoformat(hand_in.records["bn_cnn"]["finished"])
    hand_in.records["bn_cnn"]["finished"] = (record_date - datetime.timedelta(days=9)).isoformat()


EDITS = (edit_notebook, edit_record, edit_both, edit_labels, edit_table)
Tamper = Callable[[HandIn, HandIn], None]


def write_sample(folder: Path, data_dir: Path) -> dict[str, str]:
    """The class of twelve; returns what each hand-in is, by student."""
    labels = write_labels(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    students = [make_hand_in(number, labels) for number in range(12)]
    kinds: dict[str, str] = {}
    for place, hand_in in enumerate(students):
        kinds[hand_in.student] = "good"
        other = students[(place + 1) % 4]
        tampering = {6: edit_notebook, 7: copy_predictions, 8: copy_work, 9: wrong_seed}
        if place in tampering:
            tampering[place](hand_in, other)
            kinds[hand_in.student] = tampering[place].__name__
    students[2].created += datetime.timedelta(days=40)
    kinds[students[2].student] = "late"
    for number in ("05", "06"):
        del students[4].notebooks[number]
    del students[4].records["efficientnet_b5_finetune"]
    kinds[students[4].student] = "incomplete"
    for hand_in in students[:2]:
        set_answer(hand_in, "01", 2, SHORT_ANSWER)  # the same short answer, by chance
    for place, hand_in in enumerate(students):
        files = build(hand_in, labels)
        data = zipped(files)
        if place == 10:
            data = data[: len(data) // 2]  # an upload that broke off
        if place == 11:
            data = b"I could not make it work, sorry."
        if place >= 10:
            kinds[hand_in.student] = "broken"
        (folder / hand_in.file_name).write_bytes(data)
    return kinds


def set_answer(hand_in: HandIn, number: str, place: int, text: str) -> None:
    """Replace the answer at a place, from 0, of a notebook."""
    answer_cells(hand_in, number)[place]["source"] = f"*Your answer:* {text}"


def answer_cells(hand_in: HandIn, number: str) -> list[dict]:
    cells = hand_in.notebooks[number]["cells"]
    return [cell for cell in cells if "answer" in cell["metadata"].get("tags", [])]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="where hand-ins/ and data/ are written")
    folder = parser.parse_args(arguments).folder
    for student, kind in write_sample(folder / "hand-ins", folder / "data").items():
        print(student, kind)
    print(f"grade them: KIT_DATA={folder / 'data'} python -m coursekit grade {folder / 'hand-ins'}")


if __name__ == "__main__":
    main()
