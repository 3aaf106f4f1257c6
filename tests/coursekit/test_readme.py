"""What the README says to do can be done: its examples run, and its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.lib import sources
from helpers.lib.folders import ROOT
from helpers.results import load_results
from helpers.workspace import Workspace
from tools.tiny import write_class_folders

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def example(word: str) -> str:
    (found,) = (text for text in EXAMPLES if word in text)
    return found


def test_a_network_of_ones_own(
    workspace: Workspace, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIT_DATASET", str(picture_folder))
    exec(compile(example("class TinyCNN"), "README.md", "exec"), {})
    (result,) = load_results(workspace)
    assert (result.title, result.record["epochs"]) == ("tiny_cnn", 5)


def test_a_data_set_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_class_folders(tmp_path / "food-101" / "images", {"cake": 10, "soup": 10})
    (tmp_path / "food-101" / "meta").mkdir()
    names = {
        folder.name: [f"{folder.name}/{path.stem}" for path in sorted(folder.iterdir())]
        for folder in images.iterdir()
    }
    for part, chosen in (("train", slice(7)), ("test", slice(7, None))):
        text = json.dumps({name: files[chosen] for name, files in names.items()})
        (tmp_path / "food-101" / "meta" / f"{part}.json").write_text(text)
    monkeypatch.setattr(sources, "TORCHVISION_SETS", dict(sources.TORCHVISION_SETS))
    exec(f"TORCHVISION_SETS.update({{{example('Food101')}}})", vars(sources))
    listing = sources.list_pictures("Food101", profile="full", data_dir=tmp_path, seed=0)
    assert listing.class_names == ["cake", "soup"]
    counts = {split: len(paths) for split, (paths, _) in listing.splits.items()}
    assert counts["test"] == 6 and counts["train"] + counts["val"] == 14


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/grading.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    headings = [re.sub(r"[^\w\- ]", "", h).strip() for h in re.findall(r"^#+ (.*)$", text, re.M)]
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert (page.parent / path).exists() if path else anchor in anchors, link
