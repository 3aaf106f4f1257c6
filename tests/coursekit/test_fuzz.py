"""Whatever stands in a file from outside, its reader answers, or says in one line what is wrong.

Each reader gets files that were good and then spoilt: bytes changed, values replaced, parts gone.
The default run takes a few of each, always the same; `-m slow` takes 100,000 in all, by chance.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from coursekit.grading.archive import HandInError
from coursekit.grading.cells import parse_json, parse_notebook
from coursekit.grading.labels import read_labels
from coursekit.grading.read import predictions_of
from coursekit.grading.rubric import LOOKS, read_rubric
from coursekit.grading.slim import slim_json
from coursekit.grading.tables import read_points
from coursekit.handin import package as handin
from coursekit.handin.log import best_session, read_log
from coursekit.notebooks import notebook_faults, read_notebook, run_faults, shown_text
from helpers.comparison import class_accuracy, comparison_table
from helpers.errors import KitError
from helpers.lib.assignment import remember_student
from helpers.lib.checked import sort_out
from helpers.lib.files import read_json, sha256, write_json
from helpers.lib.folders import MINI_FOLDER
from helpers.lib.label_files import LABEL_FILES
from helpers.lib.pictures import decode_each
from helpers.lib.sources import list_pictures
from helpers.recipes import METHODS
from helpers.results import load_results
from helpers.workspace import Workspace, chosen_dataset, find_workspace
from tools.made_up import write_notebook, write_result

FEW, MANY = 20, 100_000  # examples: of each reader by default, of all together with `-m slow`
Reader = Callable[[Path, bytes], object]

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([10**400, -1, 2**63, 2**31, 1e308, "\ud800", "\x00", "", "../..", "9" * 5000,
                     "2026-13-45T00:00:00", "0001-01-01T00:00:00+00:00", [], {}, [[]], {"": None},
                     [{}], "\n", "=1+1"]),
)  # fmt: skip
JUNK = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\x00", b"null", b"[]", b"{}", b"[" * 30_000, b'{"a":' * 30_000,
                     b"\xff\xfe\x00\xd8", b"\xef\xbb\xbf{}", b"PK\x05\x06" + bytes(18)]),
)  # fmt: skip


@st.composite
def spoilt_bytes(draw, whole: bytes) -> bytes:
    """Bytes with a few of them changed, inserted or gone, or cut short."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    end = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:end])


