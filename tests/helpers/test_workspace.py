"""The workspace: which profile and why, which data set, folders, seed and device."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from conftest import TINY
from helpers import KitError, choose_dataset, get_recipe, load_data, start
from helpers.lib import flowers, weights
from helpers.lib.folders import ROOT, folders, weights_dir
from helpers.lib.identity import seed_of
from helpers.workspace import find_workspace
from tools.tiny import write_class_folders


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Empty folders of data, results and weights; no profile and no data set is asked for."""
    for variable in ("KIT_PROFILE", "KIT_DATASET"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("KIT_DATA", "KIT_RESULTS", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.removeprefix("KIT_").lower()))
    return tmp_path


@pytest.fixture
def photos(place) -> Path:
    """Three class folders in the data folder, of 20, 8 and 3 pictures."""
    return write_class_folders(place / "data" / "photos", {"cat": 20, "dog": 8, "ox": 3})


def kept(place: Path) -> dict:
    return json.loads((place / "results" / "assignment.json").read_text(encoding="utf-8"))


def add_flowers(place: Path, *, pictures: int = flowers.NUM_PICTURES) -> None:
    folder = place / "data" / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for name in flowers.LABEL_FILES:
        (folder / name).touch()
    for number in range(1, pictures + 1):
        (folder / "jpg" / f"image_{number:05d}.jpg").touch()


# Profile, folders, student, device


def test_mini_when_there_is_no_flowers102_and_full_when_all_of_it_is_there(place):
    mini = find_workspace()
    assert (mini.profile, mini.pretrained) == ("mini", "drawn")
    assert "no Flowers102" in mini.reason and "python -m coursekit download" in mini.reason
    assert mini.results_dir == place / "results" / "mini"
    assert mini.checkpoints_dir == place / "results" / "mini" / "checkpoints"
    assert list(place.iterdir()) == []  # nothing is written without a student
    add_flowers(place)
    full = find_workspace()
    assert (full.profile, full.pretrained) == ("full", "imagenet")
    assert "all of Flowers102" in full.reason
    assert full.results_dir == place / "results" / "full"


def test_a_part_of_flowers102_is_an_error_that_names_what_is_missing(place):
    add_flowers(place, pictures=3)
    (place / "data" / "flowers-102" / flowers.LABEL_FILES[0]).unlink()
    with pytest.raises(KitError) as caught:
        find_workspace()
    assert flowers.LABEL_FILES[0] in str(caught.value) and "8,186 of 8,189 pictures" in str(
        caught.value
    )
    assert find_workspace(profile="mini").profile == "mini"


def test_a_profile_that_is_asked_for_goes_before_what_is_found(monkeypatch):
    assert find_workspace(profile="full").reason.startswith("asked for")
    monkeypatch.setenv("KIT_PROFILE", "full")
    workspace = find_workspace()
    assert (workspace.profile, workspace.reason) == ("full", "set by KIT_PROFILE")
    with pytest.raises(KitError, match="holds none of it: run `python -m coursekit download`"):
        load_data(workspace, get_recipe("bn_cnn", "full"))
    for name in ("Mini", "huge"):
        with pytest.raises(KitError, match=f"unknown profile '{name}': use 'mini' or 'full'"):
            find_workspace(profile=name)
        monkeypatch.setenv("KIT_PROFILE", name)
        with pytest.raises(KitError, match=f"unknown profile '{name}'"):
            find_workspace()


def test_relative_folders_are_below_the_kit_from_anywhere_and_reading_writes_nothing(
    place, monkeypatch
):
    for variable in ("KIT_DATA", "KIT_RESULTS", "TORCH_HOME"):
        monkeypatch.setenv(variable, f"some/{variable}")
    before = dict(os.environ)
    for folder in (place, ROOT / "tests", ROOT):
        monkeypatch.chdir(folder)
        assert folders() == (ROOT / "some" / "KIT_DATA", ROOT / "some" / "KIT_RESULTS")
        assert weights_dir() == ROOT / "some" / "TORCH_HOME" / "hub" / "checkpoints"
        assert find_workspace(profile="mini").data_dir == ROOT / "some" / "KIT_DATA"
    assert dict(os.environ) == before
    assert not (ROOT / "some").exists()


def test_seed_is_the_same_everywhere_and_differs_by_student():
    assert seed_of(None) == 0
    assert seed_of("s1234567") == 1092340538
    seeds = {seed_of(f"s{number:07d}") for number in range(500)}
    assert len(seeds) == 500 and all(0 <= seed < 2**31 for seed in seeds)


def test_student_is_remembered(place):
    assert find_workspace("s1234567").seed == seed_of("s1234567")
    assert kept(place) == {"student": "s1234567"}
    for again in (None, "", "  "):
        assert find_workspace(again).student == "s1234567"
    assert find_workspace(" s7654321 ").student == "s7654321"
    assert find_workspace().student == "s7654321"


