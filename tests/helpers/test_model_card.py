"""The model card: all of it from the record, and no name in it is ever markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from nbconvert.filters import markdown2html

from helpers import model_card
from helpers.results import Result, read_result
from tools.made_up import write_result

AWKWARD = ("a | b", "<b>bold</b>", "`tick`", "$x$ and $y$", "# head", "[link](http://a.b)", "a\nb",
           "*s* _u_ ~~d~~", "\\", "&amp;", "<script>alert(1)</script>", " ", "- item")  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = write_result(tmp_path_factory.mktemp("results"), "bn_cnn", right=0.5)
    return read_result(Path(folder) / "record.json")


def shown(text: str) -> str:
    return " ".join(text.replace("`", "'").split()) or "(no name)"


def renamed(result: Result, name: str) -> Result:
    """The same result with this name for everything that somebody can name."""
    record = {
        **result.record,
        "method": name,
        "student": name,
        "weights": {"kind": name, "source": name},
        "data": {**result.record["data"], "name": name, "note": name},
        "recipe": {name: name},
    }
    return replace(result, record=record, class_names=[name] * len(result.class_names))


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(AWKWARD) | st.text(min_size=1, max_size=30))
def test_names_are_shown_as_they_are(result: Result, name: str) -> None:
    card = model_card(renamed(result, name))
    html = BeautifulSoup(markdown2html(card), "html.parser")
    assert {tag.name for tag in html.find_all(True)} <= {
        "h3",
        "a",
        "p",
        "strong",
        "ul",
        "li",
        "code",
    }
    assert {link["href"][0] for link in html.find_all("a")} <= {"#"}  # of the heading
    assert len(html.find_all("li")) == len(re.findall("^- ", card, re.MULTILINE))
    codes = [" ".join(code.text.split()) for code in html.find_all("code")]
    assert codes.count(shown(name)) >= 6


def test_every_number_was_measured(result: Result) -> None:
    test, val, record = result.record["test"], result.record["val"], result.record
    card = re.sub("`[^`]*`", "", model_card(result))
    low, high = test["interval"]
    known = {f"{share:.1%}" for share in (val["accuracy"], test["accuracy"], low, high)}
    known |= {f"{int(hits)}" for hits in (test["correct"], test["total"], val["epoch"])}
    known |= {f"{record['data']['classes']}", f"{record['training_seconds']:,.1f}"}
    known |= {f"{record['epochs']}", f"{record['seed']}", "95"}
    known |= {f"{count:,}" for count in record["parameters"].values()}
    known |= {f"{count:,}" for count in record["data"]["sizes"].values()}
    known |= {str(side) for side in record.get("input_shape", ())}
    hits = [(result.hits[result.labels == c]).double().mean() for c in result.labels.unique()]
    known |= {f"{hit:.1%}" for hit in sorted(hits)[:3]}
    found = set(re.findall(r"\d[\d,.]*\d%?|\d%?", card.replace("SHA-256", "")))
    assert found <= known


def test_a_class_without_test_pictures_is_not_among_the_worst(result: Result) -> None:
    one = torch.zeros_like(result.labels)
    card = model_card(replace(result, labels=one, predictions=one))
    assert f"Lowest accuracy of a class on test: `{result.class_names[0]}` 100.0%\n" in card


def test_records_that_say_less_have_a_shorter_card(result: Result) -> None:
    record = {key: value for key, value in result.record.items() if key != "input_shape"}
    record |= {"recipe": {}, "files": {}, "versions": {}, "student": None}
    card = model_card(replace(result, record=record))
    assert "Takes pictures" not in card and "Recipe" not in card and "none given" in card
    assert model_card(None) == "No result yet: run notebooks 02 to 05 first."
