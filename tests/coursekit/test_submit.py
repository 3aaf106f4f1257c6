"""Handing in: a good hand-in is packed, and each kind of missing thing gets its own line."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode, v4

from coursekit import __main__ as cli
from coursekit import notebooks
from coursekit.handin.log import read_log
from coursekit.handin.package import (
    MANIFEST,
    NOTEBOOKS,
    SCHEMA,
    Manifest,
    handin_name,
    manifest_faults,
    write_handin,
)
from coursekit.notebooks import METHOD_OF
from coursekit.questions import ANSWER_STUB, answer_text
from helpers.data import data_set_of
from helpers.lib.cell_log import Entry, source_hash
from helpers.lib.files import read_json, write_json
from helpers.lib.identity import seed_of
from helpers.workspace import find_workspace
from tools.made_up import write_notebook, write_result
from tools.tiny import write_class_folders

STUDENT = "s1234567"
MORNING = datetime.datetime(2026, 3, 1, 9, tzinfo=datetime.timezone.utc)
SPOILED = NOTEBOOKS[3]  # which most of the tests do something to
ERROR = v4.new_output("error", ename="ValueError", evalue="", traceback=[])


def manifest_of(data: bytes | str) -> Manifest:
    """A manifest as it was written, without a fault."""
    values = json.loads(data)
    assert manifest_faults(values) == []
    return Manifest(**values)


class Desk:
    """The work of a student on this machine: six small notebooks, four results and the log."""

    def __init__(self, root: Path, student: str) -> None:
        self.folder, self.results = root / "notebooks", root / "results" / "full"
        self.out, self.log = root / "out", self.results / "log.jsonl"
        self.folder.mkdir()
        write_json(root / "results" / "assignment.json", {"student": student})
        fingerprint = data_set_of(find_workspace()).fingerprint
        for hour, name in enumerate(NOTEBOOKS):
            if name[:2] in METHOD_OF:
                method = METHOD_OF[name[:2]]
                options = {"student": student, "profile": "full", "fingerprint": fingerprint}
                write_result(self.results, method, **options)
                finished = f"2026-03-01T{9 + hour:02d}:02:05+00:00"
                self.edit_record(name, seed=seed_of(student), finished=finished)
            self.run(name, MORNING + datetime.timedelta(hours=hour))

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
            self.add_to_log(cell.source, number, ended, session=name)
        if name[:2] in METHOD_OF:
            score = read_json(self.record(name))["test"]
            printed = f"test: accuracy ({score['correct']:,}/{score['total']:,})\n"
            cells[2].outputs = [v4.new_output("stream", name="stdout", text=printed)]
        notebook = v4.new_notebook(cells=[*cells, question, answer])
        for number, cell in enumerate(notebook.cells):
            cell.id = f"{name[:2]}-{number}"
        nbformat.write(notebook, self.folder / name)

    def add_to_log(
        self, source: str, count: int, ended: datetime.datetime, *, session: str, ok: bool = True
    ) -> None:
        entry = Entry(None, source_hash(source), count, ended.isoformat(), ok, 60.0, session)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(entry.as_line())

    def edit_log(self, change: Callable[[list[str]], list[str]]) -> None:
        self.log.write_text("".join(change(self.log.read_text().splitlines(keepends=True))))

    def edit(self, change: Callable[[NotebookNode], object], name: str = SPOILED) -> None:
        """Change a notebook as somebody with an editor would."""
        notebook = nbformat.read(self.folder / name, as_version=4)
        change(notebook)
        nbformat.write(notebook, self.folder / name)

    def edit_cell(self, number: int, name: str = SPOILED, **values: Any) -> None:
        self.edit(lambda notebook: notebook.cells[number].update(values), name)

    def record(self, name: str = SPOILED) -> Path:
        return self.results / METHOD_OF[name[:2]] / "record.json"

    def edit_record(self, name: str = SPOILED, **values: Any) -> None:
        """Change values of a record; those of a dict in it are added to what is there."""
        record = read_json(self.record(name))
        for key, value in values.items():
            record[key] = record[key] | value if isinstance(value, dict) else value
        write_json(self.record(name), record)

    def submit(self, *options: str) -> int:
        return cli.main(["submit", "--out", str(self.out), *options])

    def written(self) -> dict[str, bytes]:
        """What was handed in, path by path."""
        (path,) = self.out.iterdir()
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("pictures"), {"blue": 5, "red": 5})


@pytest.fixture
def make_desk(tmp_path, monkeypatch, pictures) -> Callable[[str], Desk]:
    """Makes a desk on a machine where the full profile is about a few pictures."""
    for name, value in {
        "RESULTS": tmp_path / "results",
        "DATASET": pictures,
        "PROFILE": "full",
    }.items():
        monkeypatch.setenv(f"KIT_{name}", str(value))
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    return lambda student=STUDENT: Desk(tmp_path, student)


@pytest.fixture
def desk(make_desk) -> Desk:
    return make_desk()


def missing(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("- ")]


# A good hand-in


def test_complete_handin(desk, capsys):
    assert desk.submit("--name", "Ada Löwe") == 0
    printed = capsys.readouterr().out
    assert "submission-s1234567.zip: 15 files, complete" in printed
    assert missing(printed) == []
    assert [path.name for path in desk.out.iterdir()] == ["submission-s1234567.zip"]
    content = desk.written()
    manifest = manifest_of(content.pop(MANIFEST))
    assert (manifest.schema, manifest.student, manifest.name) == (1, STUDENT, "Ada Löwe")
    assert (manifest.profile, manifest.complete, manifest.missing) == ("full", True, [])
    assert manifest.files == {
        name: hashlib.sha256(data).hexdigest() for name, data in content.items()
    }
    assert content.pop("results/log.jsonl") == desk.log.read_bytes()
    for name in NOTEBOOKS:
        assert content.pop(f"notebooks/{name}") == (desk.folder / name).read_bytes()
    for method in METHOD_OF.values():
        for file in ("record.json", "predictions.csv"):
            path = desk.results / method / file
            assert content.pop(f"results/{method}/{file}") == path.read_bytes()
    assert content == {}


def test_what_else_was_run_does_no_harm(desk):
    """Extensions are not handed in; runs that went wrong and other kernels stay in the log."""
    name = "07_cnn_vs_transfer_cifar100"
    write_result(desk.results / "extensions" / name, "bn_cnn", student=STUDENT, profile="full")
    (desk.folder / "extensions").mkdir()
    (desk.folder / "extensions" / f"{name}.ipynb").write_text("{}")
    evening = MORNING + datetime.timedelta(hours=12)
    for number, source in enumerate(("workspace = start()", "x = 'old'"), start=1):
        desk.add_to_log(source, number, evening, session="another", ok=False)
    desk.edit_log(lambda lines: [*lines, '{"notebook": nu'])
    assert desk.submit() == 0
    content = desk.written()
    assert len(content) == 16 and not [one for one in content if "07" in one or "extensi" in one]
    assert content["results/log.jsonl"].endswith(b'}\n{"notebook": nu')


def test_an_error_that_is_meant_is_none(desk):
    desk.edit_cell(1, NOTEBOOKS[0], metadata={"tags": ["raises-exception"]}, outputs=[ERROR])
    desk.edit_log(lambda lines: [lines[0], lines[1].replace("true", "false"), *lines[2:]])
    assert desk.submit() == 0


# What can be missing: each of these spoils a good hand-in in one way.


def no_id(desk):
    (desk.results.parent / "assignment.json").unlink()
    data = {"fingerprint": data_set_of(find_workspace()).fingerprint}  # splits are by the seed
    for name in NOTEBOOKS[1:5]:
        desk.edit_record(name, student=None, seed=0, data=data)


def not_executed(desk):
    for number in range(3):
        desk.edit_cell(number, execution_count=None)


def error_taken_out(desk):
    desk.edit_log(lambda lines: [*lines[:10], lines[10].replace("true", "false"), *lines[11:]])


def cells_swapped(desk):
    desk.edit_cell(1, source="save_result(x)")
    desk.edit_cell(2, source=f"x = '{SPOILED}'")


def ran_elsewhere(desk):
    desk.edit_log(lambda lines: [line for line in lines if SPOILED not in line])


def fewer_questions(desk):
    noted = {"notebook": SPOILED, "questions": 2}
    desk.edit(lambda notebook: notebook.metadata.update(kit=noted))


def edited_predictions(desk):
    path = desk.record().with_name("predictions.csv")
    path.write_text(path.read_text().replace("iris", "rose"))


def comparison_too_early(desk):
    earlier = "2026-03-01T14", "2026-03-01T13"
    desk.edit_log(lambda lines: [*lines[:15], *(line.replace(*earlier) for line in lines[15:])])


def outputs_of_another_run(desk):
    """The code ran, as the log says, but the file that shows its outputs was not saved."""
    desk.edit_cell(2, outputs=[])


def only_cells(first: int, last: int, name: str = SPOILED) -> Callable[[Desk], None]:
    return lambda desk: desk.edit(
        lambda notebook: notebook.update(cells=notebook.cells[first:last]), name
    )


RECORD = "results/full/resnet18_extractor/record.json"
ANOTHER_DAY = "2026-03-02T12:02:05+00:00"
# fmt: off
FAULTS = [
    (no_id, "no student id: write it into start"),
    (lambda desk: (desk.folder / SPOILED).unlink(), f"cannot read {SPOILED}: No such file"),
    (lambda desk: (desk.folder / SPOILED).write_text("{"), f"{SPOILED} is not a valid notebook"),
    (only_cells(3, 5, NOTEBOOKS[0]), "01_dataset_tour.ipynb: the log does not show"),
    (not_executed, "code cell 1 was not executed; code cell 2 was not executed"),
    (lambda desk: desk.edit_cell(1, execution_count=9), "has the execution count 9: run all cells"),
    (lambda desk: desk.edit_cell(1, outputs=[ERROR]), "code cell 2 ended in an error: restart"),
    (error_taken_out, "code cell 2 ended in an error when it ran: fix it"),
    (lambda desk: desk.edit_cell(1, source="x = 'new'"), "code cell 2 changed since the notebook"),
    (cells_swapped, "code cells 2, 3 changed since the notebook ran, or did not run in"),
    (ran_elsewhere, "code cell 2 changed since the notebook ran"),
    (lambda desk: desk.edit_cell(4, source=ANSWER_STUB), "question 1 is not answered: write below"),
    (only_cells(0, 4), "question 1 has lost the cell of its answer"),
    (only_cells(0, 3), "the number of its questions is 0: put the cells back"),
    (fewer_questions, "the number of its questions is 1, not 2: put the cells back"),
    (lambda desk: desk.record().unlink(), f"no result of resnet18_extractor: {SPOILED} writes it"),
    (lambda desk: desk.record().write_text('{"sch'), f"cannot read {RECORD}"),
    (edited_predictions, "predictions.csv was changed after it was recorded"),
    (lambda desk: desk.edit_record(student="s7"), "is student 's7''s, not 's1234567''s: run"),
    (lambda desk: desk.edit_record(seed=7), "has the seed 7, yours is"),
    (lambda desk: desk.edit_record(data={"fingerprint": "a"}), "is about other pictures or splits"),
    (lambda desk: desk.edit_record(finished=ANOTHER_DAY), f"was not made when {SPOILED} as it is"),
    (lambda desk: desk.edit_record(finished="now"), f"was not made when {SPOILED} as it is"),
    (outputs_of_another_run, "as it was saved does not print what the record of resnet18_extr"),
    (comparison_too_early, "06_comparison.ipynb ran before 05_efficientnet_b5_finetune.ipynb had"),
]
# fmt: on


@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_what_is_missing_is_one_plain_line_and_nothing_is_written(desk, spoil, message, capsys):
    spoil(desk)
    assert desk.submit() == 1
    (line,) = missing(capsys.readouterr().out)
    assert message in line
    assert not any(str(folder) in line for folder in (desk.folder, desk.results))
    assert not desk.out.exists()


# Anyway


def test_incomplete_anyway(desk, capsys):
    (desk.folder / SPOILED).unlink()
    desk.record().write_text('{"schema": 1')
    desk.edit_cell(4, NOTEBOOKS[0], source="")
    assert desk.submit("--anyway") == 0
    printed = capsys.readouterr().out
    assert "INCOMPLETE" in printed
    content = desk.written()
    manifest = manifest_of(content[MANIFEST])
    assert not manifest.complete
    assert [f"- {line}" for line in manifest.missing] == missing(printed)
    assert len(manifest.missing) == 3
    assert f"notebooks/{SPOILED}" not in content
    # As it is: a person will look at it.
    assert content["results/resnet18_extractor/record.json"] == b'{"schema": 1'


def test_mini_is_refused_without_anyway(desk, monkeypatch, capsys):
    monkeypatch.setenv("KIT_PROFILE", "mini")
    assert desk.submit() == 1
    printed = capsys.readouterr().out
    assert "- this is the mini profile (set by KIT_PROFILE), the assignment is the full" in printed
    assert not desk.out.exists()
    assert desk.submit("--anyway") == 0
    manifest = manifest_of(desk.written()[MANIFEST])
    assert (manifest.profile, manifest.complete) == ("mini", False)


def test_without_an_id_not_even_anyway(desk, capsys):
    no_id(desk)
    assert desk.submit("--anyway") == 1
    assert "without an id" in capsys.readouterr().out
    assert not desk.out.exists()


def test_a_folder_that_cannot_be_written_is_one_line(desk, capsys):
    desk.out.write_text("a file")
    assert desk.submit() == 2
    assert "error: cannot write" in capsys.readouterr().err


def test_what_the_runner_ran_and_saved_can_be_handed_in(tmp_path, monkeypatch, capsys):
    """Kernel, hooks, log and notebook, all of them real; of six notebooks the first."""
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    start = "import helpers\nworkspace = helpers.start(student='s7')"
    path = write_notebook(tmp_path / "notebooks", "01_dataset_tour", start, "x = 1", "\n")
    assert cli.main(["run", "--profile", "mini", "--save-notebooks"]) == 0
    entries, _ = read_log((tmp_path / "results" / "mini" / "log.jsonl").read_text())
    assert [(e.notebook, e.count, e.ok) for e in entries] == [(path.name, n, True) for n in (1, 2)]
    capsys.readouterr()
    assert cli.main(["submit"]) == 1
    of_the_first = [line for line in capsys.readouterr().out.splitlines() if path.name in line]
    no_question = "the number of its questions is 0: put the cells back"
    assert of_the_first == [f"- {path.name}: {no_question}"]


# Ids and names


@pytest.mark.parametrize("student", ["s1234567", "ada.lovelace", "A_b-9"])
def test_plain_ids_are_their_own_names(student):
    assert handin_name(student) == f"submission-{student}.zip"


def test_any_other_id_makes_a_safe_name_of_its_own(make_desk):
    ids = ["s/1: ß", "s/1: ?", "../../x", "a" * 80, "a" * 81, "\0", "名", "\ud800", ""]
    names = [handin_name(student) for student in ids]
    assert len(set(names)) == len(ids)
    assert all(re.fullmatch(r"submission-[\w.-]{0,75}\.zip", name, re.ASCII) for name in names)
    desk = make_desk(ids[0])
    assert desk.submit() == 0
    assert [path.name for path in desk.out.iterdir()] == [names[0]]
    assert manifest_of(desk.written()[MANIFEST]).student == ids[0]


# Questions and answers


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("*Your answer:*\n\n ...", ""),
        ("YOUR ANSWER HERE", ""),
        ("Your answer:\n<!-- nothing yet -->", ""),
        ("**Your answer:** 42", "42"),
        ("*Your answer:*\n\nFlowers *are* alike.\n", "Flowers *are* alike."),
        ("The answer is: your answer:", "The answer is: your answer:"),
        ("因为", "因为"),
    ],
)
def test_what_is_an_answer(source, text):
    assert answer_text(source) == text


# The manifest

MANIFEST_VALUES = {
    "kit": "0.1.0", "student": "s1", "name": None, "created": "2026-03-01T12:00:00+00:00",
    "profile": "full", "complete": True, "missing": [], "machine": {}, "files": {"a": "b"},
}  # fmt: skip


def test_equal_content_makes_equal_files(tmp_path):
    manifest = Manifest(**MANIFEST_VALUES)
    assert manifest_of(manifest.as_json()) == manifest
    first, second = (
        write_handin(tmp_path / name, manifest, files)
        for name, files in (("one", {"a": b"1", "b": b"2"}), ("two", {"b": b"2", "a": b"1"}))
    )
    assert first.read_bytes() == second.read_bytes()
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in (("a", b"1"), ("b", b"2"))}
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        written = manifest_of(archive.read(MANIFEST))
    assert written == dataclasses.replace(manifest, files=hashes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "another version of the kit: schema 2"),
        ({"student": 7}, "no usable 'student': 7"),
        ({"complete": "yes"}, "no usable 'complete'"),
        ({"files": {"a": None}}, "damaged list"),
        ({"created": "today"}, "does not say when"),
        ({"created": "2026-03-01T12:00:00"}, "does not say when"),
    ],
)
def test_damaged_manifest(change, message):
    (fault,) = manifest_faults({"schema": SCHEMA, **MANIFEST_VALUES, **change})
    assert message in fault
