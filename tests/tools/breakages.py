"""Hand-ins that are broken in many ways, as a class of three hundred brings them."""

from __future__ import annotations

import functools
import io
import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from tools.sample_class import HandIn, seal, zipped

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
Files = dict[str, bytes]


def _notebook(files: Files, number: str = "03") -> str:
    return next(name for name in files if name.startswith(f"notebooks/{number}"))


def _edit_notebook(hand_in: HandIn, edit: Callable[[dict], None], number: str = "03") -> bytes:
    name = _notebook(hand_in.files, number)
    notebook = json.loads(hand_in.files[name])
    edit(notebook)
    hand_in.files[name] = json.dumps(notebook).encode()
    seal(hand_in)
    return zipped(hand_in.files)


def _edit_record(hand_in: HandIn, text: str) -> bytes:
    name = "results/bn_cnn/record.json"
    record = json.loads(hand_in.files[name])
    before = f'"accuracy": {record["test"]["accuracy"]!r}'
    hand_in.files[name] = hand_in.files[name].replace(before.encode(), text.encode())
    assert text.encode() in hand_in.files[name]
    seal(hand_in)
    return zipped(hand_in.files)


def sealed(edit: Callable[[HandIn], None]) -> Callable[[HandIn], bytes]:
    """A way to break a hand-in: it is edited, and packed with a manifest that fits."""

    @functools.wraps(edit)
    def way(hand_in: HandIn) -> bytes:
        edit(hand_in)
        seal(hand_in)
        return zipped(hand_in.files)

    return way


def _recode(hand_in: HandIn, encoding: str) -> bytes:
    for name in (_notebook(hand_in.files), "results/bn_cnn/record.json"):
        hand_in.files[name] = hand_in.files[name].decode().encode(encoding)
    seal(hand_in)
    return zipped(hand_in.files)


def not_a_zip(hand_in: HandIn) -> bytes:
    return b"Rar!\x1a\x07\x00 something else"


def empty_file(hand_in: HandIn) -> bytes:
    return b""


def half_a_zip(hand_in: HandIn) -> bytes:
    data = zipped(hand_in.files)
    return data[: len(data) * 2 // 3]


def damaged_entry(hand_in: HandIn) -> bytes:
    data = bytearray(zipped(hand_in.files))
    data[2000:2400] = bytes(400)
    return bytes(data)


def zip_bomb(hand_in: HandIn) -> bytes:
    """Its directory promises 3 GB for a few kilobytes."""
    data = bytearray(zipped({"manifest.json": b"{}", "notebooks/01.ipynb": b"0" * 9000}))
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 3_000_000_000)
    return bytes(data)


def real_bomb(hand_in: HandIn) -> bytes:
    """Sixty megabytes of zeros where a manifest should be."""
    return zipped(hand_in.files | {"manifest.json": bytes(60_000_000)})


def path_traversal(hand_in: HandIn) -> bytes:
    return zipped({"../../escaped.txt": b"x", "/abs.txt": b"x", "C:\\x.txt": b"x"} | hand_in.files)