def places(value: object, here: tuple = ()) -> Iterator[tuple]:
    """Where values are in nested objects and lists: the keys that lead to each."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        yield (*here, key)
        if isinstance(child, dict | list):
            yield from places(child, (*here, key))


@st.composite
def spoilt_value(draw, text: bytes, all_places: list[tuple]) -> object:
    """A value from JSON in which some parts are replaced by something odd, or gone."""
    value = json.loads(text)
    for *way, last in draw(st.lists(st.sampled_from(all_places), min_size=1, max_size=3)):
        inner = value
        try:
            for key in way:
                inner = inner[key]
            if draw(st.booleans()):
                inner[last] = draw(ODD)
            else:
                del inner[last]
        except (KeyError, IndexError, TypeError):  # it is gone already
            continue
    return value


def spoilt_json(value: object) -> st.SearchStrategy[bytes]:
    text = json.dumps(value).encode()
    made = spoilt_value(text, list(places(value)))
    made = made.map(lambda spoilt: json.dumps(spoilt).encode())
    return st.one_of(made, made, made, spoilt_bytes(text), JUNK)


def spoilt_file(whole: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(spoilt_bytes(whole), spoilt_bytes(whole), JUNK)


class Bench:
    """Good files to begin with, and the readers that get spoilt ones of each kind."""

    def __init__(self, folder: Path, workspace: Workspace) -> None:
        self.folder, self.workspace = folder, workspace
        self.result = write_result(workspace.results_dir, METHOD, student=None)
        self.record = read_json(self.result / "record.json")
        self.table = (self.result / "predictions.csv").read_bytes()

    def put(self, data: bytes, name: str) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    # Results

    def records(self) -> tuple[st.SearchStrategy[bytes], Reader]:
        return spoilt_json(self.record), self.read_record

    def read_record(self, data: bytes) -> None:
        (self.result / "predictions.csv").write_bytes(self.table)
        (self.result / "record.json").write_bytes(data)
        self.show_results()

    def show_results(self) -> None:
        results = load_results(self.workspace)
        str(comparison_table(results)).encode()
        for result in results:
            class_accuracy(result)

    def predictions(self):
        return spoilt_file(self.table), self.read_predictions

    def read_predictions(self, data: bytes) -> None:
        table = self.result / "predictions.csv"
        table.write_bytes(data)
        files = {"predictions.csv": sha256(table)}
        write_json(self.result / "record.json", {**self.record, "files": files})
        with contextlib.suppress(KitError):
            self.show_results()
        assert predictions_of(data).correct >= 0  # as the grader reads them

    def assignments(self):
        kept = {"student": "s1234567", "dataset": "my photos"}
        return spoilt_json(kept), self.read_assignment

    def read_assignment(self, data: bytes) -> None:
        self.put(data, "assignment.json")
        (remember_student(None, self.folder) or "").encode()
        chosen_dataset(self.folder).encode()

    # The log and hand-ins

    def logs(self):
        line = {"notebook": "01.ipynb", "cell": "a" * 64, "count": 1, "ok": True, "seconds": 0.5,
                "time": "2026-01-02T03:04:05+00:00", "session": "abc"}  # fmt: skip
        lines = st.lists(st.one_of(spoilt_json(line), st.just(json.dumps(line).encode())))
        return lines.map(b"\n".join), self.read_log

    def read_log(self, data: bytes) -> None:
        entries, damaged = read_log(data.decode("utf-8", "replace"))
        assert damaged >= 0
        best_session(["a" * 64], entries, "01.ipynb")
        for entry in entries:
            assert read_log(entry.as_line()) == ([entry], 0)

    def manifests(self):
        manifest = handin.Manifest(
            kit="1", student="s1", name=None, created="2026-01-01T00:00:00+00:00", profile="full",
            complete=True, missing=["a"], machine={"a": 1}, files={"a": "b"},
        )  # fmt: skip
        return spoilt_json(json.loads(manifest.as_json())), self.read_manifest

    def read_manifest(self, data: bytes) -> None:
        manifest, _ = parse_json(data)
        if isinstance(manifest, dict):
            assert all("\n" not in fault for fault in handin.manifest_faults(manifest))

    def rubrics(self):
        values = st.sampled_from(
            ['"text"', '""', "1", "-1", "1.5", "inf", "nan", "true", "[]", "[1]", '["a"]',
             "[[0, 1]]", "[[0.2, 0.1], [0.9, 1]]", "{}", "{a = 1}", "1979-05-27",
             "2026-05-31T23:59:00Z",
             "9" * 30, "9" * 400, "9" * 5000, '"04"', f'"{METHOD}"', "[" * 3000]
            + [f'"{look}"' for look in LOOKS]
        )  # fmt: skip
        keys = ("key", "title", "points", "look", "notebook", "method", "calls", "questions",
                "bands", "hint", "due", "task")  # fmt: skip
        settings_ = st.dictionaries(st.sampled_from(keys), values, max_size=12)
        heads = st.sampled_from(["", "[[section]]", "[[section.line]]", "[section]"])
        lines = st.lists(st.tuples(heads, settings_))
        made = lines.map(
            lambda parts: "\n".join(
                "\n".join([head, *(f"{key} = {value}" for key, value in pairs.items())])
                for head, pairs in parts
            ).encode()
        )
        good = b'[[section]]\n[[section.line]]\nkey = "a"\npoints = 2\nlook = "profile"\n'
        return st.one_of(made, made, spoilt_file(good)), self.read_rubric

    def read_rubric(self, data: bytes) -> None:
        rubric = read_rubric(self.put(data, "rubric.toml"))
        assert rubric.points >= 0

    def points(self):
        good = b"hand_in,student,line,of,points,comment\na,s1,profile,2,1.5,good\n"
        return spoilt_file(good), self.read_points

    def read_points(self, data: bytes) -> None:
        read_points(self.put(data, "points.csv"), read_rubric())

    # Notebooks

    def notebook(self) -> bytes:
        path = write_notebook(self.folder, "01_a", "1 + 1", "# NBVAL_CHECK_OUTPUT\nprint(1)")
        notebook = json.loads(path.read_bytes())
        outputs = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]},
                   {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["t"]},
                   {"output_type": "display_data", "metadata": {},
                    "data": {"text/plain": "x"}}]  # fmt: skip
        notebook["cells"][1].update(outputs=outputs, execution_count=1)
        return notebook

    def notebooks(self):
        return spoilt_json(self.notebook()), self.read_notebook

    def read_notebook(self, data: bytes) -> None:
        path = self.put(data, "01_a.ipynb")
        notebook_faults(path)
        notebook = read_notebook(path)
        run_faults(notebook)
        shown_text(notebook)

    def handed_in_notebooks(self):
        return spoilt_json(self.notebook()), self.read_handed_in_notebook

    def read_handed_in_notebook(self, data: bytes) -> None:
        slim, _ = slim_json([data[:20], data[20:]])
        for text in (data, slim):
            notebook = parse_notebook("01_a.ipynb", text)
            assert all(cell.printed.encode() is not None for cell in notebook.cells)

    # Labels

    def label_files(self):
        wholes = [(MINI_FOLDER / "flowers-102" / name).read_bytes() for name in LABEL_FILES]
        spoilt = st.tuples(*(st.one_of(st.just(whole), spoilt_file(whole)) for whole in wholes))
        return spoilt, self.read_label_files

    def read_label_files(self, data: tuple[bytes, bytes]) -> None:
        for name, content in zip(LABEL_FILES, data, strict=True):
            self.put(content, name)
        labels = read_labels(self.folder)
        assert labels is not None
        assert labels.sizes["test"] >= len(labels.test)

    # Pictures and folders of them

    def pictures(self):
        rng = np.random.default_rng(0)
        image = Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
        wholes = []
        exif = Image.Exif()
        exif[0x0112] = 6
        for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF"):
            stream = io.BytesIO()
            image.save(stream, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "TIFF") else {}))
            wholes.append(stream.getvalue())
        return st.one_of([spoilt_file(whole) for whole in wholes]), self.read_picture

    def read_picture(self, data: bytes) -> None:
        path = self.put(data, "picture.jpg")
        good, faults = sort_out([path], "")
        assert len(good) + len(faults) == 1
        seen = []
        if good:
            decode_each([path], 16, lambda index, picture: seen.append(picture.shape), "")
            assert min(seen[0][1:]) == 16

    def folders(self):
        names = st.sampled_from(["a", "b", "train", "val", "test", ".c", "x.png", "y.JPG", "z.heic",
                                 "n.txt", "Größe", "new\nline", "a" * 100])  # fmt: skip
        stream = io.BytesIO()
        Image.new("RGB", (2, 2)).save(stream, "PNG")
        contents = st.one_of(st.just(stream.getvalue()), JUNK)
        some = [f"{name}/{number}.png" for name in ("a", "b") for number in range(3)]
        # each with a tail of its own, for copies would be left out
        whole = {name: stream.getvalue() + name.encode() for name in some}
        start = st.sampled_from([{}, whole])
        paths = st.lists(names, min_size=1, max_size=4).map("/".join)
        more = st.dictionaries(paths, contents, max_size=6)
        return st.tuples(start, more).map(lambda two: {**two[0], **two[1]}), self.read_folder

    def read_folder(self, files: dict[str, bytes]) -> None:
        root = self.folder / "photos"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, content in files.items():
            path = root / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except OSError:  # a file is where a folder should be, or the other way round
                continue
        listing = list_pictures(root, profile="mini", data_dir=self.folder, seed=0)
        for paths, labels in listing.splits.values():
            assert set(labels) <= set(range(len(listing.class_names)))
            assert set(paths) <= set(listing.picture_sizes)


METHOD = next(iter(METHODS))
READERS = ("records", "predictions", "assignments", "logs", "manifests", "rubrics", "points",
           "notebooks", "handed_in_notebooks", "label_files",
           "pictures", "folders")  # fmt: skip


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    return Bench(tmp_path, find_workspace(profile="mini", device="cpu"))


def fuzz(bench: Bench, name: str, count: int, *, by_chance: bool) -> None:
    """Give a reader that many spoilt files: no error but the kit's own, and that in one line."""
    spoilt, read = getattr(bench, name)()

    @settings(max_examples=count, derandomize=not by_chance, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(spoilt)
    def try_one(data: object) -> None:
        try:
            read(data)
        except (KitError, HandInError) as error:
            assert str(error)
            assert "\n" not in str(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what it then refuses
        try_one()


@pytest.mark.parametrize("name", READERS)
def test_no_spoilt_file_is_a_crash(bench, name):
    fuzz(bench, name, FEW, by_chance=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_no_spoilt_file_of_very_many_is_a_crash(bench, name):
    fuzz(bench, name, -(-MANY // len(READERS)), by_chance=True)


def test_every_reader_takes_the_good_file(bench):
    """Else a reader that refuses everything would pass."""
    bench.read_record(json.dumps(bench.record).encode())
    bench.read_predictions(bench.table)
    bench.read_assignment(b'{"student": "s1", "dataset": "DTD"}')
    bench.read_notebook(json.dumps(bench.notebook()).encode())
    bench.read_handed_in_notebook(json.dumps(bench.notebook()).encode())
    bench.read_rubric(b'[[section]]\n[[section.line]]\nkey = "a"\npoints = 2\nlook = "profile"\n')
    whole = [(MINI_FOLDER / "flowers-102" / name).read_bytes() for name in LABEL_FILES]
    bench.read_label_files(tuple(whole))
    some = [f"{name}/{n}.png" for name in "ab" for n in range(3)]
    bench.read_folder({name: PIXEL + name.encode() for name in some})
    bench.read_picture(PIXEL)
    assert sort_out([bench.folder / "picture.jpg"], "")[1] == {}


def _pixel() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    return stream.getvalue()


PIXEL = _pixel()
