"""The assignment itself, on the real pictures. Slow: run with `pytest -m slow`, and with KIT_DATA
and TORCH_HOME naming Flowers102 and the ImageNet weights."""

from __future__ import annotations

import pytest

from coursekit.run.runner import run_notebooks
from helpers.errors import KitError
from helpers.lib.files import read_json
from helpers.lib.flowers import flowers102_is_present
from helpers.lib.folders import folder_from_environment
from helpers.lib.weights import IMAGENET
from helpers.workspace import find_workspace

pytestmark = pytest.mark.slow

# Notebook, method, val accuracy that its recipe was chosen to reach at least.
EXPECTED = [
    ("02", "bn_cnn", 0.57),
    ("03", "resnet18_finetune", 0.88),
    ("04", "resnet18_extractor", 0.85),
]


@pytest.fixture
def full_profile(monkeypatch, tmp_path):
    try:
        complete = flowers102_is_present(folder_from_environment("KIT_DATA", "data"))
    except KitError as error:
        pytest.skip(str(error))
    if not complete:
        pytest.skip("KIT_DATA does not name a folder with Flowers102")
    monkeypatch.setenv("KIT_PROFILE", "full")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path))
    return find_workspace()


@pytest.mark.parametrize(("number", "method", "accuracy"), EXPECTED)
def test_a_recipe_keeps_its_promise_on_val(full_profile, number, method, accuracy):
    if method != "bn_cnn" and not IMAGENET["resnet18"].path.exists():
        pytest.skip("TORCH_HOME has no ImageNet weights of ResNet18")
    run_notebooks(names=[number])
    record = read_json(full_profile.results_dir / method / "record.json")
    assert record["val"]["accuracy"] >= accuracy
    assert record["test"]["total"] == 6149
