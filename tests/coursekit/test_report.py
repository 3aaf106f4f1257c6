"""The report: one page that needs nothing else, says what is missing, and trusts no text."""

from __future__ import annotations

import base64
import io
import itertools
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from matplotlib.figure import Figure
from nbformat import NotebookNode, v4

from coursekit import notebooks
from coursekit.run.report import write_report
from helpers.lib.files import read_json, write_json
from helpers.recipes import METHODS
from helpers.workspace import Workspace, find_workspace
from tools.made_up import write_notebook, write_result


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "data"))
    return find_workspace(profile="mini")


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """An executed notebook with everything that a page must not take over as it is."""
    stream = io.BytesIO()
    Figure(figsize=(0.2, 0.2)).savefig(stream)
    png = base64.b64encode(stream.getvalue()).decode()
    drawn = v4.new_output("display_data", {"image/png": png, "text/plain": "<Figure>"})
    described = v4.new_output("display_data", {"image/png": png})
    described.metadata = {"image/png": {"alt": "four roses"}}
    harm = "<script>alert(1)</script><b onclick='x'>b</b>"
    outputs = [
        drawn,
        described,
        v4.new_output("display_data", {"text/html": harm}),
        v4.new_output("display_data", {"application/javascript": "alert(2)"}),
        v4.new_output("stream", name="stdout", text="a < b & c\n"),
    ]
    badge = "[![Open in Colab](https://example.org/badge.svg)](https://example.org/colab)"
    title = f"# Fine-tuning\n\n{badge} $a_1 < b$ ![logo](https://example.org/x.png)"
    cells = [
        v4.new_markdown_cell(title),
        v4.new_code_cell("plot_history(\n    run)", execution_count=1, outputs=[drawn]),
        v4.new_markdown_cell("#### Training\n\n[tour](01_dataset_tour.ipynb) [again](#Training)"),
        v4.new_code_cell("show()", execution_count=2, outputs=outputs),
        v4.new_markdown_cell("## Training\n\n<img src='//example.org/y.png'>"),
    ]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "03_resnet18_finetune.ipynb")
    return tmp_path / "03_resnet18_finetune.ipynb"


def report(workspace: Workspace, *paths: Path) -> BeautifulSoup:
    text = write_report(workspace, paths).read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser")


def section_of(soup: BeautifulSoup, key: str) -> Tag:
    return soup.find("section", {"aria-labelledby": key})


def test_page_needs_nothing_else_and_trusts_no_text(workspace: Workspace, notebook: Path) -> None:
    write_result(workspace.results_dir, "bn_cnn", student="<script>alert('x')</script>")
    soup = report(workspace, notebook)
    assert not soup.find_all(["script", "link", "iframe", "object", "embed"])
    assert all(tag["src"].startswith("data:") for tag in soup.find_all(src=True))
    assert not re.search(r"url\(|@import", " ".join(tag.text for tag in soup.find_all("style")))
    assert not [tag for tag in soup.find_all(True) for name in tag.attrs if name.startswith("on")]
    assert soup.html["lang"] == "en" and soup.title.text
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; ")
    for text in ("&lt;script&gt;alert", "$a_1 &lt; b$", "a &lt; b &amp; c"):
        assert text in str(soup)


def test_every_picture_has_an_alternative_text(workspace: Workspace, notebook: Path) -> None:
    for method in ("bn_cnn", "resnet18_extractor"):
        write_result(workspace.results_dir, method)
    soup = report(workspace, notebook)
    texts = [image.get("alt") for image in soup.find_all("img")]
    assert len(texts) == 3 + 2 + 3  # of the comparison, of the methods, of the notebook
    assert texts[0].startswith("Test accuracy with 95 % intervals: ")
    assert texts[3].startswith("BN-CNN: loss and accuracy, epoch by epoch: on train from 20.0% to")
    where = [f"A figure of notebook 03, “{heading}”" for heading in ("Fine-tuning", "Training")]
    assert texts[-3:] == [*where, "four roses"]
    # Pictures that are not kept leave their words.
    section = section_of(soup, "nb-03")
    assert section.find("a", href="https://example.org/colab").text == "Open in Colab"
    assert "logo" in section.text and "[picture not kept in the report]" in section.text


def test_pairs_have_a_p_value_and_no_verdict(workspace: Workspace) -> None:
    write_result(workspace.results_dir, "bn_cnn", right=0.5)
    assert section_of(report(workspace), "pairs") is None  # a single result is no pair
    write_result(workspace.results_dir, "resnet18_extractor", right=1.0)
    section = section_of(report(workspace), "pairs")
    assert [head.text for head in section.thead.find_all("th")][-2:] == ["p", "p (Holm)"]
    assert "hardly explains" in section.text and "real" not in section.text


def test_each_method_has_a_section(workspace: Workspace) -> None:
    write_result(workspace.results_dir, "bn_cnn", right=0.5)
    record = write_result(workspace.results_dir, "resnet18_extractor", right=1.0) / "record.json"
    values = read_json(record)
    values["recipe"] |= {"backbone_lr": None, "augment": {"flip": 0.5, "color_jitter": [0, 0.1]}}
    values["machine"]["processes"] = 3
    write_json(record, values)
    soup = report(workspace)
    cards = soup.find(class_="cards").find_all("a")
    assert len(cards) == 2
    for card in cards:
        assert card.text.startswith(soup.find(id=card["href"][1:]).text)
        section = section_of(soup, card["href"][1:])
        said = {term.text: term.find_next("dd").text for term in section.find_all("dt")}
        assert said["Test accuracy"].startswith(card.strong.text)
        assert " s for 3 epochs, " in said["Training"]
        assert section.find("figure")
    extractor = section_of(soup, "method-resnet18_extractor")
    settings = {row.th.text: row.td.text for row in extractor.tbody.find_all("tr")}
    wanted = {"size": "64", "num epochs": "3", "backbone lr": "none", "augment: flip": "0.5"}
    assert settings == wanted | {"augment: color jitter": "0, 0.1"}
    # The most frequent of the mistakes of the other one; the extractor makes none.
    assert len(extractor.find_all("table")) == 1
    confused = section_of(soup, "method-bn_cnn").table
    counts = [int(row.td.text) for row in confused.tbody.find_all("tr")]
    assert counts == sorted(counts, reverse=True) and 0 < sum(counts) <= 40
    assert "rose / iris" in confused.text and "mixes up most" in confused.caption.text
    machine = section_of(soup, "machine").text
    assert "(cpu), 2 threads" in machine and "3 processes with 2" in machine
    for one in soup.find_all("table"):
        assert one.caption.text
        assert {head.get("scope") for head in one.find_all("th")} == {"col", "row"}


