"""Sources: folders, torchvision's sets in their own layouts, the drawn flowers, and refusals."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from scipy.io import savemat

from helpers import load_data
from helpers.errors import KitError
from helpers.lib import flowers
from helpers.lib.flowers import DrawnFlowers
from helpers.lib.sources import (
    TORCHVISION_SETS,
    list_pictures,
    list_small_pictures,
    picture_ids,
)
from helpers.recipes import get_recipe
from tools.tiny import SPLITS, write_class_folders, write_pets, write_picture

NAMES = ("train", "val", "test")


def list_folder(folder: Path, seed: int = 0):
    return list_pictures(folder, profile="full", data_dir=folder.parent, seed=seed)


def check_disjoint(listing, total: int) -> None:
    """Every picture is there, in one split, below the root."""
    assert tuple(listing.splits) == NAMES
    ids = [
        name for paths, _ in listing.splits.values() for name in picture_ids(paths, listing.root)
    ]
    assert len(ids) == len(set(ids)) == total
    assert not any(Path(name).is_absolute() for name in ids)
    for paths, labels in listing.splits.values():
        assert len(paths) == len(labels)
        assert set(labels) == set(range(len(listing.class_names)))


# Folders


def test_folder_without_splits_is_divided_by_class(tmp_path):
    folder = write_class_folders(tmp_path / "mine", {"b": 10, "a": 23, "c": 3})
    listing = list_folder(folder)
    assert listing.class_names == ["a", "b", "c"]
    check_disjoint(listing, 36)
    counts = {split: Counter(labels) for split, (_, labels) in listing.splits.items()}
    assert counts == {
        "train": {0: 15, 1: 6, 2: 1},
        "val": {0: 4, 1: 2, 2: 1},
        "test": {0: 4, 1: 2, 2: 1},
    }
    for paths, labels in listing.splits.values():
        assert [path.parent.name for path in paths] == ["abc"[label] for label in labels]


def test_folder_with_splits_keeps_them(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        write_class_folders(tmp_path / "mine" / split, {"a": count, "b": count})
    listing = list_folder(tmp_path / "mine")
    check_disjoint(listing, 18)
    for split, (paths, _) in listing.splits.items():
        assert {path.parent.parent.name for path in paths} == {split}


def test_folder_without_val_takes_it_from_train(tmp_path):
    for split, count in (("train", 8), ("test", 3)):
        write_class_folders(tmp_path / "mine" / split, {"a": count, "b": count})
    listing = list_folder(tmp_path / "mine")
    check_disjoint(listing, 22)
    sources = {
        split: {path.parent.parent.name for path in paths}
        for split, (paths, _) in listing.splits.items()
    }
    assert sources == {"train": {"train"}, "val": {"train"}, "test": {"test"}}
    assert [len(paths) for paths, _ in listing.splits.values()] == [12, 4, 6]


LAYOUTS = [  # folders with their pictures of each class, and the folder of each split
    ({"Train": 8, "Test": 3, "Valid": 2}, {"train": "Train", "val": "Valid", "test": "Test"}),
    ({"TRAIN": 8, "TEST": 3}, {"train": "TRAIN", "val": "TRAIN", "test": "TEST"}),
    (
        {"training": 8, "validation": 2, "evaluation": 3},
        {"train": "training", "val": "validation", "test": "evaluation"},
    ),
    ({"train": 8, "eval": 2, "test": 3}, {"train": "train", "val": "eval", "test": "test"}),
    (
        {"seg_train/seg_train": 8, "seg_test/seg_test": 3},
        {"train": "seg_train", "val": "seg_train", "test": "seg_test"},
    ),
    ({"train": 8, "dev": 2, "test": 3}, {"train": "train", "val": "dev", "test": "test"}),
    # PyTorch's own tutorial: what it calls val is all that was not trained on
    ({"train": 8, "val": 4}, {"train": "train", "val": "val", "test": "val"}),
    ({"train_images": 8, "test-set": 3}, {"train": "train_images", "val": "train_images",
                                          "test": "test-set"}),
    ({"mine/mine/train": 8, "mine/mine/test": 3}, {"train": "mine", "val": "mine", "test": "mine"}),
    ({"train": 9}, {"train": "train", "val": "train", "test": "train"}),
]  # fmt: skip


@pytest.mark.parametrize(("folders", "splits"), LAYOUTS, ids=lambda one: "-".join(one))
def test_splits_are_known_by_the_names_that_people_give_them(tmp_path, folders, splits):
    top = tmp_path / "mine"
    for name, count in folders.items():
        write_class_folders(top / name, {"a": count, "b": count})
    listing = list_folder(top)
    assert listing.class_names == ["a", "b"]
    check_disjoint(listing, 2 * sum(folders.values()))
    assert listing.left_out == ()
    for split, (paths, _) in listing.splits.items():
        assert {path.relative_to(top).parts[0] for path in paths} == {splits[split]}
    told = " ".join(listing.notes)
    assert all(name.split("/")[0] in told for name in folders if name not in SPLITS)


def test_a_doubled_folder_is_entered_and_told(tmp_path):
    write_class_folders(tmp_path / "flowers" / "flowers", {"rose": 5, "tulip": 5})
    listing = list_folder(tmp_path / "flowers")
    assert listing.class_names == ["rose", "tulip"]
    assert listing.notes == ("flowers/ is what flowers/ holds",)


def test_classes_may_be_called_like_splits_while_others_are_not(tmp_path):
    folder = write_class_folders(tmp_path / "vehicles", {"train": 5, "bus": 5})
    assert list_folder(folder).class_names == ["bus", "train"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "Training", "test"], "has Training/ and train/, which all look like train: put"),
        (["train", "val", "test", "eval"], "eval may be val or test: rename it"),
        (["train", "eval"], "eval may be val or test: rename it"),
        (["test", "val"], "has val/, test/ but no train/: add it"),
    ],
)
def test_folders_of_splits_that_are_ambiguous_are_refused(tmp_path, folders, message):
    for name in folders:
        write_class_folders(tmp_path / "mine" / name, {"a": 5, "b": 5})
    with pytest.raises(KitError, match=message):
        list_folder(tmp_path / "mine")


def test_splits_without_classes_are_not_taken_for_classes(tmp_path):
    write_class_folders(tmp_path / "mine", {"Train": 9, "Test": 5})
    with pytest.raises(
        KitError, match=r"Test/ and Train/ in .* hold pictures and no class folders"
    ):
        list_folder(tmp_path / "mine")


def test_every_picture_is_used_or_named(tmp_path):
    top = tmp_path / "mine"
    for split in ("train", "test"):
        write_class_folders(top / split, {"a": 6, "b": 6})
    write_class_folders(top, {"extra": 4})  # as Kaggle's folder of pictures without labels
    write_picture(top / "cover.png")
    write_picture(top / "train" / "odd.png")
    listing = list_folder(top)
    check_disjoint(listing, 24)
    assert listing.left_out == (
        ". (1 picture in no class folder of any split)",
        "extra (4 pictures in no class folder of any split)",
        "train (1 picture in no class folder of any split)",
    )


def test_pictures_are_known_by_their_first_bytes_where_their_ending_says_nothing(tmp_path):
    folder = write_class_folders(tmp_path / "mine", {"a": 5, "b": 5})
    for name, kind in (("x.jfif", "jpeg"), ("y.JPG_large", "jpeg"), ("z", "png"), ("w", "webp")):
        write_picture(tmp_path / "one.png", seed=ord(name[0]))
        Image.open(tmp_path / "one.png").save(folder / "a" / name, kind)
    (folder / "b" / "IMG_1").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (folder / "b" / "readme").write_text("no picture")
    listing = list_folder(folder)
    check_disjoint(listing, 14)
    (line,) = listing.left_out
    assert line.startswith("b/IMG_1 (HEIC is not read: save it as JPEG")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "has 0 class folders"),
        ({"a": 5}, "has 1 class folder: .* at least 2"),
        ({"a": 5, "b": 0}, r"class folder .*b has no pictures"),
        ({"a": 5, "b": 2}, "class 'b' has 2 pictures, too few"),
        ({"a": 1, "b": 9, ".hidden": 3}, "class 'a' has 1 picture, too few"),
    ],
)
def test_folder_that_cannot_be_used_says_why(tmp_path, counts, message):
    with pytest.raises(KitError, match=message):
        list_folder(write_class_folders(tmp_path / "mine", counts))


# Files that cannot be used


def spoil(folder: Path) -> dict[str, str]:
    """Add to a folder of class folders what people have in theirs; the faults by picture id."""
    a, b = folder / "a", folder / "b"
    whole = (a / "00.png").read_bytes()
    (a / "empty.jpg").touch()
    (a / "cut.png").write_bytes(whole[:-30])
    (a / "text.jpeg").write_text("not a picture")
    (b / "photo.HEIC").write_bytes(b"x")
    (b / "deep").mkdir()
    (b / "deep" / "empty.png").touch()
    (b / "folder.png").mkdir()
    for ignored in ("notes.txt", ".hidden.jpg", "._a.jpg", "Thumbs.db"):
        (b / ignored).write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    return {
        "a/empty.jpg": "no picture that can be read, or empty",
        "a/cut.png": "",
        "a/text.jpeg": "no picture that can be read, or empty",
        "b/photo.HEIC": "HEIC is not read: save it as JPEG",
        "b/deep/empty.png": "no picture that can be read, or empty",
    }


def test_what_cannot_be_used_of_a_folder_is_left_out_and_named(tmp_path):
    folder = write_class_folders(tmp_path / "mine", {"a": 10, "b": 12})
    before = list_folder(folder)
    faults = spoil(folder)
    listing = list_folder(folder)
    # splits, labels and fingerprint are as if the others were not there
    assert listing.splits == before.splits
    assert listing.class_names == before.class_names
    assert listing.named_labels() == before.named_labels()
    assert before.left_out == ()
    assert len(listing.left_out) == len(faults)
    for line, name in zip(listing.left_out, sorted(faults), strict=True):
        assert line.startswith(f"{name} (")
        assert faults[name] in line
    used = [path for paths, _ in listing.splits.values() for path in paths]
    assert {path: listing.picture_sizes[path] for path in used} == dict.fromkeys(used, (24, 20))


@pytest.mark.parametrize("across", [False, True])
def test_copies_are_left_out(tmp_path, across):
    """Of copies in one class the first is kept; of copies in two classes none is."""
    folder = write_class_folders(tmp_path / "mine", {"a": 6, "b": 6})
    (folder / ("b" if across else "a") / "copy.png").write_bytes(
        (folder / "a" / "03.png").read_bytes()
    )
    listing = list_folder(folder)
    names = [path.name for paths, _ in listing.splits.values() for path in paths]
    assert "copy.png" not in names
    assert len(names) == (11 if across else 12)
    assert listing.left_out == (
        ("a/03.png (the same picture as b/copy.png, of another class)",
         "b/copy.png (the same picture as a/03.png, of another class)")
        if across else ("a/copy.png (the same picture as a/03.png)",)
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_are_told(tmp_path):
    folder = write_class_folders(tmp_path / "mine", {"a": 5, "b": 5})
    odd = os.fsdecode(b"odd\xff.png")
    write_picture(folder / "a" / "odd.png").rename(folder / "a" / odd)
    write_picture(folder / "a" / "line.png").rename(folder / "a" / "two\nlines.png")
    assert list_folder(folder).left_out == (
        "a/odd?.png (its name is no line of text: rename it)",
        "a/two lines.png (its name is no line of text: rename it)",
    )
    (folder / os.fsdecode(b"class\xff")).mkdir()
    with pytest.raises(KitError, match=r"class folder .* is no line of text: rename 'class.udcff'"):
        list_folder(folder)


# Names


@pytest.mark.parametrize("name", ["Flowers", "flowers102", "no/such/folder"])
def test_unknown_sets_list_the_known_ones(tmp_path, name):
    with pytest.raises(KitError) as caught:
        list_pictures(name, profile="full", data_dir=tmp_path, seed=0)
    for known in ("Flowers102", "OxfordIIITPet", "DTD", "FGVCAircraft", "EuroSAT"):
        assert known in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("flowers102", r"\. Did you mean 'Flowers102'\?"),
        ("dtd", r"\. Did you mean 'DTD'\?"),
        ("flowers.zip", r"\. Unpack the archive, and give the name of the folder that comes out"),
    ],
)
def test_what_was_probably_meant_is_told(tmp_path, name, hint):
    with pytest.raises(KitError, match=hint):
        list_pictures(name, profile="full", data_dir=tmp_path, seed=0)


def test_a_path_may_be_pasted_with_its_quotation_marks(tmp_path):
    write_class_folders(tmp_path / "my photos", {"a": 5, "b": 5})
    listing = list_pictures('"my photos"', profile="full", data_dir=tmp_path, seed=0)
    assert listing.class_names == ["a", "b"]


# torchvision's sets


def make_dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for split in SPLITS:
        names = [f"{name}/{name}_{split}{n}.jpg" for name in ("banded", "dotted") for n in (1, 2)]
        for name in names:
            write_picture(folder / "images" / name)
        (folder / "labels" / f"{split}1.txt").write_text("\n".join(names))


def make_aircraft(root: Path) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    for split in SPLITS:
        lines = []
        for number, variant in enumerate(("707-320", "Spitfire", "707-320", "Spitfire")):
            write_picture(folder / "images" / f"{split}{number}.jpg")
            lines.append(f"{split}{number} {variant}")
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines))
    (folder / "variants.txt").write_text("707-320\nSpitfire\n")


def make_eurosat(root: Path) -> None:
    write_class_folders(root / "eurosat" / "2750", {"Forest": 10, "River": 10})


FAKES = {
    "OxfordIIITPet": (write_pets, ["Abyssinian", "Yorkshire Terrier"], (12, 4, 16)),
    "DTD": (make_dtd, ["banded", "dotted"], (4, 4, 4)),
    "FGVCAircraft": (make_aircraft, ["707-320", "Spitfire"], (4, 4, 4)),
    "EuroSAT": (make_eurosat, ["Forest", "River"], (12, 4, 4)),
}


@pytest.mark.parametrize("name", FAKES)
def test_torchvision_sets_have_disjoint_splits(tmp_path, workspace, name):
    make, classes, sizes = FAKES[name]
    make(tmp_path)
    listing = list_pictures(name, profile="full", data_dir=tmp_path, seed=1)
    assert listing.class_names == classes
    check_disjoint(listing, sum(sizes))
    assert tuple(len(paths) for paths, _ in listing.splits.values()) == sizes
    for split in SPLITS:
        named = [path.name for path in listing.splits[split][0]]
        if name in ("DTD", "FGVCAircraft"):
            assert all(split in one for one in named)
        if name == "OxfordIIITPet":
            assert all(("_test" in one) == (split == "test") for one in named)


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_missing_torchvision_sets_say_how_to_fetch_them(tmp_path, name):
    with pytest.raises(KitError, match=f"python -m coursekit download --dataset {name}"):
        list_pictures(name, profile="full", data_dir=tmp_path, seed=0)


def test_damage_to_a_published_set_is_an_error_with_its_remedy(tmp_path, workspace):
    make_dtd(tmp_path)
    path = tmp_path / "dtd" / "dtd" / "images" / "banded" / "banded_val2.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    workspace = dataclasses.replace(workspace, data_dir=tmp_path)
    with pytest.raises(KitError, match=r"1 of 4 .*banded_val2\.jpg .*download --dataset DTD"):
        load_data(workspace, get_recipe("bn_cnn", "mini"), dataset="DTD")


# The sets of the extensions


def test_small_drawings_stand_in_on_mini(tmp_path):
    options = {"data_dir": tmp_path, "seed": 0, "val_fraction": 0.1}
    listing = list_small_pictures("CIFAR10", profile="mini", **options)
    check_disjoint(listing, 1600)
    assert (listing.side, listing.made_splits) == (32, ("train", "val"))
    assert "drawn" in listing.name
    train, val = (len(listing.splits[split][0]) for split in ("train", "val"))
    assert val == pytest.approx(0.1 * (train + val), abs=10)
    with pytest.raises(KitError, match=r"cifar-10-folders is missing: .*--dataset CIFAR10"):
        list_small_pictures("CIFAR10", profile="full", **options)
    with pytest.raises(KitError, match="no data set 'DTD' for an extension"):
        list_small_pictures("DTD", profile="mini", **options)
    with pytest.raises(KitError, match=r"val_fraction=1\.5"):
        list_small_pictures("CIFAR10", profile="mini", **{**options, "val_fraction": 1.5})


# Flowers


def test_drawn_flowers_are_twelve_named_species():
    listing = list_pictures("Flowers102", profile="mini", data_dir=Path("nowhere"), seed=0)
    assert len(set(listing.class_names)) == 12
    check_disjoint(listing, 12 * 60)
    for split, count in (("train", 10), ("val", 10), ("test", 40)):
        assert Counter(listing.splits[split][1]) == dict.fromkeys(range(12), count)
    assert "drawn" in listing.name
    assert DrawnFlowers().classes == listing.class_names


@pytest.fixture
def flowers102(tmp_path, monkeypatch) -> Path:
    """A made-up Flowers102 of 18 pictures in 2 classes, that torchvision takes for the real one."""
    monkeypatch.setattr(flowers, "NUM_PICTURES", 18)
    monkeypatch.setattr("torchvision.datasets.Flowers102._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.Flowers102.classes", ["rose", "iris"])
    folder = tmp_path / "flowers-102"
    for number in range(1, 19):
        write_picture(folder / "jpg" / f"image_{number:05d}.jpg", seed=number)
    savemat(folder / "imagelabels.mat", {"labels": [[1 + n % 2 for n in range(18)]]})
    splits = {"trnid": [range(1, 7)], "valid": [range(7, 13)], "tstid": [range(13, 19)]}
    savemat(folder / "setid.mat", {key: [list(rows[0])] for key, rows in splits.items()})
    return tmp_path


def test_flowers102_has_the_official_splits(flowers102):
    listing = list_pictures("Flowers102", profile="full", data_dir=flowers102, seed=0)
    assert listing.name == "Flowers102"
    assert listing.note == ""
    check_disjoint(listing, 18)
    paths, labels = listing.splits["val"]
    assert [path.name for path in paths] == [f"image_{n:05d}.jpg" for n in range(7, 13)]
    assert labels == [0, 1, 0, 1, 0, 1]


def test_flowers102_with_missing_pictures_names_them(flowers102):
    for number in (2, 5):
        (flowers102 / "flowers-102" / "jpg" / f"image_{number:05d}.jpg").unlink()
    with pytest.raises(KitError, match=r"2 of 18 pictures .*image_00002.jpg, image_00005.jpg"):
        list_pictures("Flowers102", profile="full", data_dir=flowers102, seed=0)


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_flowers102_with_a_damaged_label_file(flowers102, monkeypatch, name):
    monkeypatch.undo()
    monkeypatch.setattr(flowers, "NUM_PICTURES", 18)
    path = flowers102 / "flowers-102" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(KitError, match=r"label file .* is damaged"):
        list_pictures("Flowers102", profile="full", data_dir=flowers102, seed=0)


def test_flowers102_that_is_not_there_says_how_to_fetch_it(tmp_path):
    with pytest.raises(KitError, match="python -m coursekit download"):
        list_pictures("Flowers102", profile="full", data_dir=tmp_path, seed=0)
