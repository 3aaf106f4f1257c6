"""Grading a class: points and flags where they belong, pages that trust nothing, equal bytes."""

from __future__ import annotations

import copy
import csv
import datetime
import os
import re
import subprocess
import sys

import breakages
import numpy as np
import pytest
import sample_class
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_class import SHORT_ANSWER, build, make_hand_in, write_labels, write_sample, zipped

from coursekit.grading import grade as grade_module
from coursekit.grading.case import Case
from coursekit.grading.cells import Cell, Notebook, match_cells
from coursekit.grading.find import Place
from coursekit.grading.grade import Grader, grade_all, grade_class, read_templates
from coursekit.grading.gradebook import Grade, harmless, name_pages
from coursekit.grading.read import HandIn, parse_predictions
from coursekit.grading.rubric import read_rubric, share_of
from coursekit.grading.similarity import (
    Material,
    code_runs,
    compare,
    material_of,
    shared_counts,
    template_code,
    word_runs,
)
from coursekit.grading.tampering import flags_of
from helpers import __main__ as cli
from helpers.errors import KitError


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The class of twelve and what each of it is; one hand-in is full of scripts."""
    folder = tmp_path_factory.mktemp("class")
    kinds = write_sample(folder / "hand-ins", folder / "data")
    labels = write_labels(folder / "data")
    bad = make_hand_in(40, labels)
    build(bad, labels)
    (folder / "hand-ins" / bad.file_name).write_bytes(breakages.scripts(bad))
    return folder, kinds | {bad.student: "scripts"}


@pytest.fixture(scope="module")
def graded(sample):
    """Its grades, written to grades/ beside it."""
    folder, _ = sample
    before = os.environ.get("KIT_DATA")
    os.environ["KIT_DATA"] = str(folder / "data")
    try:
        yield grade_class(folder / "hand-ins", folder / "grades", workers=2)
    finally:
        os.environ.pop("KIT_DATA") if before is None else os.environ.update(KIT_DATA=before)


@pytest.fixture(scope="module")
def labels(sample):
    return write_labels(sample[0] / "data")


def rows_of(folder) -> dict[str, dict[str, str]]:
    with (folder / "grades.csv").open(encoding="utf-8", newline="") as stream:
        return {row["student"]: row for row in csv.DictReader(stream)}


def test_everybody_has_a_row_in_order(sample, graded):
    folder, kinds = sample
    assert sorted(rows_of(folder / "grades")) == sorted(kinds)
    assert [grade.student for grade in graded] == sorted(kinds)
    pages = sorted(path.stem for path in (folder / "grades" / "feedback").iterdir())
    assert pages == sorted(kinds)


def test_points(sample, graded):
    folder, kinds = sample
    rows = rows_of(folder / "grades")
    for student, kind in kinds.items():
        row = rows[student]
        if kind in ("good", "late"):
            assert (row["total"], row["to_read"], row["of"]) == ("70", "30", "100")
            assert (row["status"], row["flags"], row["remarks"]) == ("graded", "", "") or row[
                "flags"
            ]
            assert row["7.4 answers"] == "to read"
        elif kind == "broken":
            assert (row["total"], row["1.1 full profile"]) == ("", "")
            assert row["status"] == "needs a person: could not be graded"
        elif kind == "incomplete":
            assert (row["6.5 accuracy"], row["7.2 table"]) == ("0", "0")
            assert "notebook 05 is missing" in row["remarks"]


def test_flags_are_on_the_tampered_and_their_sources_only(sample, graded):
    _, kinds = sample
    expected = {
        "edit_notebook": {"accuracy"},
        "copy_predictions": {"same predictions"},
        "copy_work": {"same answers", "same cells"},
        "wrong_seed": {"seed"},
        "late": set(),
        "incomplete": set(),
        "broken": set(),
    }
    found = {grade.student: {flag.kind for flag in grade.flags} for grade in graded}
    for student, kind in kinds.items():
        if kind in expected:
            assert found[student] == expected[kind], (student, kind)
    sources = {flag.other for grade in graded for flag in grade.flags if flag.other}
    for student, kind in kinds.items():
        assert kind != "good" or bool(found[student]) == (student in sources)
    assert len([s for s in sources if kinds[s] == "good"]) == 2


def test_flags_take_no_points(sample, graded):
    folder, kinds = sample
    totals = {row["total"] for s, row in rows_of(folder / "grades").items()
              if kinds[s] in ("copy_predictions", "copy_work", "wrong_seed")}  # fmt: skip
    assert totals == {"70"}


def read_page(path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_pages_hold_nothing_that_runs_or_is_fetched(sample, graded):
    folder, _ = sample
    pages = [folder / "grades" / "class.html", *(folder / "grades" / "feedback").iterdir()]
    for path in pages:
        soup = read_page(path)
        assert not soup.find_all(["script", "link", "iframe", "object", "embed", "img", "base"])
        assert not [t for t in soup.find_all(True) for name in t.attrs if name.startswith("on")]
        policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
        assert policy["content"].startswith("default-src 'none'")
        assert soup.find("meta", attrs={"name": "viewport"})
        assert soup.html["lang"] == "en"
    texts = (folder / "grades" / "class.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;document.title" in texts


def test_a_feedback_page_is_about_its_student_only(sample, graded):
    folder, kinds = sample
    for student in kinds:
        text = (folder / "grades" / "feedback" / f"{student}.html").read_text(encoding="utf-8")
        assert student in text
        others = [other for other in kinds if other != student]
        assert not [other for other in others if other in text]
        assert "same predictions" not in text  # what is suspected is not for the student's page


def test_the_class_page(sample, graded):
    folder, _ = sample
    soup = read_page(folder / "grades" / "class.html")
    titles = [tag.text for tag in soup.find_all("h2")]
    assert titles[0] == "Overview" and len(titles) == 7
    ids = {tag["id"] for tag in soup.find_all(id=True)}
    assert all(link["href"][1:] in ids for link in soup.nav.find_all("a"))
    assert len(soup.find_all("details")) == 22  # questions
    assert soup.find_all("svg", class_="chart")
    assert all(svg.get("aria-label") for svg in soup.find_all("svg", attrs={"role": "img"}))
    assert SHORT_ANSWER in soup.text
    experiment = soup.find("section", attrs={"aria-labelledby": "experiment"}).table
    runs = [int(row.find_all("td")[0].text) for row in experiment.tbody.find_all("tr")]
    # Ten can be read. The edited one, the copy and its source are no runs of their own; the
    # incomplete one lacks B5, and the one with the scripts says full of two methods only.
    assert runs == [7, 8, 7, 7]


def all_bytes(folder) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_the_same_input_gives_the_same_bytes(sample, graded, monkeypatch, tmp_path):
    folder, _ = sample
    monkeypatch.setenv("KIT_DATA", str(folder / "data"))
    grade_class(folder / "hand-ins", tmp_path / "again", workers=1)
    assert all_bytes(tmp_path / "again") == all_bytes(folder / "grades")


def test_what_was_graded_is_not_graded_again(sample, graded, monkeypatch):
    """An interrupted run goes on: only what is not kept is looked at."""
    folder, _ = sample
    before = all_bytes(folder / "grades")
    kept = sorted((folder / "grades" / ".cache").glob("*.json"))
    kept = [path for path in kept if path.name != "pages.json"]
    kept[0].unlink()
    kept[1].write_text("{ half of it")
    looked = folder / "looked"

    def count(place, templates, *, original=grade_module.read_hand_in):
        with looked.open("a") as stream:  # it happens in another process
            stream.write(f"{place.name}\n")
        return original(place, templates)

    monkeypatch.setattr(grade_module, "read_hand_in", count)
    grade_class(folder / "hand-ins", folder / "grades", workers=2)
    if sys.platform == "linux":  # elsewhere workers import the package anew, without our counting
        assert len(looked.read_text().splitlines()) == 2
    assert all_bytes(folder / "grades") == before


def fill_in(out, text: str) -> None:
    (out / "points.csv").write_text(text, encoding="utf-8", newline="\n")


def test_points_of_a_person(sample, graded, monkeypatch):
    folder, _ = sample
    out = folder / "grades"
    table = (out / "points.csv").read_text(encoding="utf-8")
    student = graded[0].student
    start = f"submission-{student}.zip,{student},2.5 answers,4"
    old = next(row for row in table.splitlines() if row.startswith(start))
    try:
        fill_in(out, table.replace(old, start + ',3.5,"well said"'))
        again = grade_class(folder / "hand-ins", out)
        assert again[0].total(read_rubric()) == 73.5
        assert again[0].waiting(read_rubric()) == 26
        assert "well said" in (out / "feedback" / f"{student}.html").read_text(encoding="utf-8")
        assert "well said" in (out / "points.csv").read_text(encoding="utf-8")  # and is kept
        for line, message in (
            (f"{start},5,", r"points '5' are not within 0 and 4"),
            (f"{start},good,", r"points 'good' are not within"),
            (f"{start.replace('2.5', '9.9')},1,", "no line '9.9 answers'"),
            (f"other.{start},1,", "not among the hand-ins"),
        ):
            fill_in(out, table.replace(old, line))
            with pytest.raises(KitError, match=message):
                grade_class(folder / "hand-ins", out)
    finally:
        fill_in(out, table)
        grade_class(folder / "hand-ins", out)


def test_exports(sample, graded):
    folder, kinds = sample
    tables = {}
    for name in ("canvas", "moodle", "nbgrader"):
        with (folder / "grades" / "exports" / f"{name}.csv").open(encoding="utf-8") as stream:
            tables[name] = list(csv.reader(stream))
    assert tables["canvas"][0][:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert tables["canvas"][1][-1] == "100"
    assert tables["moodle"][0][0] == "ID number"
    assert tables["nbgrader"][0][3] == "student_id"
    good = next(student for student, kind in kinds.items() if kind == "good")
    broken = next(student for student, kind in kinds.items() if kind == "broken")
    for name, column, points in (("canvas", 3, 5), ("moodle", 0, 1), ("nbgrader", 3, 9)):
        found = {row[column]: row[points] for row in tables[name]}
        assert found[good] == "70"
        if name == "moodle":  # to which an empty grade may be 0
            assert broken not in found
        else:
            assert found[broken] == ""  # not 0: it was not graded
            assert len(found) == len(kinds) + (2 if name == "canvas" else 1)


def test_the_command(sample, graded, monkeypatch, capsys, tmp_path):
    folder, kinds = sample
    monkeypatch.setenv("KIT_DATA", str(folder / "data"))
    arguments = ["grade", str(folder / "hand-ins"), "--out", str(folder / "grades")]
    assert cli.main(arguments) == 0
    assert f"{len(kinds)} hand-ins: 2 could not be graded" in capsys.readouterr().out
    blocked = tmp_path / "a file"
    blocked.touch()
    assert cli.main([*arguments[:3], str(blocked)]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write ")
    assert cli.main(["grade", str(tmp_path / "none")]) == 2
    assert cli.main([*arguments, "--rubric", str(tmp_path / "none.toml")]) == 2
    assert cli.main([*arguments, "--workers", "0"]) == 2
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="workers import the package anew elsewhere")
def test_a_process_that_dies_costs_one_row(labels, tmp_path, monkeypatch):
    grader = Grader(read_rubric(), read_templates(), {"full": labels}, tmp_path)

    def die(self, place):
        if place.name == "deadly":
            os._exit(9)
        return Grade(place.name, findings={"x": None})

    monkeypatch.setattr(Grader, "grade", die)
    places = [Place(tmp_path, name=name) for name in ("a", "b", "deadly", "c", "d", "e", "f")]
    grades = {grade.place: grade for grade in grade_all(grader, places, 2)}
    assert sorted(grades) == sorted(place.name for place in places)
    assert "the process that read it died" in grades["deadly"].faults[0]
    assert all(grade.was_read for name, grade in grades.items() if name != "deadly")


def test_grading_loads_no_torch(sample, tmp_path):
    """A whole class is graded in a process that never loads what training needs."""
    folder, kinds = sample
    code = (
        "import sys, types\n"
        "package = types.ModuleType('helpers'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['helpers'] = package\n"
        "from pathlib import Path\n"
        "from coursekit.grading import grade\nfrom coursekit.handin import release\n"
        "found = {'torch', 'torchvision', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not found, found\n"
        "grades = grade.grade_class(Path(sys.argv[2]), Path(sys.argv[3]), workers=1)\n"
        "found = {'torch', 'torchvision', 'matplotlib', 'nbconvert'} & set(sys.modules)\n"
        "assert not found, found\n"
        "print(len(grades))"
    )
    package = grade_module.Path(grade_module.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(package), str(folder / "hand-ins"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=os.environ | {"KIT_DATA": str(folder / "data")},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(len(kinds))


# Single flags


@pytest.fixture(scope="module")
def two(labels):
    return make_hand_in(20, labels), make_hand_in(21, labels)


def case_of(hand_in, labels, tmp_path, **options) -> Case:
    from coursekit.grading.find import find_hand_ins
    from coursekit.grading.read import read_hand_in

    build(hand_in, labels, **options)
    (tmp_path / "x.zip").write_bytes(zipped(hand_in.files))
    (place,) = find_hand_ins(tmp_path)
    templates = read_templates()
    return Case(read_hand_in(place, templates), templates, {"full": labels})


@pytest.mark.parametrize(
    ("tamper", "kinds"),
    [
        (sample_class.edit_notebook, {"accuracy"}),
        (sample_class.edit_record, {"accuracy", "table"}),
        (sample_class.edit_both, {"accuracy"}),
        (sample_class.edit_labels, {"predictions", "accuracy"}),
        (sample_class.edit_table, {"table"}),
        (sample_class.wrong_seed, {"seed"}),
        (sample_class.edit_cell, {"log", "date"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tampering_is_flagged(tamper, kinds, two, labels, tmp_path):
    hand_in, other = copy.deepcopy(two)
    tamper(hand_in, other)
    assert {flag.kind for flag in flags_of(case_of(hand_in, labels, tmp_path))} == kinds


def test_other_tampering_is_flagged(two, labels, tmp_path):
    hand_in = copy.deepcopy(two[0])
    hand_in.tables["bn_cnn"] = hand_in.labels["bn_cnn"].copy()  # all right, as if by magic
    hand_in.records["resnet18_finetune"]["machine"]["system"] = "another one"
    hand_in.records["resnet18_finetune"]["student"] = "somebody"
    hand_in.records["resnet18_extractor"]["history"][2]["val_loss"] += 0.1
    case = case_of(hand_in, labels, tmp_path, trust_hashes=True)
    kinds = {flag.kind for flag in flags_of(case)}
    assert {"predictions", "accuracy", "machine", "student", "history"} <= kinds


def test_files_changed_after_packing_are_flagged(two, labels, tmp_path):
    hand_in = copy.deepcopy(two[0])
    case = case_of(hand_in, labels, tmp_path)
    assert flags_of(case) == []
    hand_in.files["results/log.jsonl"] += b"\n"
    (tmp_path / "x.zip").write_bytes(zipped(hand_in.files))
    from coursekit.grading.find import find_hand_ins
    from coursekit.grading.read import read_hand_in

    read = read_hand_in(find_hand_ins(tmp_path)[0], case.templates)
    assert read.changed == ["results/log.jsonl"]


@pytest.mark.parametrize("name", [None, "Untitled.ipynb"])
def test_a_log_without_names_of_notebooks_is_understood(name, two, labels, tmp_path):
    hand_in = copy.deepcopy(two[0])
    for line in hand_in.log:
        line["notebook"] = name
    assert flags_of(case_of(hand_in, labels, tmp_path)) == []
    # What ran under no name is about one notebook, not about all of them.
    sessions = {line["notebook"]: line["session"] for line in two[0].log}
    gone = next(session for name, session in sessions.items() if name.startswith("03"))
    hand_in.log = [line for line in hand_in.log if line["session"] != gone]
    other = hand_in.records["efficientnet_b5_finetune"]["finished"]
    hand_in.records["bn_cnn"]["finished"] = other
    flags = flags_of(case_of(hand_in, labels, tmp_path))
    assert [flag.kind for flag in flags] == ["log", "date"]
    assert flags[0].text.startswith("03_resnet18_finetune.ipynb has")
    assert flags[0].text.endswith("none of them is logged")
    assert "BN-CNN" in flags[1].text


def test_without_labels_it_says_so(two, labels, tmp_path):
    case = case_of(copy.deepcopy(two[0]), labels, tmp_path)
    case.labels = {}
    from coursekit.grading.evidence import NO_LABELS, look

    remarks = {line.key: look(case, line) for line in read_rubric().lines}
    assert remarks["4.4 predictions"].remark == NO_LABELS
    assert NO_LABELS in remarks["1.2 same data"].remark
    assert remarks["4.4 predictions"].share == 1


def test_on_mini_any_accuracy_counts(two, labels, tmp_path):
    hand_in = copy.deepcopy(two[0])
    for record in hand_in.records.values():
        record["profile"] = "mini"
        record["data"]["name"] = "Flowers102 (drawn)"
    case = case_of(hand_in, labels, tmp_path)
    case.labels = {"mini": labels}
    from coursekit.grading.evidence import look

    rubric = read_rubric()
    lost = [line.key for line in rubric.lines if look(case, line).share not in (1, None)]
    assert lost == ["1.1 full profile"]
    assert case.hand_in.profile == "mini"


# Similarity


def test_one_short_answer_in_common_is_no_flag():
    text = word_runs(SHORT_ANSWER)
    pair = [Material(answers={"01.3": text}), Material(answers={"01.3": text})]
    assert compare(["a", "b"], ["a", "b"], pair) == [[], []]


def test_many_short_answers_in_common_are_a_flag():
    chance = np.random.default_rng(1)
    texts = [" ".join(chance.choice(list("abcdefghijklmnop"), 14)) for _ in range(9)]
    answers = {f"01.{n}": word_runs(text) for n, text in enumerate(texts)}
    flags = compare(["a", "b"], ["a", "b"], [Material(answers=answers)] * 2)
    assert [flag.kind for flag in flags[0]] == ["same answers"]
    assert "all together" in flags[0][0].text


def test_model_answers_are_recognised(sample, labels, tmp_path, monkeypatch):
    folder, _ = sample
    hand_in, other = make_hand_in(50, labels), make_hand_in(51, labels)
    for number, notebook in read_templates().items():
        models = [cell.source for cell in notebook.cells if "answer" in cell.tags]
        cells = sample_class.answer_cells(hand_in, number)
        for cell, model in zip(cells, models, strict=True):
            cell["source"] = model.replace("*Model answer:*", "*Your answer:*")
    for one in (hand_in, other):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / one.file_name).write_bytes(zipped(build(one, labels)))
    monkeypatch.setenv("KIT_DATA", str(folder / "data"))
    first, second = grade_class(tmp_path / "in", tmp_path / "out", workers=1)
    assert [(flag.kind, flag.other) for flag in first.flags] == [
        ("same answers", "the model answers")
    ]
    assert second.flags == []
    pages = (tmp_path / "out").rglob("*.html")
    texts = {path.name: path.read_text(encoding="utf-8") for path in pages}
    assert "the model answers" in texts["class.html"]
    assert "the model answers" not in texts[f"{first.student}.html"]


SOLUTION_OF_MANY = """head_ids = {id(p) for p in model.fc.parameters()}
backbone = [p for p in model.parameters() if id(p) not in head_ids]
optimizer = torch.optim.SGD([
    {"params": backbone, "lr": recipe.backbone_lr},
    {"params": list(model.fc.parameters()), "lr": recipe.head_lr},
], momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=[recipe.backbone_lr, recipe.head_lr],
    epochs=recipe.num_epochs, steps_per_epoch=len(data.train))"""


def test_the_same_solution_of_a_todo_is_no_flag(labels, tmp_path):
    pairs = {}
    for where in ("todo", "own"):
        pairs[where] = []
        for number in (60, 61):
            hand_in = make_hand_in(number, labels)
            if where == "todo":
                cells = hand_in.notebooks["03"]["cells"]
                todo = next(c for c in cells if "nesterov" in "".join(c["source"]))
                todo["source"] = SOLUTION_OF_MANY.replace("backbone", f"rest_{number}")
            else:
                sample_class.insert_cell(hand_in, SOLUTION_OF_MANY, "03")
            case = case_of(hand_in, labels, tmp_path)
            pairs[where].append(material_of(case, template_code(case.templates)))
    assert compare(["a", "b"], ["a", "b"], pairs["todo"]) == [[], []]
    assert [f.kind for f in compare(["a", "b"], ["a", "b"], pairs["own"])[0]] == ["same cells"]


def test_hand_ins_of_one_student_are_not_compared():
    material = Material(answers={"01.1": word_runs(" ".join(map(str, range(60))))})
    assert compare(["a", "b"], ["s1", "s1"], [material, material]) == [[], []]
    assert compare(["a", "b"], ["s1", "s2"], [material, material]) != [[], []]


def test_what_many_have_is_common_property():
    material = Material(answers={"01.1": word_runs(" ".join(map(str, range(60))))})
    names = [str(number) for number in range(20)]
    assert compare(names, names, [material] * 20) == [[]] * 20


def test_renamed_variables_and_remarks_do_not_hide_a_copy():
    first = "total = 0\nfor row in history:\n    total += row['loss'] * 2  # add\nprint(total, 'x')"
    second = "s = 1\nfor r in h:\n    s += r['acc'] * 3\n\nprint(s, 'y')"
    other = (
        "while True:\n    data.append(max(f(x) for x in range(3)))\n    break\nassert data, 'no'"
    )
    runs = [code_runs([Cell("code", text)]) for text in (first, second, other)]
    assert len(runs[0]) and np.array_equal(runs[0], runs[1])
    assert not np.intersect1d(runs[0], runs[2]).size


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_source_brings_the_comparison_down(source):
    code_runs([Cell("code", source)])
    word_runs(source)


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(-9, 9)), min_size=1, max_size=6))
def test_shared_counts(sets):
    counts = shared_counts([np.array(sorted(one), dtype=np.int64) for one in sets])
    assert counts.tolist() == [[len(a & b) for b in sets] for a in sets]


def collapsed(seed: int, chance: float) -> Material:
    """A network that says class 3 for every picture, each a little differently sure."""
    generator = np.random.default_rng(seed)
    guesses = np.full(200, 3)
    chances = np.round(chance + generator.normal(0, 30, 200)).astype(np.int16)
    return Material(guesses={"bn_cnn": guesses}, chances={"bn_cnn": chances},
                    mistakes={"bn_cnn": np.arange(200) > 9}, pictures={"bn_cnn": "p"})  # fmt: skip


def test_two_networks_that_learned_nothing_are_not_copies():
    pair = [collapsed(1, 900), collapsed(2, 1100)]
    assert compare(["a", "b"], ["a", "b"], pair) == [[], []]
    same = [collapsed(1, 900), collapsed(1, 900)]
    assert [flag.kind for flag in compare(["a", "b"], ["a", "b"], same)[0]] == ["same predictions"]


def test_the_same_weights_and_sessions_are_flags():
    pair = [Material(weights={"bn_cnn": "ab" * 32}, sessions=("x", "y"))] * 2
    kinds = [flag.kind for flag in compare(["a", "b"], ["a", "b"], pair)[0]]
    assert kinds == ["same weights", "same log"]


# The rubric


BANDS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5, unique_by=lambda b: b[0]
).map(lambda pairs: tuple(zip(*map(sorted, zip(*pairs, strict=True)), strict=True)))


@settings(deadline=None)
@given(BANDS, st.floats(0, 1), st.floats(0, 1))
def test_more_accuracy_never_gives_less(bands, one, other):
    low, high = sorted((one, other))
    shares = [share for _, share in bands]
    assert min(shares) - 1e-9 <= share_of(low, bands) <= share_of(high, bands) + 1e-9
    assert share_of(high, bands) <= max(shares) + 1e-9
    assert all(abs(share_of(a, bands) - s) < 1e-9 for a, s in bands)


def test_the_default_rubric_has_a_hundred_points_in_seven_tasks():
    rubric = read_rubric()
    assert rubric.points == 100
    assert [section.task for section in rubric.sections] == [str(n) for n in range(1, 8)]
    questions = {f"{line.notebook}.{n}" for line in rubric.lines for n in line.questions}
    case = Case(HandIn("x"), read_templates())
    assert questions == set(case.questions)  # every question counts, and there is no other


LINE = 'key = "a"\npoints = 1\nlook = "ran"\nnotebook = "01"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is not valid TOML"),
        ("", "has no"),
        ("[[section]]\ntask = 1", r"section 1 has no \[\[line\]\]"),
        (f"[[section]]\n[[section.line]]\n{LINE.replace('ran', 'run')}", "look = 'run' is unknown"),
        (f"[[section]]\n[[section.line]]\n{LINE.replace('1', '-1', 1)}", "points = -1"),
        ('[[section]]\n[[section.line]]\nkey="a"\npoints=1\nlook="ran"', "needs notebook"),
        (f"[[section]]\n[[section.line]]\n{LINE}method = 'x'", "method is not used"),
        (f"[[section]]\n[[section.line]]\n{LINE}[[section.line]]\n{LINE}", "two lines have"),
        (
            '[[section]]\n[[section.line]]\nkey="a"\npoints=1\nlook="accuracy"\nmethod="bn_cnn"\n'
            "bands=[[0.5, 1.0], [0.2, 0.5]]",
            "rising",
        ),
        (
            '[[section]]\n[[section.line]]\nkey="a"\npoints=1\nlook="history"\nmethod="vgg"',
            "unknown method 'vgg'",
        ),
        (f"due = 7\n[[section]]\n[[section.line]]\n{LINE}", "due = 7 is no time"),
    ],
)
def test_a_wrong_rubric_is_one_clear_line(text, message, tmp_path):
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(KitError, match=message) as error:
        read_rubric(tmp_path / "r.toml")
    assert "r.toml" in str(error.value)


# Small things


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_cell_of_a_table_is_a_formula(text):
    cell = harmless(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert not re.search(r"[\x00-\x08\r\n]", cell)
    cell.encode("utf-8")


def test_lateness():
    from coursekit.grading.gradebook import lateness

    due = datetime.datetime(2026, 5, 4, 12, tzinfo=datetime.timezone.utc)
    assert lateness(None, due) == lateness(due, due) == lateness(due, None) == ""
    assert lateness(due + datetime.timedelta(days=2, hours=3), due) == "2 d 3 h"
    assert lateness(due + datetime.timedelta(minutes=65), due) == "1 h 5 min"


def test_handing_in_twice_is_noted_but_not_on_the_student_s_page():
    from coursekit.grading.feedback import feedback_page
    from coursekit.grading.gradebook import grades_rows, note_doubles

    rubric = read_rubric()
    grades = [Grade("anna_s1.zip", student="s1"), Grade("ben_s1.zip", student="s1"), Grade("c.zip")]
    note_doubles(grades)
    remarks = [row[-2] for row in grades_rows(grades, rubric)[1:]]
    assert "ben_s1.zip" in remarks[0] and "anna_s1.zip" in remarks[1]
    assert remarks[2] == ""
    assert "ben" not in feedback_page(grades[0], rubric, {})


def test_pages_have_names_of_their_own():
    students = ["s1", "S1", "../../etc", "CON", "", "<b>", "a" * 300, "s1"]
    grades = [Grade(f"hand-in {n}", student=student) for n, student in enumerate(students)]
    name_pages(grades)
    names = [grade.page for grade in grades]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,90}", name) for name in names)
    assert names[3] == "hand-in-CON"


def notebook_of(*sources: str, keys: bool = True) -> Notebook:
    return Notebook("x", [Cell("code", s, key=s[:1] * keys) for s in sources])


def test_cells_are_matched_by_id_source_and_place():
    template = notebook_of("a = 1", "b = 2", "c = 3")
    renamed = notebook_of("a = 1", "z = 0", "b = 9", "c = 3")
    assert [c.source for c in match_cells(renamed, template).values()] == [
        "a = 1",
        "b = 9",
        "c = 3",
    ]
    without_ids = notebook_of("a = 1", "b = 9", "c = 3", keys=False)
    assert match_cells(without_ids, template)[1].source == "b = 9"
    assert list(match_cells(notebook_of("c = 3"), template)) == [2]


def test_probabilities_out_of_range_do_not_break_the_table():
    text = b"picture,label,prediction,probability\na,1,1,7.0\nb,1,2,-3\n"
    table = parse_predictions(text, "")
    assert table.chances.tolist() == [10_000, 0]
    assert table.correct == 1