def tagged(source: str, tag: str) -> NotebookNode:
    return v4.new_markdown_cell(source, metadata={"tags": [tag]})


def test_answers_are_gathered_and_open_questions_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    def write(name: str, *cells: NotebookNode) -> Path:
        nbformat.write(v4.new_notebook(cells=list(cells)), tmp_path / name)
        return tmp_path / name

    path = write(
        "03_x.ipynb",
        tagged("**Question 1.** Why?", "question"),
        v4.new_markdown_cell("a note of my own"),
        tagged("*Your answer:*\n\n# Because\n\n<script>alert(1)</script>\n\n`x < y`", "answer"),
        tagged("**Question 2.** How?", "question"),
        tagged("*Your answer:*", "answer"),
    )
    other = write("04_y.ipynb", tagged("**Question 1.** When?", "question"))
    section = section_of(report(workspace, path, other), "answers")
    problem = section.find(class_="problem").text
    assert problem == "Not answered yet: notebook 03, question 2; notebook 04, question 1."
    assert section.text.count("No answer yet.") == 2
    answer = section.find("code", string="x < y").find_parent(class_="celltag_answer")
    assert "Why?" in answer.find_previous_sibling(class_="celltag_question").text
    assert "a note of my own" not in section.text and not section.find("script")
    headings = [heading.text for heading in section.find_all("h3")]
    assert headings == ["Notebook 03", "Because", "Notebook 04"]
    path = write("04_y.ipynb", tagged("Why?", "question"), tagged("Because.", "answer"))
    note = section_of(report(workspace, path), "answers").find(class_="note")
    assert note.text == "All questions are answered."


def test_headings_and_links(workspace: Workspace, notebook: Path) -> None:
    write_result(workspace.results_dir, "bn_cnn")
    soup = report(workspace, notebook)
    levels = [int(tag.name[1]) for tag in soup.find_all(re.compile("^h[1-6]$"))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in soup.nav.find_all("a")} <= set(ids)
    assert soup.find("a", string="again")["href"] == "#nb-03-training"
    assert {"nb-03-training", "nb-03-training-2"} <= set(ids)
    assert soup.find("a", string="tour") is None  # its section is not on this page
    assert soup.find(id="nb-03").text == "03 Fine-tuning"


def test_extensions_are_listed_after_the_assignment(
    workspace: Workspace, notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_notebook(tmp_path / "notebooks" / "extensions", "07_x", "1")
    write_notebook(path.parent, "08_y", "2")
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    write_result(workspace.results_dir, "bn_cnn")
    assert report(workspace, notebook).find(id="extensions") is None
    runs = workspace.results_dir / "extensions"
    record = write_result(runs / "07_x", "resnet18_extractor") / "record.json"
    write_result(runs / "07_x", "efficientnet_b5_finetune")
    values = read_json(record)
    values["recipe"] |= {"num_epochs": 2, "table_epochs": 90}
    write_json(record, values)
    soup = report(workspace, notebook, path)
    ids = [section["aria-labelledby"] for section in soup.main.find_all("section")]
    assert ids[-3:] == ["nb-03", "extensions", "nb-07"]
    shown = section_of(soup, "extensions")
    assert "Runs of 07_x: Flowers102 (drawn)" in shown.caption.text
    for text, count in {"ResNet18 extractor": 1, "BN-CNN": 0, "08_y": 0, "not photographs": 1,
                        "2 of 90 epochs, limited by KIT_EPOCHS": 1}.items():  # fmt: skip
        assert shown.text.count(text) == count, text
    assert "ResNet18 extractor" not in section_of(soup, "comparison").table.text
    # A damaged record is named, and nothing else is lost.
    record.write_text("{}")
    soup = report(workspace, notebook, path)
    problem = section_of(soup, "extensions").find(class_="problem")
    assert "The runs of 07_x cannot be shown" in problem.text
    assert "BN-CNN" in section_of(soup, "comparison").table.text


def test_photos_on_mini_are_noted_for_what_they_say(workspace: Workspace) -> None:
    text = report(replace(workspace, dataset="photos")).find(class_="notice").text
    assert "weights learned from drawings of 64 pixels" in text
    assert "says little of the full profile" in text and "real flowers" not in text


def test_what_is_missing_is_named(workspace: Workspace) -> None:
    soup = report(workspace)
    assert "EfficientNet-B5" in soup.find(class_="problem").text
    assert not soup.find_all("img")
    assert "not photographs" in soup.find(class_="notice").text
    write_result(workspace.results_dir, "bn_cnn")
    text = report(workspace).find(class_="problem").text
    assert "BN-CNN" not in text
    assert all(METHODS[method].title in text for method in list(METHODS)[1:])
    write_result(workspace.results_dir, "bn_cnn", profile="full")
    assert "cannot be compared" in report(workspace).find(class_="problem").text
