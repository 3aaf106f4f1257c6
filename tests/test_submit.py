"""Handing in: a good hand-in is packed, and each kind of missing thing gets its own line."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from made_up import write_notebook, write_result
from nbformat import v4

from coursekit import notebooks
from coursekit.handin import package as handin
from coursekit.handin import submit
from coursekit.handin.package import (
    MANIFEST,
    NOTEBOOKS,
    Manifest,
    handin_name,
    manifest_faults,
    safe_name,
    write_handin,
)
from coursekit.notebooks import METHOD_OF, code_cells
from coursekit.questions import ANSWER_STUB, answer_text, questions_of
from coursekit.run import runner
from helpers import __main__ as cli
from helpers.data import fingerprint
from helpers.lib import flowers
from helpers.lib.files import read_json, sha256, write_json
from helpers.lib.identity import seed_of
from helpers.lib.session_log import Entry, read_log, source_hash
from helpers.lib.sources import Listing

STUDENT = "s1234567"
MORNING = datetime.datetime(2026, 3, 1, 9, tzinfo=datetime.timezone.utc)


def manifest_of(data: bytes | str) -> Manifest:
    """A manifest as it was written, without a fault."""
    values = json.loads(data)
    assert manifest_faults(values) == []
    return Manifest(**values)


class Desk:
    """The work of a student on this machine: six small notebooks, four results and the log."""

    def __init__(self, root: Path, student: str, listing: Listing) -> None:
        self.folder, self.results = root / "notebooks", root / "results" / "full"
        self.out, self.student = root / "out", student
        self.folder.mkdir()
        write_json(root / "results" / "assignment.json", {"student": student})
        for hour, name in enumerate(NOTEBOOKS):
            if name[:2] in METHOD_OF:
                write_result(self.results, METHOD_OF[name[:2]], student=student, profile="full")
                self.edit_record(
                    name,
                    lambda record, hour=hour: record.update(
                        seed=seed_of(student),
                        finished=f"2026-03-01T{9 + hour:02d}:02:05+00:00",
                        data={**record["data"], "fingerprint": fingerprint(listing)},
                    ),
                )
            self.run(name, MORNING + datetime.timedelta(hours=hour))

    @property
    def log(self) -> Path:
        return self.results / "log.jsonl"

    def run(self, name: str, began: datetime.datetime) -> None:
        """Write a notebook as if it had been run, a minute a cell."""
        question = v4.new_markdown_cell("**Question 1.** Why?", metadata={"tags": ["question"]})
        answer = v4.new_markdown_cell(
            f"{ANSWER_STUB}\n\nBecause of {name}.", metadata={"tags": ["answer"]}
        )
        sources = ("workspace = start()", f"x = '{name}'", "save_result(x)")
        cells = [v4.new_code_cell(source) for source in sources]
        for number, cell in enumerate(cells, start=1):
            cell.execution_count = number
            ended = began + datetime.timedelta(minutes=number)
            self.add_to_log(
                Entry(None, source_hash(cell.source), number, ended.isoformat(), True, 60.0, name)
            )
        if name[:2] in METHOD_OF:
            score = read_json(self.record(name))["test"]
            printed = f"test: accuracy ({score['correct']:,}/{score['total']:,})\n"
            cells[2].outputs = [v4.new_output("stream", name="stdout", text=printed)]
        notebook = v4.new_notebook(cells=[*cells, question, answer])
        for number, cell in enumerate(notebook.cells):
            cell.id = f"{name[:2]}-{number}"
        nbformat.write(notebook, self.folder / name)

    def add_to_log(self, entry: Entry) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(entry.as_line())

    def edit(self, name: str, change: Callable[[nbformat.NotebookNode], object]) -> None:
        """Change a notebook as somebody with an editor would."""
        notebook = nbformat.read(self.folder / name, as_version=4)
        change(notebook)
        nbformat.write(notebook, self.folder / name)

    def record(self, name: str) -> Path:
        return self.results / METHOD_OF[name[:2]] / "record.json"

    def edit_record(self, name: str, change: Callable[[dict], object]) -> None:
        record = read_json(self.record(name))
        change(record)
        write_json(self.record(name), record)

    def submit(self, *options: str) -> int:
        return cli.main(["submit", "--out", str(self.out), *options])

    def written(self) -> zipfile.ZipFile:
        (path,) = self.out.iterdir()
        return zipfile.ZipFile(path)


@pytest.fixture
def make_desk(tmp_path, monkeypatch) -> Callable[[str], Desk]:
    """Makes a desk on a machine that has "Flowers102": three files, and a list that says so."""
    monkeypatch.delenv("KIT_PROFILE")
    for name in ("results", "data"):
        monkeypatch.setenv(f"KIT_{name.upper()}", str(tmp_path / name))
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    monkeypatch.setattr(flowers, "NUM_PICTURES", 1)
    pictures = tmp_path / "data" / "flowers-102" / "jpg"
    pictures.mkdir(parents=True)
    for path in (pictures / "image_00001.jpg", *(pictures.parent / n for n in flowers.LABEL_FILES)):
        path.touch()
    splits = {split: ([pictures / f"{split}.jpg"], [0]) for split in ("train", "val", "test")}
    listing = Listing("Flowers102", ["rose"], splits, pictures)
    monkeypatch.setattr("helpers.data.list_pictures", lambda *args, **options: listing)
    return lambda student=STUDENT: Desk(tmp_path, student, listing)


@pytest.fixture
def desk(make_desk) -> Desk:
    return make_desk()


# A good hand-in


def test_complete_handin(desk, capsys):
    assert desk.submit("--name", "Ada Löwe") == 0
    printed = capsys.readouterr().out
    assert "submission-s1234567.zip: 15 files, complete" in printed
    assert "\n- " not in printed
    with desk.written() as archive:
        assert archive.filename.endswith("submission-s1234567.zip")
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = manifest_of(content.pop(MANIFEST))
    assert (manifest.schema, manifest.student, manifest.name) == (1, STUDENT, "Ada Löwe")
    assert (manifest.profile, manifest.complete, manifest.missing) == ("full", True, [])
    assert manifest.files == {
        name: hashlib.sha256(data).hexdigest() for name, data in content.items()
    }
    handed_in, _ = read_log(content.pop("results/log.jsonl").decode())
    kept, _ = read_log(desk.log.read_text())
    # Where the kernel did not know its notebook, the hand-in tells.
    assert handed_in == [dataclasses.replace(entry, notebook=entry.session) for entry in kept]
    for name in NOTEBOOKS:
        assert content.pop(f"notebooks/{name}") == (desk.folder / name).read_bytes()
    for method in METHOD_OF.values():
        for file in ("record.json", "predictions.csv"):
            path = desk.results / method / file
            assert content.pop(f"results/{method}/{file}") == path.read_bytes()
    assert content == {}


def test_extensions_are_not_handed_in(desk, capsys):
    runs = desk.results / "extensions" / "07_cnn_vs_transfer_cifar100"
    write_result(runs, "bn_cnn", student=STUDENT, profile="full", right=0.1)
    (desk.folder / "extensions").mkdir()
    (desk.folder / "extensions" / "07_cnn_vs_transfer_cifar100.ipynb").write_text("{}")
    ran = datetime.datetime(2026, 3, 2, tzinfo=datetime.timezone.utc).isoformat()
    name = "07_cnn_vs_transfer_cifar100.ipynb"
    desk.add_to_log(Entry(name, source_hash("x = 7"), 1, ran, True, 60.0, "another"))
    assert desk.submit() == 0
    assert "submission-s1234567.zip: 15 files, complete" in capsys.readouterr().out
    with desk.written() as archive:
        assert not [one for one in archive.namelist() if "07" in one or "extensions" in one]


def test_equal_work_gives_equal_bytes(desk, monkeypatch):
    class Noon(datetime.datetime):
        @classmethod
        def now(cls, zone=None):
            return cls(2026, 3, 1, 12, tzinfo=zone)

    monkeypatch.setattr(submit.datetime, "datetime", Noon)
    assert desk.submit() == 0
    (path,) = desk.out.iterdir()
    first = sha256(path)
    path.unlink()
    for file in desk.folder.iterdir():
        file.touch()
    assert desk.submit() == 0
    assert sha256(path) == first
    desk.edit(NOTEBOOKS[0], lambda notebook: notebook.cells[4].update(source="Another answer"))
    assert desk.submit() == 0
    assert sha256(path) != first


def test_a_later_run_of_a_notebook_counts(desk, capsys):
    """Runs that went wrong, other kernels and other notebooks stay in the log and do no harm."""
    late = MORNING + datetime.timedelta(hours=1, minutes=10)
    for number, source in enumerate(("workspace = start()", "x = 'old'"), start=1):
        ended = late + datetime.timedelta(minutes=number)
        desk.add_to_log(
            Entry(NOTEBOOKS[1], source_hash(source), number, ended.isoformat(), False, 1.0, "a")
        )
    assert desk.submit() == 0


def test_a_damaged_line_of_the_log_is_noted(desk, capsys):
    with desk.log.open("a") as stream:
        stream.write('{"notebook": nu')
    assert desk.submit() == 0
    assert "note: 1 line of log.jsonl cannot be read" in capsys.readouterr().out
    with desk.written() as archive:
        assert archive.read("results/log.jsonl").endswith(b'}\n{"notebook": nu')


def test_an_error_that_is_meant_is_none(desk):
    def meant(notebook):
        notebook.cells[1].metadata["tags"] = ["raises-exception"]
        notebook.cells[1].outputs = [v4.new_output("error", ename="E", evalue="", traceback=[])]

    desk.edit(NOTEBOOKS[0], meant)
    text = desk.log.read_text().splitlines()
    text[1] = text[1].replace("true", "false")
    desk.log.write_text("\n".join(text))
    assert desk.submit() == 0


# What can be missing: each of these spoils a good hand-in in one way.


def no_id(desk):
    (desk.results.parent / "assignment.json").unlink()
    for name in NOTEBOOKS[1:5]:
        desk.edit_record(name, lambda record: record.update(student=None, seed=0))


def no_notebook(desk):
    (desk.folder / NOTEBOOKS[3]).unlink()


def renamed_notebook(desk):
    (desk.folder / NOTEBOOKS[3]).rename(desk.folder / "04_mine.ipynb")


def damaged_notebook(desk):
    path = desk.folder / NOTEBOOKS[3]
    path.write_text(path.read_text()[:200])


def no_code(desk):
    desk.edit(NOTEBOOKS[0], lambda notebook: notebook.update(cells=notebook.cells[3:]))


def not_executed(desk):
    def clear(notebook):
        for cell in code_cells(notebook):
            cell.execution_count = None

    desk.edit(NOTEBOOKS[3], clear)


def out_of_order(desk):
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.cells[1].update(execution_count=9))


def ended_in_error(desk):
    error = v4.new_output("error", ename="ValueError", evalue="", traceback=[])
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.cells[1].update(outputs=[error]))


def error_taken_out(desk):
    lines = desk.log.read_text().splitlines(keepends=True)
    lines[10] = lines[10].replace("true", "false")
    desk.log.write_text("".join(lines))


def stale_cell(desk):
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.cells[1].update(source="x = 'better'"))


def cells_swapped(desk):
    def swap(notebook):
        first, second = notebook.cells[1:3]
        first.source, second.source = second.source, first.source

    desk.edit(NOTEBOOKS[3], swap)


def counts_made_up(desk):
    """A notebook that ran elsewhere, or never."""
    lines = desk.log.read_text().splitlines(keepends=True)
    desk.log.write_text("".join(line for line in lines if NOTEBOOKS[3] not in line))


def no_log(desk):
    desk.log.unlink()


def unanswered(desk):
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.cells[4].update(source=ANSWER_STUB))


def no_answer_cell(desk):
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.cells.pop(4))


def no_questions(desk):
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.update(cells=notebook.cells[:3]))


def fewer_questions(desk):
    noted = {"notebook": NOTEBOOKS[3], "questions": 2}
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.metadata.update(kit=noted))


def no_record(desk):
    desk.record(NOTEBOOKS[3]).unlink()


def edited_accuracy(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record["test"].update(accuracy=0.99))


def edited_count(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record["test"].update(correct=40, accuracy=1.0))


def edited_predictions(desk):
    path = desk.record(NOTEBOOKS[3]).with_name("predictions.csv")
    path.write_text(path.read_text().replace("iris", "rose"))


def no_predictions(desk):
    desk.record(NOTEBOOKS[3]).with_name("predictions.csv").unlink()


def damaged_record(desk):
    desk.record(NOTEBOOKS[3]).write_text('{"schema": 1')


def record_without_a_part(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record.pop("profile"))


def record_of_another_student(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record.update(student="s7654321"))


def record_of_another_seed(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record.update(seed=7))


def record_of_other_pictures(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record["data"].update(fingerprint="abc"))


def record_of_mini(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record.update(profile="mini"))


def record_of_another_run(desk):
    desk.edit_record(
        NOTEBOOKS[3], lambda record: record.update(finished="2026-03-01T16:02:05+00:00")
    )


def outputs_of_another_run(desk):
    """The code ran, as the log says, but the file that shows its outputs was not saved."""
    desk.edit(NOTEBOOKS[3], lambda notebook: notebook.cells[2].outputs.clear())


def record_without_a_zone(desk):
    desk.edit_record(NOTEBOOKS[3], lambda record: record.update(finished="2026-03-01T12:02:05"))


def comparison_too_early(desk):
    text = desk.log.read_text().splitlines(keepends=True)
    early = [line.replace("2026-03-01T14", "2026-03-01T13") for line in text[15:]]
    desk.log.write_text("".join(text[:15] + early))


FAULTS = [
    (no_id, "no student id: write it into start"),
    (no_notebook, "04_resnet18_feature_extractor.ipynb is not in"),
    (renamed_notebook, "04_resnet18_feature_extractor.ipynb is not in"),
    (damaged_notebook, "04_resnet18_feature_extractor.ipynb is not a valid notebook"),
    (no_code, "01_dataset_tour.ipynb has no code cell"),
    (not_executed, "code cell 1 was not executed, and 2 more like it: restart"),
    (out_of_order, "code cell 2 has the execution count 9: restart"),
    (ended_in_error, "code cell 2 ended in ValueError: restart"),
    (error_taken_out, "code cell 2 ended in an error when it ran: mend it"),
    (stale_cell, "code cell 2 changed since the notebook ran"),
    (cells_swapped, "code cells 2, 3 changed since the notebook ran, or did not run in"),
    (counts_made_up, "code cell 2 changed since the notebook ran"),
    (unanswered, "question 1 is not answered: write below it"),
    (no_answer_cell, "question 1 has lost the cell of its answer"),
    (no_questions, "has 0 questions: put the cells back"),
    (fewer_questions, "has 1 question, not 2: put the cells back"),
    (no_record, "no result of resnet18_extractor: 04_resnet18_feature_extractor.ipynb writes it"),
    (edited_accuracy, "says that the accuracy is 0.99, its predictions say"),
    (edited_count, "says 40 of 40 are right, its predictions say"),
    (edited_predictions, "predictions.csv was changed after it was recorded"),
    (no_predictions, "predictions.csv is damaged"),
    (damaged_record, "cannot read results/full/resnet18_extractor/record.json"),
    (record_without_a_part, "resnet18_extractor/record.json is damaged (it has no profile)"),
    (record_of_another_student, "is student 's7654321''s, not 's1234567''s: run"),
    (record_of_another_seed, "was made with the seed 7, yours is"),
    (record_of_other_pictures, "is about other pictures or splits"),
    (record_of_mini, "holds a record of the profile 'mini'"),
    (record_of_another_run, "is of 2026-03-01 16:02 UTC, when 04_resnet18_feature"),
    (outputs_of_another_run, "as it was saved does not print what the record of resnet18_extr"),
    (record_without_a_zone, "has no time zone"),
    (comparison_too_early, "06_comparison.ipynb ran before 05_efficientnet_b5_finetune.ipynb had"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_what_is_missing_is_one_plain_line_and_nothing_is_written(desk, spoil, message, capsys):
    spoil(desk)
    assert desk.submit() == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not any(str(folder) in lines[0] for folder in (desk.folder, desk.results))
    assert not desk.out.exists()


def test_no_log_is_a_line_a_notebook(desk, capsys):
    no_log(desk)
    assert desk.submit() == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert len(lines) == 6
    assert all("the log does not show that you ran it: restart" in line for line in lines)


# Anyway


def test_incomplete_anyway(desk, capsys):
    no_notebook(desk)
    damaged_record(desk)
    unanswered_name = NOTEBOOKS[0]
    desk.edit(unanswered_name, lambda notebook: notebook.cells[4].update(source=""))
    assert desk.submit("--anyway") == 0
    printed = capsys.readouterr().out
    assert "INCOMPLETE" in printed
    with desk.written() as archive:
        manifest = manifest_of(archive.read(MANIFEST))
        names = archive.namelist()
        damaged = archive.read("results/resnet18_extractor/record.json")
    assert not manifest.complete
    assert [f"- {line}" for line in manifest.missing] == [
        line for line in printed.splitlines() if line.startswith("- ")
    ]
    assert len(manifest.missing) == 3
    assert f"notebooks/{NOTEBOOKS[3]}" not in names
    assert damaged == b'{"schema": 1'  # as it is: a person will look at it


def test_mini_is_refused_without_anyway(desk, monkeypatch, capsys):
    monkeypatch.setenv("KIT_PROFILE", "mini")
    assert desk.submit() == 1
    printed = capsys.readouterr().out
    assert "- this is the mini profile (set by KIT_PROFILE), the assignment is the full" in printed
    assert not desk.out.exists()
    assert desk.submit("--anyway") == 0
    with desk.written() as archive:
        manifest = manifest_of(archive.read(MANIFEST))
    assert (manifest.profile, manifest.complete) == ("mini", False)


def test_without_an_id_not_even_anyway(desk, capsys):
    no_id(desk)
    assert desk.submit("--anyway") == 1
    assert "without an id" in capsys.readouterr().out
    assert not desk.out.exists()


def test_nothing_at_all(tmp_path, make_desk, capsys):
    desk = make_desk()
    for path in [*desk.folder.iterdir(), desk.log]:
        path.unlink()
    assert desk.submit("--anyway") == 0
    with desk.written() as archive:
        assert len(archive.namelist()) == 1 + 2 * len(METHOD_OF)


def test_a_folder_that_cannot_be_written_is_one_line(desk, capsys):
    desk.out.write_text("a file")
    assert desk.submit() == 2
    assert "error: cannot write" in capsys.readouterr().err


def test_large_handin_is_told(desk, monkeypatch, capsys):
    monkeypatch.setattr(submit, "MOST_BYTES", 1000)
    assert desk.submit() == 0
    assert "many learning systems take no more than" in capsys.readouterr().out


def test_what_the_runner_ran_and_saved_can_be_handed_in(tmp_path, monkeypatch, capsys):
    """Kernel, hooks, log and notebook, all of them real; of six notebooks the first."""
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    start = "import helpers\nworkspace = helpers.start(student='s7')"
    path = write_notebook(tmp_path / "notebooks", "01_dataset_tour", start, "x = 1", "\n")
    runner.run_notebooks(profile="mini", save_notebooks=True)
    entries, _ = read_log((tmp_path / "results" / "mini" / "log.jsonl").read_text())
    assert [(e.notebook, e.count, e.ok) for e in entries] == [(path.name, n, True) for n in (1, 2)]
    capsys.readouterr()
    assert cli.main(["submit"]) == 1
    of_the_first = [line for line in capsys.readouterr().out.splitlines() if path.name in line]
    assert of_the_first == [f"- {path.name} has 0 questions: put the cells back"]


# Ids and names


@pytest.mark.parametrize(
    "student",
    [
        "s/1",
        "../../etc",
        "con",
        "COM1.x",
        "s1.",
        " ",
        "é",
        "名前",
        "a" * 200,
        "a:b",
        "-x",
        "\ud800",
    ],
)
def test_odd_ids_make_safe_names(student):
    assert is_safe_on_windows(safe_name(student))
    assert safe_name(student) != student


@pytest.mark.parametrize("student", ["s1234567", "ada.lovelace", "A_b-9", "comet", "com"])
def test_plain_ids_are_their_own_names(student):
    assert safe_name(student) == student
    assert handin_name(student) == f"submission-{student}.zip"


def is_safe_on_windows(name: str) -> bool:
    base = name.split(".")[0].upper()
    devices = {"CON", "PRN", "AUX", "NUL"} | {f"{d}{n}" for d in ("COM", "LPT") for n in range(10)}
    return (
        0 < len(name) <= 64
        and name.isascii()
        and not set(name) & set('<>:"/\\|?* \t\n')
        and name[0] not in ".-"
        and name[-1] not in ". "
        and base not in devices
    )


def test_any_id_makes_a_safe_name_of_its_own():
    chance = random.Random(0)
    letters = "abcXYZ019._- /\\:*?\t\n\0éß名😀\u202e"
    devices = ["", "", "CON", "nul", "Com1", "LPT9"]
    for _ in range(2000):
        student = chance.choice(devices) + "".join(chance.choices(letters, k=chance.randrange(80)))
        name = safe_name(student)
        assert is_safe_on_windows(name), (student, name)
        assert safe_name(name) == name
        assert safe_name(student + "/") != safe_name(student + "?")


def test_the_manifest_keeps_an_odd_id(make_desk):
    desk = make_desk("s/1: ß")
    assert desk.submit() == 0
    (path,) = desk.out.iterdir()
    assert path.name == f"submission-{safe_name('s/1: ß')}.zip"
    with desk.written() as archive:
        assert manifest_of(archive.read(MANIFEST)).student == "s/1: ß"


# Questions and answers


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        (ANSWER_STUB, ""),
        ("*Your answer:*\n\n ...", ""),
        ("YOUR ANSWER HERE", ""),
        ("Your answer:\n<!-- nothing yet -->", ""),
        ("**Your answer:** 42", "42"),
        ("*Your answer:*\n\nFlowers *are* alike.\n", "Flowers *are* alike."),
        ("Because.", "Because."),
        ("The answer is: your answer:", "The answer is: your answer:"),
        ("因为", "因为"),
    ],
)
def test_what_is_an_answer(source, text):
    assert answer_text(source) == text


def test_questions_of_a_notebook():
    def cell(source, *tags):
        return v4.new_markdown_cell(source, metadata={"tags": list(tags)} if tags else {})

    notebook = v4.new_notebook(
        cells=[
            cell("Q1", "question"),
            cell("my own remark"),
            cell("A1", "answer"),
            cell("Q2", "question"),
            cell("Q3", "question"),
            cell(ANSWER_STUB, "answer"),
        ]
    )
    found = [(q.number, q.text, q.answer) for q in questions_of(notebook)]
    assert found == [(1, "Q1", "A1"), (2, "Q2", None), (3, "Q3", "")]


def test_the_notebooks_of_the_kit_are_the_ones_to_hand_in():
    folder = Path(__file__).resolve().parents[1] / "notebooks"
    assert sorted(path.name for path in folder.glob("*.ipynb")) == list(NOTEBOOKS)
    for name in NOTEBOOKS:
        questions = questions_of(nbformat.read(folder / name, as_version=4))
        assert all(question.answer is not None for question in questions)


# The manifest

MANIFEST_VALUES = {
    "kit": "0.1.0", "student": "s1", "name": None, "created": "2026-03-01T12:00:00+00:00",
    "profile": "full", "complete": True, "missing": [], "machine": {}, "files": {"a": "b"},
}  # fmt: skip


def test_manifest_round_trip(tmp_path):
    manifest = Manifest(**MANIFEST_VALUES)
    assert manifest_of(manifest.as_json()) == manifest
    path = write_handin(tmp_path, manifest, {"a": b"1"})
    with zipfile.ZipFile(path) as archive:
        written = manifest_of(archive.read(MANIFEST))
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert written == dataclasses.replace(manifest, files={"a": hashlib.sha256(b"1").hexdigest()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "another version of the kit: schema 2"),
        ({"student": 7}, "no usable 'student': 7"),
        ({"complete": "yes"}, "no usable 'complete'"),
        ({"missing": [1]}, "damaged list"),
        ({"files": {"a": None}}, "damaged list"),
        ({"created": "today"}, "does not say when"),
        ({"created": "2026-03-01T12:00:00"}, "does not say when"),
    ],
)
def test_damaged_manifest(change, message):
    (fault,) = manifest_faults({"schema": handin.SCHEMA, **MANIFEST_VALUES, **change})
    assert message in fault
