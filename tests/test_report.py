"""The report: one page that needs nothing else, says what is missing, and trusts no text."""

from __future__ import annotations

import base64
import io
import itertools
import re

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from made_up import write_notebook, write_result
from matplotlib.figure import Figure
from nbformat import v4

from coursekit import notebooks
from coursekit.pages import table
from coursekit.run.report import write_report
from helpers.lib.files import read_json, write_json
from helpers.recipes import METHODS
from helpers.workspace import find_workspace


def png() -> str:
    stream = io.BytesIO()
    Figure(figsize=(0.2, 0.2)).savefig(stream)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "data"))
    return find_workspace(profile="mini")


@pytest.fixture
def notebook(tmp_path):
    """An executed notebook with everything that a page must not take over as it is."""
    pictures = [
        v4.new_output("display_data", {"image/png": png(), "text/plain": "<Figure>"}),
        v4.new_output("display_data", {"image/png": png()}),
        v4.new_output(
            "display_data", {"text/html": "<script>alert(1)</script><b onclick='x'>b</b>"}
        ),
        v4.new_output("display_data", {"application/javascript": "alert(2)"}),
        v4.new_output("stream", name="stdout", text="a < b & c\n"),
    ]
    pictures[1].metadata = {"image/png": {"alt": "four roses"}}
    drawn = [v4.new_output("display_data", {"image/png": png()})]
    badge = "[![Open in Colab](https://example.org/badge.svg)](https://example.org/colab)"
    cells = [
        v4.new_markdown_cell(
            f"# Fine-tuning\n\n{badge} $a_1 < b$ ![logo](https://example.org/x.png)"
        ),
        v4.new_code_cell("plot_history(\n    run)", execution_count=1, outputs=drawn),
        v4.new_markdown_cell("#### Training\n\n[tour](01_dataset_tour.ipynb) [again](#Training)"),
        v4.new_code_cell("show()", execution_count=2, outputs=pictures),
        v4.new_markdown_cell("## Training\n\n<img src='//example.org/y.png'>"),
    ]
    path = tmp_path / "03_resnet18_finetune.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def read(path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def section_of(soup: BeautifulSoup, key: str) -> Tag:
    return soup.find("section", {"aria-labelledby": key})


def test_page_needs_nothing_else(workspace, notebook):
    write_result(workspace.results_dir, "bn_cnn")
    soup = read(write_report(workspace, [notebook]))
    assert not soup.find_all(["script", "link", "iframe", "object", "embed"])
    assert all(tag["src"].startswith("data:") for tag in soup.find_all(src=True))
    assert not re.search(r"url\(|@import", " ".join(tag.text for tag in soup.find_all("style")))
    assert not [tag for tag in soup.find_all(True) for name in tag.attrs if name.startswith("on")]
    assert soup.html["lang"] == "en"
    assert soup.title.text


def test_every_picture_has_an_alternative_text(workspace, notebook):
    for method in ("bn_cnn", "resnet18_extractor"):
        write_result(workspace.results_dir, method)
    texts = [
        image.get("alt") for image in read(write_report(workspace, [notebook])).find_all("img")
    ]
    assert len(texts) == 3 + 2 + 3  # of the comparison, of the methods, of the notebook
    assert texts[0].startswith("Test accuracy with 95 % intervals: BN-CNN ")
    assert texts[3].startswith("BN-CNN: loss and accuracy, epoch by epoch: on train from 20.0% to")
    assert texts[-3:] == [
        "Loss and accuracy over the epochs, train dashed and val solid, of one run or of several. "
        "Notebook 03, “Fine-tuning”.",
        "A figure. Notebook 03, “Training”.",
        "four roses",
    ]


def test_pictures_that_are_not_kept_leave_their_words(workspace, notebook):
    section = section_of(read(write_report(workspace, [notebook])), "nb-03")
    assert section.find("a", href="https://example.org/colab").text == "Open in Colab"
    assert "[picture not kept in the report: logo]" in section.text