@pytest.mark.parametrize("device", ["toaster", "cuda:x", "meta"])
def test_unknown_device(device):
    with pytest.raises(KitError, match="device"):
        find_workspace(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_device_that_is_not_there():
    with pytest.raises(KitError, match="no 'cuda' device: use device='cpu'"):
        find_workspace(device="cuda")


def test_a_user_without_a_home_folder_can_start(place, monkeypatch, capsys):
    def no_home(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    start(profile="mini")
    assert "weights .cache/torch" in capsys.readouterr().out


def test_a_results_folder_that_cannot_be_written_stops_at_the_start(place, monkeypatch):
    (place / "file").write_text("no folder")
    monkeypatch.setenv("KIT_RESULTS", str(place / "file"))
    with pytest.raises(KitError, match=r"results cannot be written to .*: allow it, or set"):
        start(profile="mini")


def test_the_banner_calls_mini_pictures_drawings(place, capsys):
    start("s1", device="cpu")
    banner = capsys.readouterr().out
    assert "DRAWINGS" in banner and "profile  mini: no Flowers102" in banner
    assert f"student  s1, seed {seed_of('s1')}" in banner
    add_flowers(place)
    start(device="cpu")
    banner = capsys.readouterr().out
    assert "profile  full" in banner and "DRAWINGS" not in banner


# The data set


@pytest.mark.parametrize("way", ["below data", "whole path", "Path", "home"])
def test_a_folder_is_kept_and_every_notebook_follows(place, photos, monkeypatch, way, capsys):
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("USERPROFILE", str(place))
    names = {"whole path": str(photos), "Path": photos, "home": "~/data/photos"}
    name = names.get(way, "photos")
    workspace = choose_dataset(find_workspace("s1"), name)
    said = capsys.readouterr().out
    assert "photos: 3 classes, 31 pictures, for all six notebooks" in said
    assert "data set " in said  # the new banner
    assert kept(place) == {"student": "s1", "dataset": str(name)}
    later = find_workspace()
    assert later == workspace and later.seed == seed_of("s1")
    data = load_data(later, TINY)
    assert (data.name, data.num_classes, sum(data.sizes.values())) == ("photos", 3, 31)
    assert data.fingerprint == load_data(workspace, TINY).fingerprint
    assert data.note  # networks pretrained on drawings


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CIFAR10", "CIFAR10 is not allowed in this assignment: its pictures are 32 pixels wide"),
        ("Roses", "no data set 'Roses': use one of Flowers102, OxfordIIITPet, DTD, "),
        ("", "no data set ''"),
        ("~nobody-of-this-name/photos", "no data set '~nobody"),
        ("two\nlines", r"the data set 'two\nlines' cannot be written in a line"),
        (7, "no data set '7'"),
        ("DTD", "run `python -m coursekit download --dataset DTD`"),
        ("few", "class 'b' has 2 pictures, too few to have one in each of train, val, test"),
        ("one", "has 1 class folder: a classifier needs at least 2"),
    ],
)
def test_what_cannot_be_used_is_told_at_once_and_not_kept(place, name, message):
    write_class_folders(place / "data" / "few", {"a": 5, "b": 2})
    write_class_folders(place / "data" / "one", {"a": 5})
    with pytest.raises(KitError) as caught:
        choose_dataset(find_workspace("s1"), name)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert kept(place) == {"student": "s1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"dataset": 7}', "holds no name of a data set, its 'dataset' is 7"),
        ('{"dataset": "a\\nb"}', r"its 'dataset' is 'a\nb'"),
        ('{"student": {}}', "holds no student id, its 'student' is {}"),
        ('"DTD"', "holds no student id"),
        ("[]", "holds no student id"),
        ("", "cannot read"),
        ('{"dataset": ', "cannot read"),
    ],
)
def test_nonsense_in_the_file_is_one_line_that_names_it(place, text, message):
    (place / "results").mkdir()
    (place / "results" / "assignment.json").write_text(text, encoding="utf-8")
    with pytest.raises(KitError) as caught:
        find_workspace()
    assert "assignment.json" in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value) and "delete it" in str(caught.value)


def test_a_folder_that_has_gone_is_told_when_it_is_loaded(place, photos):
    choose_dataset(find_workspace(), "photos")
    shutil.rmtree(photos)
    with pytest.raises(KitError, match="no data set 'photos'"):
        load_data(find_workspace(), TINY)


def test_the_variable_goes_before_the_choice(place, photos, monkeypatch, capsys):
    choose_dataset(find_workspace(), "photos")
    monkeypatch.setenv("KIT_DATASET", "Flowers102")
    workspace = find_workspace()
    capsys.readouterr()
    assert choose_dataset(workspace, "photos") is workspace
    assert workspace.dataset == "Flowers102"
    told = capsys.readouterr().out
    assert told == "data set Flowers102, set by KIT_DATASET: photos is not used\n"
    assert kept(place) == {"dataset": "photos"}


def test_the_profile_of_other_pictures_depends_on_the_weights(place, photos, monkeypatch):
    mini = choose_dataset(find_workspace(), "photos")
    assert mini.profile == "mini" and "not all ImageNet weights are in" in mini.reason
    for file in weights.IMAGENET.values():
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.touch()
    full = choose_dataset(find_workspace(), "photos")
    assert (full.profile, full.pretrained) == ("full", "imagenet")
    assert "the ImageNet weights are in" in full.reason and "NOTE" not in str(full)
    assert load_data(full, TINY).note == ""
    assert choose_dataset(find_workspace(profile="mini"), "photos").profile == "mini"


def test_mini_takes_a_part_of_each_class_of_a_large_set_and_says_so(place, capsys):
    counts = {f"kind {number}": 130 for number in range(12)}
    write_class_folders(place / "data" / "many", counts)
    workspace = choose_dataset(find_workspace("s1"), "many")
    capsys.readouterr()
    data = load_data(workspace, TINY)
    said = capsys.readouterr().out
    assert f"many: mini takes {data.sizes['train']:,} of 936 train" in said
    assert data.sizes["train"] < 936 and data.all_sizes["train"] == 936
    assert load_data(find_workspace(), TINY).fingerprint == data.fingerprint
    assert load_data(find_workspace("s2"), TINY).fingerprint != data.fingerprint
