"""Grading a class: points and flags where they belong, pages that trust nothing, equal bytes."""

from __future__ import annotations

import copy
import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import __main__ as cli
from coursekit.grading.cells import Cell
from coursekit.grading.find import Place
from coursekit.grading.grade import Grader, grade_all, grade_class, make_grader
from coursekit.grading.gradebook import Grade
from coursekit.grading.labels import read_labels
from coursekit.grading.material import Material, code_runs, word_runs
from coursekit.grading.rubric import fraction_of, read_rubric
from coursekit.grading.similarity import compare, shared_counts
from coursekit.grading.tables import harmless
from helpers.errors import KitError
from helpers.lib.folders import MINI_FOLDER, ROOT
from tools import breakages, sample_class
from tools.sample_class import (
    SHORT_ANSWER,
    HandIn,
    answer_cells,
    build,
    insert_cell,
    make_hand_in,
    seal,
    write_labels,
    write_sample,
    zipped,
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The instructor's labels, which KIT_DATA names while this module runs."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def sample(data_dir: Path) -> tuple[Path, dict[str, str]]:
    """The class of twelve and what each of it is; one hand-in is full of scripts."""
    folder = data_dir / "sample"
    kinds = write_sample(folder / "hand-ins", data_dir)
    labels = write_labels(data_dir)
    bad = make_hand_in(40, labels)
    build(bad, labels)
    (folder / "hand-ins" / bad.file_name).write_bytes(breakages.scripts(bad))
    return folder, kinds | {bad.student: "scripts"}


@pytest.fixture(scope="module")
def graded(sample: tuple[Path, dict[str, str]]) -> list[Grade]:
    """Its grades, written to grades/ beside it."""
    folder, _ = sample
    return grade_class(folder / "hand-ins", folder / "grades", workers=2)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def by_student(folder: Path) -> dict[str, dict[str, str]]:
    return {row["student"]: row for row in rows_of(folder / "grades" / "grades.csv")}


def test_everybody_has_a_row_and_a_page_in_order(sample, graded):
    folder, kinds = sample
    assert list(by_student(folder)) == sorted(kinds)
    assert [grade.student for grade in graded] == sorted(kinds)
    pages = sorted(path.stem for path in (folder / "grades" / "feedback").iterdir())
    assert pages == sorted(kinds)


def test_points(sample, graded):
    folder, kinds = sample
    for student, row in by_student(folder).items():
        if kinds[student] in ("good", "late", "copy_predictions", "copy_work", "wrong_seed"):
            assert (row["total"], row["to_read"], row["of"]) == ("70", "30", "100")
            assert row["status"] == "graded" or row["flags"]  # which take no points
            assert row["7.4 answers"] == "to read"
        elif kinds[student] == "broken":
            assert (row["total"], row["1.1 full profile"]) == ("", "")
            assert row["status"] == "needs a person: could not be graded"
        elif kinds[student] == "incomplete":
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
    sources = {flag.other for grade in graded for flag in grade.flags if flag.other}
    for student, kind in kinds.items():
        assert found[student] == expected.get(kind, found[student]), (student, kind)
        assert kind != "good" or bool(found[student]) == (student in sources)
    assert len([source for source in sources if kinds[source] == "good"]) == 2


# Pages


def read_page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_pages_hold_nothing_that_runs_or_is_fetched(sample, graded):
    folder, _ = sample
    for path in [folder / "grades/class.html", *(folder / "grades/feedback").iterdir()]:
        soup = read_page(path)
        assert not soup.find_all(["script", "link", "iframe", "object", "embed", "base", "svg"])
        assert not [t for t in soup.find_all(True) for name in t.attrs if name.startswith("on")]
        assert all(image["src"].startswith("data:image/svg+xml;") for image in soup("img"))
        policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
        assert policy["content"].startswith("default-src 'none'")
        assert soup.find("meta", attrs={"name": "viewport"}) and soup.html["lang"] == "en"
    assert "&lt;script&gt;document.title" in (folder / "grades/class.html").read_text("utf-8")


def test_a_feedback_page_is_about_its_student_only(sample, graded):
    folder, kinds = sample
    for student in kinds:
        text = (folder / "grades" / "feedback" / f"{student}.html").read_text(encoding="utf-8")
        assert student in text
        assert not [other for other in kinds if other != student and other in text]
        assert "same predictions" not in text  # what is suspected is not for the student's page


def test_the_class_page(sample, graded):
    folder, _ = sample
    soup = read_page(folder / "grades" / "class.html")
    titles = [tag.text for tag in soup.find_all("h2")]
    assert titles[0] == "Overview" and len(titles) == 7
    ids = {tag["id"] for tag in soup.find_all(id=True)}
    assert all(link["href"][1:] in ids for link in soup.nav.find_all("a"))
    assert len(soup.find_all("details")) == sum(len(line.questions) for line in read_rubric().lines)
    assert len(soup("img")) == 3 and all(image["alt"] for image in soup("img"))
    assert SHORT_ANSWER in soup.text
    experiment = soup.find("section", attrs={"aria-labelledby": "experiment"}).table
    runs = [int(row.find_all("td")[0].text) for row in experiment.tbody.find_all("tr")]
    # Ten can be read. The edited one, the copy and its source are no runs of their own; the
    # incomplete one lacks B5, and the one with the scripts says full of two methods only.
    assert runs == [7, 8, 7, 7]


# Doing it again


def all_bytes(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_the_same_input_gives_the_same_bytes(sample, graded, tmp_path):
    folder, _ = sample
    grade_class(folder / "hand-ins", tmp_path / "again", workers=1)
    assert all_bytes(tmp_path / "again") == all_bytes(folder / "grades")


def one_class(folder: Path, *hand_ins: HandIn, labels: Any) -> dict[str, Grade]:
    """Grade these hand-ins; returns their grades by student."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    for hand_in in hand_ins:
        data = zipped(hand_in.files or build(hand_in, labels))
        (folder / "in" / hand_in.file_name).write_bytes(data)
    grades = grade_class(folder / "in", folder / "out", workers=2)
    return {grade.student: grade for grade in grades}


@pytest.fixture
def two(labels) -> tuple[HandIn, HandIn]:
    return make_hand_in(20, labels), make_hand_in(21, labels)


@pytest.fixture(scope="module")
def labels(data_dir: Path) -> Any:
    return write_labels(data_dir)


def test_points_of_a_person(two, labels, tmp_path):
    student = two[0].student
    one_class(tmp_path, *two, labels=labels)
    points = tmp_path / "out" / "points.csv"
    table = points.read_text(encoding="utf-8")
    start = f"submission-{student}.zip,{student},2.5 answers,4"
    old = next(row for row in table.splitlines() if row.startswith(start))
    for separator in ",;":
        given = table.replace(old, start + ',3.5,"well said"').replace(",", separator)
        points.write_text(given, encoding="utf-8")
        again = one_class(tmp_path, labels=labels)[student]
        assert (again.total(read_rubric()), again.waiting(read_rubric())) == (73.5, 26)
        page = (tmp_path / "out" / "feedback" / f"{student}.html").read_text(encoding="utf-8")
        assert "well said" in page and "3.5 of 4" in page
        assert "well said" in points.read_text(encoding="utf-8")  # and is kept
    for line, message in (
        (f"{start},5,", r"points '5' are not within 0 and 4"),
        (f"{start},good,", r"points 'good' are not within"),
        (f"{start.replace('2.5', '9.9')},1,", "no line '9.9 answers'"),
        (f"other.{start},1,", "not among the hand-ins"),
    ):
        points.write_text(table.replace(old, line), encoding="utf-8")
        with pytest.raises(KitError, match=message):
            one_class(tmp_path, labels=labels)


def test_a_page_of_a_hand_in_that_is_gone_is_removed(two, labels, tmp_path):
    one_class(tmp_path, *two, labels=labels)
    (tmp_path / "out" / "feedback" / "my own.html").touch()
    (tmp_path / "in" / two[1].file_name).unlink()
    one_class(tmp_path, labels=labels)
    pages = sorted(path.name for path in (tmp_path / "out" / "feedback").iterdir())
    assert pages == ["my own.html", f"{two[0].student}.html"]


def test_exports(sample, graded):
    folder, kinds = sample
    good = next(student for student, kind in kinds.items() if kind == "good")
    broken = next(student for student, kind in kinds.items() if kind == "broken")
    for name, column, points in (
        ("canvas", "SIS Login ID", "Image classification by transfer learning"),
        ("moodle", "ID number", "Image classification by transfer learning"),
        ("nbgrader", "student_id", "score"),
    ):
        rows = rows_of(folder / "grades" / "exports" / f"{name}.csv")
        found = {row[column]: row[points] for row in rows}
        assert found[good] == "70"
        # Not 0: it was not graded. An empty grade may be 0 to Moodle.
        assert found.get(broken) == (None if name == "moodle" else "")


def test_the_command(sample, graded, capsys, tmp_path):
    folder, kinds = sample
    arguments = ["grade", str(folder / "hand-ins"), "--out", str(folder / "grades")]
    assert cli.main(arguments) == 0
    assert f"{len(kinds)} hand-ins: 2 could not be graded" in capsys.readouterr().out
    (tmp_path / "a file").touch()
    assert cli.main([*arguments[:3], str(tmp_path / "a file")]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write ")
    assert cli.main(["grade", str(tmp_path / "none")]) == 2
    assert cli.main([*arguments, "--rubric", str(tmp_path / "none.toml")]) == 2
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--workers", "0"])
    assert "argument --workers: 0: use" in capsys.readouterr().err


class Deadly(Grader):
    """A grader whose process dies of one hand-in, and that fails on another."""

    def grade(self, place: Place) -> Grade:
        if place.name == "deadly":
            os._exit(9)
        return super().grade(place)


def test_a_process_that_dies_costs_one_row(two, labels, tmp_path):
    one, other = two
    honest = make_grader()
    grader = Deadly(honest.rubric, honest.templates, honest.labels, honest.template_code)
    places = []
    for number, name in enumerate(("a", "b", "deadly", "c", "d", "e")):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(zipped(build((one, other)[number % 2], labels)))
        places.append(Place(path, name=name))
    grades = {grade.place: grade for grade in grade_all(grader, places, 2)}
    assert sorted(grades) == sorted(place.name for place in places)
    assert "the process that read it died" in grades["deadly"].faults[0]
    assert all(grade.was_read for name, grade in grades.items() if name != "deadly")
    grader.templates = {"01": None}  # type: ignore[dict-item]
    assert "the grader failed on it" in grader.grade(places[0]).faults[0]


# Single flags


def nameless_log(hand_in: HandIn, other: HandIn) -> None:
    for line in hand_in.log:
        line["notebook"] = None


def log_of_untitled(hand_in: HandIn, other: HandIn) -> None:
    for line in hand_in.log:
        line["notebook"] = "Untitled.ipynb"


def log_without_a_notebook(hand_in: HandIn, other: HandIn) -> None:
    """What ran under no name is about one notebook, not about all of them."""
    gone = next(line["session"] for line in hand_in.log if line["notebook"].startswith("03"))
    hand_in.log = [line for line in hand_in.log if line["session"] != gone]
    nameless_log(hand_in, other)
    finished = hand_in.records["efficientnet_b5_finetune"]["finished"]
    hand_in.records["bn_cnn"]["finished"] = finished


def on_mini(hand_in: HandIn, other: HandIn) -> None:
    for record in hand_in.records.values():
        record["profile"] = "mini"
        record["data"]["name"] = "Flowers102 (drawn)"


def of_another_data_set(hand_in: HandIn, other: HandIn) -> None:
    for record in hand_in.records.values():
        record["data"] |= {"name": "my photos", "fingerprint": "ab" * 32}


def of_schema_1(hand_in: HandIn, other: HandIn) -> None:
    """As the first version of the helpers wrote records."""
    for record in hand_in.records.values():
        record["schema"] = 1
        del record["settings"], record["input_shape"]
        del record["data"]["class_names"], record["data"]["normalization"]


def with_networks(hand_in: HandIn, other: HandIn) -> None:
    """Files that would run code when a network is loaded from them; they are not even hashed."""
    labels = write_labels(Path(os.environ["KIT_DATA"]))
    files = build(hand_in, labels)
    for name in ("weights.pt", "network.pt2"):
        files[f"results/bn_cnn/{name}"] = b"cos\nsystem\n(S'touch owned'\ntR."
    seal(hand_in)
    files["results/bn_cnn/network.pt2"] += b"0"


def changed_after_packing(hand_in: HandIn, other: HandIn) -> None:
    files = build(hand_in, write_labels(Path(os.environ["KIT_DATA"])))
    files["results/log.jsonl"] += b"\n"


def with_model_answers(hand_in: HandIn, other: HandIn) -> None:
    for number, template in make_grader().templates.items():
        models = [cell.source for cell in template.cells if "answer" in cell.tags]
        for cell, model in zip(answer_cells(hand_in, number), models, strict=True):
            cell["source"] = model.replace("*Model answer:*", "*Your answer:*")


SOLUTION_OF_MANY = """head_ids = {id(p) for p in model.fc.parameters()}
backbone = [p for p in model.parameters() if id(p) not in head_ids]
optimizer = torch.optim.SGD([
    {"params": backbone, "lr": recipe.backbone_lr},
    {"params": list(model.fc.parameters()), "lr": recipe.head_lr},
], momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=[recipe.backbone_lr, recipe.head_lr],
    epochs=recipe.num_epochs, steps_per_epoch=len(data.train))"""


def same_solution_of_a_todo(hand_in: HandIn, other: HandIn) -> None:
    for number, one in enumerate((hand_in, other)):
        cells = one.notebooks["03"]["cells"]
        todo = next(c for c in cells if "solution" in c["metadata"].get("tags", [])
                    or "BEGIN SOLUTION" in "".join(c["source"]))  # fmt: skip
        todo["source"] = SOLUTION_OF_MANY.replace("backbone", f"rest_{number}")
        sample_class.write_log(one)


def same_cell_of_their_own(hand_in: HandIn, other: HandIn) -> None:
    for number, one in enumerate((hand_in, other)):
        insert_cell(one, SOLUTION_OF_MANY.replace("backbone", f"rest_{number}"), "05")
        sample_class.write_log(one)


# What is done to a hand-in, and the kinds of flags that it gets for it.
CASES: list[tuple[Callable[[HandIn, HandIn], None], set[str]]] = [
    (sample_class.edit_notebook, {"accuracy"}),
    (sample_class.edit_record, {"accuracy", "table"}),
    (sample_class.edit_both, {"accuracy"}),
    (sample_class.edit_labels, {"predictions", "accuracy"}),
    (sample_class.edit_table, {"table"}),
    (sample_class.wrong_seed, {"seed"}),
    (sample_class.edit_cell, {"log", "date"}),
    (nameless_log, set()),
    (log_of_untitled, set()),
    (log_without_a_notebook, {"log", "date"}),
    (on_mini, set()),
    (of_another_data_set, set()),
    (of_schema_1, set()),
    (with_networks, set()),
    (changed_after_packing, {"files"}),
    (with_model_answers, {"same answers"}),
    (same_solution_of_a_todo, set()),
    (same_cell_of_their_own, {"same cells"}),
]


@pytest.fixture(scope="module")
def cases(labels, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Grade]]:
    """A class with one hand-in a case; its grades by the names of the cases."""
    folder, hand_ins, names = tmp_path_factory.mktemp("cases"), [], {}
    drawn = read_labels(MINI_FOLDER / "flowers-102")
    for number, (tamper, _) in enumerate(CASES):
        known = drawn if tamper is on_mini else labels
        hand_in, other = (make_hand_in(100 + 2 * number + one, known) for one in (0, 1))
        tamper(hand_in, other)
        for one in (hand_in, other):
            one.files = one.files or build(one, known)
        names[hand_in.student] = tamper.__name__
        hand_ins += [hand_in, other]
    grades = one_class(folder, *hand_ins, labels=labels)
    return folder, {name: grades[student] for student, name in names.items()}


@pytest.mark.parametrize(("tamper", "kinds"), CASES, ids=lambda one: getattr(one, "__name__", ""))
def test_flags(tamper, kinds, cases):
    grade = cases[1][tamper.__name__]
    assert {flag.kind for flag in grade.flags} == kinds
    assert grade.faults == []


def lost(grade: Grade) -> dict[str, str]:
    return {key: f.remark for key, f in grade.findings.items() if f.fraction not in (1, None)}


def test_what_the_cases_show(cases):
    folder, grades = cases
    log = grades["log_without_a_notebook"].flags
    assert log[0].text.startswith("03_resnet18_finetune.ipynb has")
    assert log[0].text.endswith("none of them is logged") and "BN-CNN" in log[1].text
    for name in ("nameless_log", "of_schema_1", "with_networks", "edit_cell"):
        assert lost(grades[name]) == {}
    assert list(lost(grades["on_mini"])) == ["1.1 full profile"]
    own = grades["of_another_data_set"].findings
    assert "not checked: no labels here" in own["1.2 same data"].remark
    assert own["4.4 predictions"].fraction == 1 and own["4.5 accuracy"].fraction is None
    model = grades["with_model_answers"]
    assert {flag.other for flag in model.flags} == {"the model answers"}
    page = (folder / "out" / "feedback" / f"{model.student}.html").read_text(encoding="utf-8")
    assert "the model answers" not in page


# Similarity


def flags_of_pair(one: Material, other: Material, students: str = "ab") -> list[str]:
    first, second = compare(["a", "b"], list(students), [one, other])
    assert [flag.kind for flag in first] == [flag.kind for flag in second]
    return [flag.kind for flag in first]


def test_likeness_by_chance_is_no_flag():
    short = Material(answers={"01.3": word_runs(SHORT_ANSWER)})
    assert flags_of_pair(short, short) == []
    chance = np.random.default_rng(1)
    texts = [" ".join(chance.choice(list("abcdefghijklmnop"), 14)) for _ in range(9)]
    many = Material(answers={f"01.{n}": word_runs(text) for n, text in enumerate(texts)})
    assert flags_of_pair(many, many) == ["same answers"]
    assert flags_of_pair(many, many, students="aa") == []  # handed in twice
    names = [str(number) for number in range(20)]
    assert compare(names, names, [many] * 20) == [[]] * 20  # what many have is common property


def collapsed(seed: int, chance: float) -> Material:
    """A network that says class 3 for every picture, each a little differently sure."""
    generator = np.random.default_rng(seed)
    probabilities = np.round(chance + generator.normal(0, 30, 200)).astype(np.int16)
    return Material(guesses={"bn_cnn": np.full(200, 3)}, probabilities={"bn_cnn": probabilities},
                    mistakes={"bn_cnn": np.arange(200) > 9}, pictures={"bn_cnn": "p"})  # fmt: skip


def test_two_networks_that_learned_nothing_are_not_copies():
    assert flags_of_pair(collapsed(1, 900), collapsed(2, 1100)) == []
    assert flags_of_pair(collapsed(1, 900), collapsed(1, 900)) == ["same predictions"]
    same = Material(weights={"bn_cnn": "ab" * 32}, sessions=("x", "y"))
    assert flags_of_pair(same, same) == ["same weights", "same log"]


def test_renamed_variables_and_remarks_do_not_hide_a_copy():
    first = "total = 0\nfor row in history:\n    total += row['loss'] * 2  # add\nprint(total, 'x')"
    second = "s = 1\nfor r in h:\n    s += r['acc'] * 3\n\nprint(s, 'y')"
    other = "while True:\n    d.append(max(f(x) for x in range(3)))\n    break\nassert d, 'no'"
    runs = [code_runs([Cell("code", text)]) for text in (first, second, other)]
    assert len(runs[0]) and np.array_equal(runs[0], runs[1])
    assert not np.intersect1d(runs[0], runs[2]).size


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(-9, 9)), min_size=1, max_size=6), st.text(max_size=80))
def test_shared_counts(sets, source):
    counts = shared_counts([np.array(sorted(one), dtype=np.int64) for one in sets])
    assert counts.tolist() == [[len(a & b) for b in sets] for a in sets]
    assert len(code_runs([Cell("code", source)])) >= 0  # no source brings it down


# The rubric and the tables


BANDS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5, unique_by=lambda b: b[0]
).map(lambda pairs: tuple(zip(*map(sorted, zip(*pairs, strict=True)), strict=True)))


@settings(deadline=None)
@given(BANDS, st.floats(0, 1), st.floats(0, 1))
def test_more_accuracy_never_gives_less(bands, one, other):
    low, high = sorted((one, other))
    fractions = [fraction for _, fraction in bands]
    least, most = fraction_of(low, bands), fraction_of(high, bands)
    assert min(fractions) - 1e-9 <= least <= most + 1e-9 <= max(fractions) + 2e-9
    assert all(abs(fraction_of(a, bands) - f) < 1e-9 for a, f in bands)


def test_the_default_rubric_fits_the_assignment():
    """A hundred points in seven tasks; every question counts, and what it looks for is there."""
    rubric, templates = read_rubric(), make_grader().templates
    assert rubric.points == 100
    assert [section.task for section in rubric.sections] == [str(n) for n in range(1, 8)]
    counted = [(line.notebook, n) for line in rubric.lines for n in line.questions]
    tags = {number: [c.tags for c in t.cells] for number, t in templates.items()}
    there = [(number, n) for number, all_tags in tags.items()
             for n in range(1, 1 + sum("question" in one for one in all_tags))]  # fmt: skip
    assert sorted(counted) == there
    for line in rubric.lines:
        code = "\n".join(cell.source for cell in templates[line.notebook or "01"].code)
        assert all(re.search(rf"\b{name}\(", code) for name in line.calls), line.key


LINE = 'key = "a"\npoints = 1\nlook = "ran"\nnotebook = "01"\n'
HEAD = "[[section]]\n[[section.line]]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is not valid TOML"),
        ("", "it has no section"),
        ("[[section]]\ntask = 1", r"it has no section\[0\]\.line"),
        (HEAD + LINE.replace("ran", "run"), "line a: its look is 'run', not one of profile,"),
        (HEAD + LINE.replace("1", "-1", 1), "line a: its points is -1, not a number in 0"),
        (HEAD + 'key="a"\npoints=1\nlook="ran"', "line a: it has no notebook"),
        (HEAD + LINE + "method = 'x'", "line a: method is not used here"),
        (HEAD + LINE + "[[section.line]]\n" + LINE, "two lines have the key 'a'"),
        (
            HEAD + 'key="a"\npoints=1\nlook="accuracy"\nmethod="bn_cnn"\n'
            "bands=[[0.5, 1.0], [0.2, 0.5]]",
            "rising",
        ),
        (HEAD + 'key="a"\npoints=1\nlook="history"\nmethod="vgg"', "its method is 'vgg', not one"),
        ("due = 7\n" + HEAD + LINE, "due = 7 is no time"),
    ],
)
def test_a_wrong_rubric_is_one_clear_line(text, message, tmp_path):
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(KitError, match=message) as error:
        read_rubric(tmp_path / "r.toml")
    assert "r.toml" in str(error.value) and "\n" not in str(error.value)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_cell_of_a_table_is_a_formula(text):
    cell = harmless(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert not re.search(r"[\x00-\x08\r\n]", cell)
    assert cell.encode("utf-8") is not None


def test_late_doubled_and_oddly_named_hand_ins(labels, tmp_path):
    """Lateness is told; who handed in twice, too, but not on the student's page."""
    rubric = ROOT / "coursekit" / "grading" / "default_rubric.toml"
    due = rubric.read_text(encoding="utf-8").replace("# due =", "due =", 1)
    (tmp_path / "rubric.toml").write_text(due, encoding="utf-8")
    (tmp_path / "in").mkdir()
    first = make_hand_in(70, labels)
    build(first, labels)
    late = {"s1": "2026-06-02T00:59:00+02:00", "S1": "2026-05-31T22:00:00Z"}
    for student in ("s1", "S1", "../../etc", "CON", "", "a" * 300):
        hand_in = copy.copy(first)
        seal(hand_in, student=student, created=late.get(student, ""))
        name = f"{len(list((tmp_path / 'in').iterdir()))}.zip"
        (tmp_path / "in" / name).write_bytes(zipped(hand_in.files))
    (tmp_path / "in" / "again.zip").write_bytes((tmp_path / "in" / "0.zip").read_bytes())
    grades = grade_class(tmp_path / "in", tmp_path / "out", rubric_path=tmp_path / "rubric.toml")
    by_place = {grade.place: grade for grade in grades}
    assert [by_place[f"{n}.zip"].late for n in range(3)] == ["1 d 1 h", "0 h 1 min", ""]
    assert by_place["0.zip"].remarks.endswith("s1 handed in more than once: also again.zip")
    pages = sorted(path.stem for path in (tmp_path / "out" / "feedback").iterdir())
    assert len({page.lower() for page in pages}) == len(grades)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,90}", page) for page in pages)
    assert by_place["3.zip"].page == "hand-in-CON"
    text = (tmp_path / "out" / "feedback" / f"{by_place['0.zip'].page}.html").read_text("utf-8")
    assert "again.zip" not in text
    assert json.loads((tmp_path / "out" / ".cache" / "pages.json").read_text()) == pages