def test_each_method_has_a_section(workspace):
    write_result(workspace.results_dir, "bn_cnn", right=0.5)
    record = write_result(workspace.results_dir, "resnet18_extractor", right=1.0) / "record.json"
    values = read_json(record)
    values["recipe"] |= {"backbone_lr": None, "augment": {"flip": 0.5, "color_jitter": [0, 0.1]}}
    write_json(record, values)
    soup = read(write_report(workspace, []))
    for card in soup.find(class_="cards").find_all("a"):
        title = soup.find(id=card["href"][1:]).text
        assert card.text.startswith(title)
        section = section_of(soup, card["href"][1:])
        said = {term.text: term.find_next("dd").text for term in section.find_all("dt")}
        accuracy = card.strong.text
        assert said["Test accuracy"].startswith(accuracy)
        assert " s for 3 epochs, " in said["Training"]
        assert section.find("figure")
    assert "num epochs3" in section_of(soup, "method-bn_cnn").text
    extractor = section_of(soup, "method-resnet18_extractor")
    settings = {row.th.text: row.td.text for row in extractor.tbody.find_all("tr")}
    wanted = {"size": "64", "num epochs": "3", "backbone lr": "none", "augment: flip": "0.5"}
    assert settings == wanted | {"augment: color jitter": "0, 0.1"}
    # The most frequent of the mistakes of the other one; the extractor makes none.
    assert len(extractor.find_all("table")) == 1
    mixed_up = section_of(soup, "method-bn_cnn").table
    counts = [int(row.td.text) for row in mixed_up.tbody.find_all("tr")]
    assert counts == sorted(counts, reverse=True) and 0 < sum(counts) <= 40
    assert "rose / iris" in mixed_up.text and "mixes up most" in mixed_up.caption.text


def test_answers_are_gathered_and_open_questions_named(workspace, tmp_path):
    def cell(source: str, tag: str):
        return v4.new_markdown_cell(source, metadata={"tags": [tag]})

    def write(name: str, *cells):
        nbformat.write(v4.new_notebook(cells=list(cells)), tmp_path / name)
        return tmp_path / name

    path = write(
        "03_x.ipynb",
        cell("**Question 1.** Why?", "question"),
        v4.new_markdown_cell("a note of my own"),
        cell("*Your answer:*\n\n# Because\n\n<script>alert(1)</script>\n\n`x < y`", "answer"),
        cell("**Question 2.** How?", "question"),
        cell("*Your answer:*", "answer"),
    )
    other = write("04_y.ipynb", cell("**Question 1.** When?", "question"))
    soup = read(write_report(workspace, [path, other]))
    section = section_of(soup, "answers")
    problem = section.find(class_="problem").text
    assert problem == "Not answered yet: notebook 03, question 2; notebook 04, question 1."
    assert section.text.count("No answer yet.") == 2
    answer = section.find("code", string="x < y").find_parent(class_="celltag_answer")
    assert "Why?" in answer.find_previous_sibling(class_="celltag_question").text
    assert "a note of my own" not in section.text and not section.find("script")
    headings = [heading.text for heading in section.find_all("h3")]
    assert headings == ["Notebook 03", "Because", "Notebook 04"]
    path = write("04_y.ipynb", cell("Why?", "question"), cell("Because.", "answer"))
    section = section_of(read(write_report(workspace, [path])), "answers")
    assert section.find(class_="note").text == "The question is answered."


def test_columns_of_numbers_are_flush_right():
    rows = [{"Who": "1", "Share": "+5.0%", "Said": "3", "Time": "", "More": "-2.5 points"}]
    rows.append(
        {
            "Who": "two",
            "Share": "1,000.5%",
            "Said": "below 0.1",
            "Time": "2.5 s",
            "More": "+0.0 points",
        }
    )
    soup = BeautifulSoup(table(rows, "x"), "html.parser")
    classes = [cell.get("class") for cell in soup.thead.find_all("th")]
    assert classes == [None, ["number"], None, ["number"], ["number"]]
    for row in soup.tbody.find_all("tr"):
        assert [cell.get("class") for cell in row.find_all(["th", "td"])] == classes


