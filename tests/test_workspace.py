"""The workspace: which profile and why, folders, seed and device."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import helpers
from helpers.errors import KitError
from helpers.lib import flowers
from helpers.lib.folders import ROOT
from helpers.lib.identity import seed_of
from helpers.workspace import find_workspace


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch) -> Path:
    """Empty folders of data and results, and no profile asked for."""
    monkeypatch.delenv("KIT_PROFILE")
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(flowers, "NUM_PICTURES", 3)
    return tmp_path


def add_flowers(place: Path, *, pictures: int = 3, labels: tuple[str, ...] = flowers.LABEL_FILES):
    folder = place / "data" / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for name in labels:
        (folder / name).touch()
    for number in range(1, pictures + 1):
        (folder / "jpg" / f"image_{number:05d}.jpg").touch()


def test_mini_when_there_is_no_flowers102(places):
    workspace = find_workspace()
    assert workspace.profile == "mini"
    assert workspace.pretrained == "drawn"
    assert "no Flowers102" in workspace.reason
    assert "python -m coursekit download" in workspace.reason
    assert workspace.results_dir == places / "results" / "mini"


def test_full_when_all_of_flowers102_is_there(places):
    add_flowers(places)
    workspace = find_workspace()
    assert workspace.profile == "full"
    assert workspace.pretrained == "imagenet"
    assert "all of Flowers102" in workspace.reason
    assert workspace.results_dir == places / "results" / "full"


@pytest.mark.parametrize(
    ("pictures", "labels", "missing"),
    [
        (2, flowers.LABEL_FILES, ["1 of 3 pictures", "image_00003.jpg"]),
        (3, ("setid.mat",), ["imagelabels.mat"]),
        (0, ("imagelabels.mat",), ["setid.mat", "3 of 3 pictures"]),
    ],
)
def test_a_part_of_flowers102_is_an_error_that_names_what_is_missing(
    places, pictures, labels, missing
):
    add_flowers(places, pictures=pictures, labels=labels)
    with pytest.raises(KitError) as caught:
        find_workspace()
    for text in missing:
        assert text in str(caught.value)
    assert find_workspace(profile="mini").profile == "mini"


def test_kit_profile_overrides_what_is_found(places, monkeypatch):
    add_flowers(places)
    monkeypatch.setenv("KIT_PROFILE", "mini")
    workspace = find_workspace()
    assert (workspace.profile, workspace.reason) == ("mini", "set by KIT_PROFILE")
    workspace = find_workspace(profile="full")
    assert workspace.profile == "full"
    assert workspace.reason.startswith("asked for")


def test_full_without_flowers102_is_an_error_when_they_are_to_be_loaded(monkeypatch):
    """Not before: extensions, and those who choose other pictures, do without."""
    monkeypatch.setenv("KIT_PROFILE", "full")
    workspace = find_workspace()
    recipe = helpers.get_recipe("bn_cnn", "full")
    with pytest.raises(KitError, match="holds none of it: run `python -m coursekit download`"):
        helpers.load_data(workspace, size=64, batch_size=4, augment=recipe.augment)


@pytest.mark.parametrize("name", ["Mini", "huge"])
def test_unknown_profile(name, monkeypatch):
    with pytest.raises(KitError, match=f"unknown profile '{name}'"):
        find_workspace(profile=name)
    monkeypatch.setenv("KIT_PROFILE", name)
    with pytest.raises(KitError, match=f"unknown profile '{name}'"):
        find_workspace()


def test_relative_folders_are_below_the_kit_from_anywhere(places, monkeypatch):
    for variable in ("KIT_DATA", "KIT_RESULTS", "TORCH_HOME"):
        monkeypatch.setenv(variable, f"some/{variable}")
    for folder in (places, ROOT / "tests", ROOT):
        monkeypatch.chdir(folder)
        workspace = find_workspace()
        assert workspace.data_dir == ROOT / "some" / "KIT_DATA"
        assert workspace.results_dir == ROOT / "some" / "KIT_RESULTS" / "mini"
        assert Path(os.environ["TORCH_HOME"]) == ROOT / "some" / "TORCH_HOME"
    assert not (ROOT / "some").exists()


@pytest.mark.parametrize("value", [None, ""])
def test_folders_without_variables(value, monkeypatch):
    for variable in ("KIT_DATA", "KIT_RESULTS", "TORCH_HOME"):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    workspace = find_workspace(profile="mini")
    assert workspace.data_dir == ROOT / "data"
    assert workspace.results_dir == ROOT / "results" / "mini"
    assert not os.environ.get("TORCH_HOME")


def test_home_is_understood(monkeypatch):
    monkeypatch.setenv("KIT_DATA", "~/pictures")
    assert find_workspace().data_dir == Path.home().resolve() / "pictures"


def test_seed_is_the_same_everywhere_and_differs_by_student():
    assert seed_of(None) == 0
    assert seed_of("s1234567") == 1092340538
    seeds = {seed_of(f"s{number:07d}") for number in range(500)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_student_is_remembered(places):
    assert find_workspace("s1234567").seed == seed_of("s1234567")
    assert json.loads((places / "results" / "assignment.json").read_text()) == {
        "student": "s1234567"
    }
    for again in (None, "", "  "):
        assert find_workspace(again).student == "s1234567"
    assert find_workspace(" s7654321 ").student == "s7654321"
    assert find_workspace().student == "s7654321"


def test_without_a_student_nothing_is_written(places):
    assert find_workspace().student is None
    assert list(places.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"student": 7}', ""])
def test_damaged_assignment_file_is_named(places, text):
    (places / "results").mkdir()
    (places / "results" / "assignment.json").write_text(text)
    with pytest.raises(KitError, match=r"assignment\.json"):
        find_workspace()


@pytest.mark.parametrize("device", ["toaster", "cuda:x", "meta"])
def test_unknown_device(device):
    with pytest.raises(KitError, match="device"):
        find_workspace(device=device)


def test_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(KitError, match="no 'cuda' device"):
        find_workspace(device="cuda")


def test_banner_calls_mini_pictures_drawings(places, capsys):
    helpers.start("s1", device="cpu")
    banner = capsys.readouterr().out
    assert "DRAWINGS" in banner
    assert "student  s1" in banner
    assert f"seed {seed_of('s1')}" in banner
    assert "profile  mini: no Flowers102" in banner
    add_flowers(places)
    helpers.start(device="cpu")
    banner = capsys.readouterr().out
    assert "profile  full" in banner
    assert "DRAWINGS" not in banner


@pytest.mark.parametrize(
    ("device", "network", "precision"),
    [
        ("cpu", nn.Conv2d(4, 8, 3, groups=4), torch.float32),
        ("cpu", nn.Conv2d(4, 8, 3), torch.bfloat16),
        ("cpu", nn.Conv2d(1, 8, 3), torch.bfloat16),
        ("cuda", nn.Conv2d(4, 8, 3, groups=4), torch.bfloat16),
    ],
)
def test_depthwise_networks_stay_with_float32_on_a_cpu(device, network, precision, capsys):
    workspace = dataclasses.replace(
        find_workspace(), device=torch.device(device), precision=torch.bfloat16
    )
    capsys.readouterr()
    suited = workspace.suited_to(nn.Sequential(nn.Flatten(), network))
    assert suited == dataclasses.replace(workspace, precision=precision)
    assert ("precision float32" in capsys.readouterr().out) == (precision == torch.float32)