def symlink(hand_in: HandIn) -> bytes:
    stream = io.BytesIO(zipped(hand_in.files))
    with zipfile.ZipFile(stream, "a") as packed:
        link = zipfile.ZipInfo("notebooks/passwords.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    return stream.getvalue()


def with_password(hand_in: HandIn) -> bytes:
    data = bytearray(zipped(hand_in.files))
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    return bytes(data)


def zip_in_a_zip(hand_in: HandIn) -> bytes:
    return zipped({f"Anna_17_file/{hand_in.file_name}": zipped(hand_in.files)})


def in_a_folder(hand_in: HandIn) -> bytes:
    return zipped({f"my work/{name}": data for name, data in hand_in.files.items()})


def windows_slashes(hand_in: HandIn) -> bytes:
    data = zipped(hand_in.files)
    for name in hand_in.files:
        data = data.replace(name.encode(), name.replace("/", "\\").encode())
    return data


def utf_16(hand_in: HandIn) -> bytes:
    return _recode(hand_in, "utf-16")


def byte_order_mark(hand_in: HandIn) -> bytes:
    return _recode(hand_in, "utf-8-sig")


@sealed
def latin_1(hand_in: HandIn) -> None:
    name = _notebook(hand_in.files)
    hand_in.files[name] = hand_in.files[name].replace(
        b"Takeaways", "Schl\u00fcsse".encode("cp1252")
    )


@sealed
def truncated_json(hand_in: HandIn) -> None:
    for name in (_notebook(hand_in.files), "results/resnet18_finetune/record.json"):
        hand_in.files[name] = hand_in.files[name][:-200]


@sealed
def deep_json(hand_in: HandIn) -> None:
    hand_in.files[_notebook(hand_in.files)] = b'{"cells":' + b"[" * 200_000


def other_format(hand_in: HandIn) -> bytes:
    return _edit_notebook(hand_in, lambda notebook: notebook.update(nbformat=99))


def format_3(hand_in: HandIn) -> bytes:
    def edit(notebook: dict) -> None:
        sheet = {"cells": [cell | {"input": cell["source"]} for cell in notebook.pop("cells")]}
        notebook.update(nbformat=3, worksheets=[sheet])

    return _edit_notebook(hand_in, edit)


def nonsense_cells(hand_in: HandIn) -> bytes:
    damaged = [None, 7, {"cell_type": "code", "source": 5, "outputs": [1, {}]}]
    edit = lambda notebook: notebook["cells"].__setitem__(slice(2, 5), damaged)  # noqa: E731
    return _edit_notebook(hand_in, edit)


@sealed
def missing_notebook(hand_in: HandIn) -> None:
    del hand_in.files[_notebook(hand_in.files)]
    del hand_in.notebooks["03"]


@sealed
def renamed_notebooks(hand_in: HandIn) -> None:
    for number in ("02", "03", "05"):
        name = _notebook(hand_in.files, number)
        hand_in.files[f"notebooks/final ({number}) NEW.ipynb"] = hand_in.files.pop(name)


@sealed
def doubled_notebook(hand_in: HandIn) -> None:
    name = _notebook(hand_in.files)
    hand_in.files[name.replace(".ipynb", "-Copy1.ipynb")] = hand_in.files[name]


def doubled_cells(hand_in: HandIn) -> bytes:
    return _edit_notebook(
        hand_in, lambda notebook: notebook["cells"].extend(notebook["cells"][5:9])
    )


def deleted_cells(hand_in: HandIn) -> bytes:
    return _edit_notebook(hand_in, lambda notebook: notebook["cells"].__delitem__(slice(8, 14)))


def no_ids(hand_in: HandIn) -> bytes:
    def edit(notebook: dict) -> None:
        for cell in notebook["cells"]:
            cell.pop("id", None)

    return _edit_notebook(hand_in, edit)


def huge_output(hand_in: HandIn, megabytes: int = 9) -> bytes:
    def edit(notebook: dict) -> None:
        text = [f"step {number:9} of a loop that prints too much\n" for number in range(20_000)]
        many = {"output_type": "stream", "name": "stdout", "text": text * megabytes}
        notebook["cells"][5]["outputs"] = [many]

    return _edit_notebook(hand_in, edit)


def nan_accuracy(hand_in: HandIn) -> bytes:
    return _edit_record(hand_in, '"accuracy": NaN')


def negative_accuracy(hand_in: HandIn) -> bytes:
    return _edit_record(hand_in, '"accuracy": -0.5')


def text_accuracy(hand_in: HandIn) -> bytes:
    return _edit_record(hand_in, '"accuracy": "very good"')


def huge_accuracy(hand_in: HandIn) -> bytes:
    return _edit_record(hand_in, '"accuracy": 1e999')


def scripts(hand_in: HandIn) -> bytes:
    """Script tags in every text that a page could show."""

    def edit(notebook: dict) -> None:
        for cell in notebook["cells"]:
            if "answer" in cell["metadata"].get("tags", []):
                cell["source"] = f"*Your answer:* {SCRIPT} and a lone \ud800 surrogate"
            cell["id"] = SCRIPT

    for number in ("01", "03"):
        _edit_notebook(hand_in, edit, number)
    for method in ("bn_cnn", "resnet18_extractor"):
        name = f"results/{method}/record.json"
        record = json.loads(hand_in.files[name])
        record["machine"]["device"] = record["data"]["name"] = record["profile"] = SCRIPT
        hand_in.files[name] = json.dumps(record).encode()
    seal(hand_in, name=SCRIPT, missing=[SCRIPT], complete=False, machine={"system": SCRIPT})
    hand_in.files[f"{SCRIPT.replace('/', '')}.ipynb"] = b"{}"
    return zipped(hand_in.files)


def formula(hand_in: HandIn) -> bytes:
    seal(hand_in, name='=HYPERLINK("http://example.org","click")')
    return zipped(hand_in.files)


def no_manifest(hand_in: HandIn) -> bytes:
    del hand_in.files["manifest.json"]
    return zipped(hand_in.files)


def manifest_is_a_list(hand_in: HandIn) -> bytes:
    return zipped(hand_in.files | {"manifest.json": b"[1, 2]"})


def manifest_of_nonsense(hand_in: HandIn) -> bytes:
    seal(hand_in, student=["x"], name=7, created="yesterday", files=[], machine="mine", missing=0)
    return zipped(hand_in.files)


@sealed
def no_record(hand_in: HandIn) -> None:
    del hand_in.files["results/bn_cnn/record.json"]


@sealed
def record_of_nonsense(hand_in: HandIn) -> None:
    record = {"schema": 1, "method": "bn_cnn", "test": [], "history": [1], "data": 5, "seed": {}}
    hand_in.files["results/bn_cnn/record.json"] = json.dumps(record).encode()


@sealed
def half_the_predictions(hand_in: HandIn) -> None:
    name = "results/bn_cnn/predictions.csv"
    hand_in.files[name] = hand_in.files[name][: len(hand_in.files[name]) // 2]


@sealed
def predictions_of_nonsense(hand_in: HandIn) -> None:
    text = b"picture,label,prediction,probability\nimage_1.jpg,1,99999999999999999999,x\n"
    hand_in.files["results/bn_cnn/predictions.csv"] = text


@sealed
def damaged_log(hand_in: HandIn) -> None:
    hand_in.files["results/log.jsonl"] += b'{"notebook": 5}\n[1]\nnot json\n\xff\xfe\n'


def no_notebooks_at_all(hand_in: HandIn) -> bytes:
    return zipped({"essay.txt": b"My dog ate it."})


# Ways that leave what is there readable: graded, with remarks at most.
MILD = (
    path_traversal, symlink, zip_in_a_zip, in_a_folder, windows_slashes, utf_16, byte_order_mark,
    latin_1, renamed_notebooks, doubled_notebook, no_ids, huge_output, formula, no_manifest,
    manifest_is_a_list, damaged_log,
)  # fmt: skip
# Ways that lose some of it.
HARMFUL = (
    truncated_json, deep_json, other_format, format_3, nonsense_cells, missing_notebook,
    doubled_cells, deleted_cells, nan_accuracy, negative_accuracy, text_accuracy, huge_accuracy,
    scripts, manifest_of_nonsense, no_record, record_of_nonsense, half_the_predictions,
    predictions_of_nonsense,
)  # fmt: skip
# Ways that leave nothing to grade.
DEADLY = (
    not_a_zip, empty_file, half_a_zip, zip_bomb, with_password, no_notebooks_at_all,
)  # fmt: skip
ALL = (*MILD, *HARMFUL, *DEADLY, real_bomb, damaged_entry)


def write_unreadable(folder: Path) -> str:
    """Put something there that cannot be read at all, even by root; returns its name."""
    path = folder / "submission-unreadable.zip"
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        path.mkdir()
    return path.name