def test_headings_and_links(workspace, notebook):
    write_result(workspace.results_dir, "bn_cnn")
    soup = read(write_report(workspace, [notebook]))
    levels = [int(tag.name[1]) for tag in soup.find_all(re.compile("^h[1-6]$"))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    for link in soup.nav.find_all("a"):
        assert link["href"][1:] in ids
    assert soup.find("a", string="again")["href"] == "#nb-03-training"
    assert "nb-03-training" in ids
    assert soup.find("a", string="tour") is None  # its section is not on this page
    assert soup.find(id="nb-03").text == "03 Fine-tuning"
    assert "$a_1 &lt; b$" in str(soup)
    assert "a &lt; b &amp; c" in str(soup)


def test_extensions_are_listed_after_the_assignment(workspace, notebook, tmp_path, monkeypatch):
    folder = tmp_path / "notebooks" / "extensions"
    path = write_notebook(folder, "07_x", "1")
    write_notebook(folder, "08_y", "2")
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    write_result(workspace.results_dir, "bn_cnn", student="<me>")
    runs = workspace.results_dir / "extensions"
    record = write_result(runs / "07_x", "resnet18_extractor") / "record.json"
    write_result(runs / "07_x", "efficientnet_b5_finetune")
    values = read_json(record)
    values["recipe"] |= {"num_epochs": 2, "table_epochs": 90}
    write_json(record, values)
    soup = read(write_report(workspace, [notebook, path]))
    ids = [section["aria-labelledby"] for section in soup.main.find_all("section")]
    assert ids[-3:] == ["nb-03", "extensions", "nb-07"]
    shown = section_of(soup, "extensions")
    assert "ResNet18 extractor" in shown.table.text
    assert "BN-CNN" not in shown.text
    assert "Runs of 07_x: Flowers102 (drawn)" in shown.caption.text
    assert "2 of 90 epochs, limited by KIT_EPOCHS" in shown.text
    assert shown.text.count("not photographs") == 1
    assert "08_y" not in shown.text
    assert "ResNet18 extractor" not in soup.find("section").table.text
    # A damaged record is named, and nothing else is lost.
    record.write_text("{}")
    shown = read(write_report(workspace, [notebook, path]))
    problem = shown.find("section", {"aria-labelledby": "extensions"}).find(class_="problem")
    assert "The runs of 07_x cannot be shown" in problem.text


def test_no_extension_no_section(workspace, notebook):
    write_result(workspace.results_dir, "bn_cnn")
    assert read(write_report(workspace, [notebook])).find(id="extensions") is None


def test_texts_of_records_are_escaped(workspace):
    student = "<script>alert('x')</script>"
    write_result(workspace.results_dir, "bn_cnn", student=student)
    path = write_report(workspace, [])
    assert not read(path).find_all("script")
    assert "&lt;script&gt;alert" in path.read_text(encoding="utf-8")


def test_tables_are_accessible(workspace):
    write_result(workspace.results_dir, "bn_cnn")
    write_result(workspace.results_dir, "resnet18_extractor", right=0.8)
    tables = read(write_report(workspace, [])).find_all("table")
    assert len(tables) == 2 + 2 * 2  # of both, and each method's mistakes and recipe
    for one in tables:
        assert one.caption.text
        assert {head.get("scope") for head in one.find_all("th")} == {"col", "row"}


@pytest.mark.parametrize(("count", "text"), [(1, "(cpu), 2 threads"), (3, "3 processes with 2")])
def test_processes_that_trained_together_are_named(workspace, count, text):
    path = write_result(workspace.results_dir, "bn_cnn") / "record.json"
    record = read_json(path)
    record["machine"]["processes"] = count
    write_json(path, record)
    assert text in write_report(workspace, []).read_text(encoding="utf-8")


def test_missing_methods_are_named(workspace):
    write_result(workspace.results_dir, "bn_cnn")
    text = read(write_report(workspace, [])).find(class_="problem").text
    assert "BN-CNN" not in text
    assert all(METHODS[method] in text for method in list(METHODS)[1:])


def test_no_result_at_all(workspace):
    soup = read(write_report(workspace, []))
    assert "EfficientNet-B5" in soup.find(class_="problem").text
    assert not soup.find_all("img")
    assert "not photographs" in soup.find(class_="notice").text


def test_results_that_do_not_belong_together(workspace):
    write_result(workspace.results_dir, "bn_cnn", profile="full")
    text = read(write_report(workspace, [])).find(class_="problem").text
    assert "cannot be compared" in text
