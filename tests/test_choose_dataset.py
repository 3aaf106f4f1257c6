"""The data set that notebook 01 chooses: kept, checked, described, used by all six notebooks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image
from tiny import SPLITS, write_class_folders, write_pets

import helpers
from coursekit import notebooks
from coursekit.grading import printed as printed_by_students
from coursekit.handin import submit
from coursekit.run import report, runner
from helpers import METHODS, choose_dataset, describe_data, duplicates_across_splits, load_data
from helpers import __main__ as cli
from helpers.data import Data, fingerprint
from helpers.errors import KitError
from helpers.lib import sources, weights
from helpers.lib.files import read_json
from helpers.lib.identity import seed_of
from helpers.lib.sources import MINI_LEAST, MINI_WEIGHTS_NOTE, list_pictures
from helpers.recipes import Augmentation, SmallAugmentation
from helpers.results import make_record
from helpers.training import Score
from helpers.workspace import Workspace, find_workspace

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHOICE = 'workspace = choose_dataset(workspace, "Flowers102")'
LONG = "a kind of bird whose name is far too long for any axis"


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


def load(workspace: Workspace, **options) -> Data:
    given = {"size": 16, "batch_size": 8, "augment": Augmentation()}
    return load_data(workspace, **given, **options)


def add_weights() -> None:
    for file in weights.IMAGENET.values():
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.touch()


# The choice, and where it is kept


def test_the_default_changes_nothing(place, capsys):
    before = find_workspace()
    assert choose_dataset(before, "Flowers102") == before
    said = capsys.readouterr().out
    assert said == "Flowers102 (drawn): 12 classes, 720 pictures, for all six notebooks\n"
    assert not (place / "results").exists()
    assert "data set" not in str(before)


@pytest.mark.parametrize("way", ["below data", "whole path", "Path", "home", "below the kit"])
def test_a_folder_is_kept_and_every_notebook_follows(place, photos, monkeypatch, way, capsys):
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("USERPROFILE", str(place))
    monkeypatch.setattr(sources, "ROOT", place)
    names = {"whole path": str(photos), "Path": photos, "home": "~/data/photos",
             "below the kit": "data/photos"}  # fmt: skip
    name = names.get(way, "photos")
    workspace = choose_dataset(find_workspace("s1"), name)
    said = capsys.readouterr().out
    assert "photos: 3 classes, 31 pictures, for all six notebooks" in said
    assert "data set " in said  # the new banner
    assert kept(place) == {"student": "s1", "dataset": str(name)}
    later = find_workspace()
    assert later == workspace
    assert later.seed == seed_of("s1")
    data = load(later)
    assert (data.name, data.num_classes) == ("photos", 3)
    assert sum(data.sizes.values()) == 31
    assert data.fingerprint == load(workspace).fingerprint


def test_what_else_is_kept_stays(place, photos):
    find_workspace("s1")
    path = place / "results" / "assignment.json"
    path.write_text(json.dumps({**kept(place), "colour": "blue"}), encoding="utf-8")
    choose_dataset(find_workspace(), "photos")
    find_workspace("s2")
    assert kept(place) == {"student": "s2", "dataset": "photos", "colour": "blue"}
    choose_dataset(find_workspace(), "Flowers102")
    assert find_workspace().dataset == "Flowers102"


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
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kept(place) == {"student": "s1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"dataset": 7}', "holds no name of a data set, its 'dataset' is 7"),
        ('{"dataset": ["DTD"]}', "its 'dataset' is ['DTD']"),
        ('{"dataset": "a\\nb"}', r"its 'dataset' is 'a\nb'"),
        ('{"student": {}}', "holds no student id, its 'student' is {}"),
        ('"DTD"', "holds no student id"),
        ('{"dataset": ', "cannot read"),
    ],
)
def test_nonsense_in_the_file_is_one_line_that_names_it(place, text, message):
    (place / "results").mkdir()
    (place / "results" / "assignment.json").write_text(text, encoding="utf-8")
    with pytest.raises(KitError) as caught:
        find_workspace()
    assert "assignment.json" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "delete it" in str(caught.value)


def test_a_folder_that_has_gone_is_told_when_it_is_loaded(place, photos):
    choose_dataset(find_workspace(), "photos")
    shutil.rmtree(photos)
    workspace = find_workspace()
    with pytest.raises(KitError, match="no data set 'photos'"):
        load(workspace)


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


# The profile


def test_other_pictures_need_no_flowers(photos, monkeypatch):
    monkeypatch.setenv("KIT_PROFILE", "full")
    workspace = choose_dataset(find_workspace(), "photos")
    assert (workspace.profile, workspace.pretrained) == ("full", "imagenet")
    data = load(workspace)
    assert (data.note, data.all_sizes) == ("", {})
    assert "NOTE" not in str(workspace)


def test_the_profile_of_other_pictures_depends_on_the_weights(place, photos):
    flowers = place / "data" / "flowers-102"
    flowers.mkdir()
    mini = choose_dataset(find_workspace(), "photos")
    assert mini.profile == "mini"
    assert "python -m coursekit download --weights-only" in mini.reason
    (flowers / "setid.mat").touch()  # a part of Flowers102 is nobody's business now
    assert find_workspace().profile == "mini"
    (flowers / "setid.mat").unlink()
    add_weights()
    first = dataclasses.replace(mini, dataset="Flowers102", reason="no Flowers102")
    full = choose_dataset(first, "photos")
    assert (full.profile, full.pretrained) == ("full", "imagenet")
    assert full.results_dir == place / "results" / "full"
    assert find_workspace() == full
    back = choose_dataset(full, "Flowers102")
    assert (back.profile, back.dataset) == ("mini", "Flowers102")
    assert find_workspace(dataset="photos").profile == "full"


def test_a_profile_that_was_asked_for_stays(photos):
    add_weights()
    assert choose_dataset(find_workspace(profile="mini"), "photos").profile == "mini"


def test_the_banner_is_true_of_other_pictures(photos):
    banner = str(choose_dataset(find_workspace(profile="mini"), "photos"))
    assert "\ndata set photos\n" in banner
    assert "flowers" not in banner
    assert "networks pretrained on DRAWINGS" in banner


def test_extensions_ask_for_no_flowers(monkeypatch, place):
    monkeypatch.setenv("KIT_PROFILE", "full")
    for split, count in (("train", 4), ("test", 2)):
        counts = {str(label): count for label in range(10)}
        write_class_folders(place / "data" / "cifar-10-folders" / split, counts)
    data = load_data(
        find_workspace(), size=32, batch_size=4, augment=SmallAugmentation(), dataset="CIFAR10",
        extension=True,
    )  # fmt: skip
    assert data.sizes == {"train": 30, "val": 10, "test": 20}


# What mini takes of a large set


@pytest.fixture
def many(place, monkeypatch) -> Path:
    """Two classes of 40 and 20 pictures, where mini takes at most 10, 5 and 10 of a class."""
    monkeypatch.setattr(sources, "MINI_MOST", {"train": 12, "val": 8, "test": 8})
    return write_class_folders(place / "data" / "many", {"a": 100, "b": 20})


def test_mini_takes_a_part_of_each_class_and_says_so(many, capsys):
    workspace = choose_dataset(find_workspace(profile="mini"), "many")
    capsys.readouterr()
    data = load(workspace)
    told = capsys.readouterr().out
    line = (
        "mini takes 20 of 72 train, 9 of 24 val and 14 of 24 test pictures, by class and by seed 0"
    )
    assert told == f"many: {line}\n"
    assert line in describe_data(data)
    assert data.all_sizes == {"train": 72, "val": 24, "test": 24}
    assert MINI_LEAST == {"train": 10, "val": 5, "test": 10}
    for split, counts in (("train", [10, 10]), ("val", [5, 4]), ("test", [10, 4])):
        assert torch.bincount(data.dataloaders[split].dataset.labels).tolist() == counts
    assert data.note == MINI_WEIGHTS_NOTE
    everything = list_pictures("many", profile="full", data_dir=many.parent, seed=0)
    for split, (paths, _) in everything.splits.items():
        assert set(data.dataloaders[split].dataset.paths) <= set(paths)
    assert not everything.all_sizes


def test_the_part_follows_from_the_seed(many):
    of_seed = [
        fingerprint(list_pictures("many", profile="mini", data_dir=many.parent, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert of_seed[0] == of_seed[1] != of_seed[2]


def test_the_record_and_the_report_tell_of_the_part(many, workspace):
    workspace = dataclasses.replace(workspace, data_dir=many.parent, dataset="many")
    data = load(workspace)
    record = record_of(workspace, data)
    assert record["data"]["all_sizes"] == {"train": 72, "val": 24, "test": 24}
    assert json.loads(json.dumps(record))["data"] == record["data"]
    text = "many, 2 classes: 20 of 72 train, 9 of 24 val, 14 of 24 test"
    assert report._data_set(record["data"]) == text
    damaged = {**record["data"], "all_sizes": "many"}
    assert report._data_set(damaged) == "many, 2 classes: 20 train, 9 val, 14 test"


def record_of(workspace: Workspace, data: Data) -> dict:
    """The record of a network that was trained for an epoch."""
    model = helpers.bn_cnn(data.num_classes, widths=(4,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    run = helpers.train_model(
        model, data, torch.nn.CrossEntropyLoss(), optimizer, num_epochs=1, progress=False
    )
    score = helpers.test(model, data.test)
    recipe = helpers.get_recipe("bn_cnn", "mini")
    return make_record(workspace, recipe, model=model, data=data, run=run, score=score)


def test_a_small_set_is_taken_whole(photos, capsys):
    data = load(choose_dataset(find_workspace(profile="mini"), "photos"))
    assert data.all_sizes == {}
    assert "mini takes" not in capsys.readouterr().out + describe_data(data)


# Copies


def test_copies_are_left_out_and_named(photos):
    shutil.copy(photos / "cat" / "03.png", photos / "cat" / "again.png")
    shutil.copy(photos / "cat" / "04.png", photos / "dog" / "in two classes.png")
    same_size = photos / "cat" / "other.png"
    same_size.write_bytes((photos / "cat" / "05.png").read_bytes()[::-1])
    listing = list_pictures(photos, profile="full", data_dir=photos.parent, seed=0)
    assert listing.left_out == (
        "cat/04.png (the same picture as dog/in two classes.png, of another class)",
        "cat/again.png (the same picture as cat/03.png)",
        "cat/other.png (no picture that can be read, or empty)",
        "dog/in two classes.png (the same picture as cat/04.png, of another class)",
    )
    names = [path.name for paths, _ in listing.splits.values() for path in paths]
    assert len(names) == 30
    assert "03.png" in names


def test_a_copy_in_test_of_a_training_picture_is_left_out(place):
    for split in SPLITS:
        write_class_folders(place / "data" / "mine" / split, {"a": 2, "b": 2})
    shutil.copy(place / "data/mine/train/a/00.png", place / "data/mine/test/a/copy.png")
    listing = list_pictures("mine", profile="full", data_dir=place / "data", seed=0)
    assert listing.left_out == ("test/a/copy.png (the same picture as train/a/00.png)",)
    assert listing.made_splits == ()


def test_a_class_of_copies_only_is_named(place):
    folder = write_class_folders(place / "data" / "mine", {"a": 5, "b": 0})
    shutil.copy(folder / "a" / "00.png", folder / "b" / "00.png")
    with pytest.raises(KitError, match=r"b has no pictures that can be used \(b/00.png: the same"):
        list_pictures("mine", profile="full", data_dir=place / "data", seed=0)


def test_copies_under_other_names_and_of_other_kinds_are_found(place, workspace):
    for split in SPLITS:
        write_class_folders(place / "data" / "mine" / split, {"a": 3, "b": 3})
    workspace = dataclasses.replace(workspace, data_dir=place / "data", dataset="mine")
    assert duplicates_across_splits(load(workspace)) == []
    with Image.open(place / "data/mine/train/a/01.png") as image:
        image.save(place / "data/mine/test/b/copy.bmp")
    with Image.open(place / "data/mine/val/b/02.png") as image:
        image.save(place / "data/mine/val/b/in the same split.bmp")
    data = load(workspace)
    assert data.left_out == ()
    assert duplicates_across_splits(data) == [
        {"Picture": "test: test/b/copy.bmp (b)", "Is the same as": "train: train/a/01.png (a)"}
    ]
    assert "Is the same as" in helpers.format_table(duplicates_across_splits(data))


def test_the_drawings_have_no_copies(workspace):
    assert duplicates_across_splits(load(workspace)) == []


# What the tour says


def test_the_description_names_what_is_uneven_and_what_is_small(photos, capsys):
    (photos / "dog" / "empty.jpg").touch()
    data = load(choose_dataset(find_workspace("s1", profile="mini"), "photos"))
    lines = describe_data(data).splitlines()
    assert lines == [
        f"split    train, val and test made here, class by class, with seed {seed_of('s1')}",
        "train    from 1 (ox) to 12 (cat) pictures, 12.0 times as many",
        "val      from 1 (dog) to 4 (cat) pictures, 4.0 times as many",
        "test     from 1 (dog) to 4 (cat) pictures, 4.0 times as many",
        "small    fewer than 10 training pictures: ox (1), dog (6)",
        "files    1 left out, named above",
    ]
    assert "- dog/empty.jpg (no picture that can be read, or empty)" in capsys.readouterr().out


def test_the_description_of_the_drawings_is_calm(workspace):
    assert describe_data(load(workspace)).splitlines() == [
        "split    train, val and test as the data set has them",
        "train    every class has 10 pictures",
        "val      every class has 10 pictures",
        "test     every class has 40 pictures",
        "files    none is left out",
    ]


def test_the_description_of_a_set_with_a_test_split_of_its_own(place, workspace):
    write_pets(place / "data")
    workspace = dataclasses.replace(workspace, data_dir=place / "data", dataset="OxfordIIITPet")
    lines = describe_data(load(workspace)).splitlines()
    assert lines[:2] == [
        "split    test as the data set has it",
        "split    train and val made here, class by class, with seed 0",
    ]


def test_a_grader_still_reads_the_sizes_that_are_printed(photos):
    """The lines of the description begin as those of the sizes do, and are not taken for them."""
    data = load(choose_dataset(find_workspace(profile="mini"), "photos"))
    assert printed_by_students._SIZE.findall(describe_data(data)) == []


# Figures and numbers of few classes, and of long names


@pytest.fixture
def odd(place, workspace) -> Data:
    """Three classes, one of three pictures, with names that are long or look like formulas."""
    counts = {LONG: 20, "costs $5 or $6": 8, "ox": 3}
    write_class_folders(place / "data" / "odd", counts)
    return load(dataclasses.replace(workspace, data_dir=place / "data", dataset="odd"))


def drawn_texts(figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))]


def test_figures_of_few_classes(odd):
    texts = drawn_texts(helpers.plot_class_balance(odd))
    assert r"costs \$5 or \$6" in texts  # else it would be a formula
    assert f"{LONG[:23]}…" in texts
    samples = helpers.show_samples(odd)
    assert "a kind of bird\nwhose name is far …" in drawn_texts(samples)
    assert len([axis for axis in samples.axes if axis.images]) == 3  # the smallest class has one
    predictions = torch.zeros(odd.sizes["test"], dtype=torch.int64)
    score = score_of(odd, predictions)
    assert odd.sizes["test"] < 12
    figure = helpers.show_predictions(score, odd)
    drawn_texts(figure)
    assert len([axis for axis in figure.axes if axis.images]) == odd.sizes["test"]


def score_of(data: Data, predictions: torch.Tensor) -> Score:
    labels = data.test.dataset.labels
    hits = (predictions == labels).double()
    return Score(
        correct=int(hits.sum()), total=len(labels), loss=1.0, top5=1.0,
        per_class=torch.ones(data.num_classes), labels=labels, predictions=predictions,
        probabilities=torch.eye(data.num_classes)[predictions], ids=data.test.dataset.ids,
        seconds=0.1,
    )  # fmt: skip


def test_top_5_of_few_classes_is_not_told(odd):
    score = score_of(odd, torch.zeros(odd.sizes["test"], dtype=torch.int64))
    assert "top-5" not in str(score)
    assert "top-5 100.0%" in str(dataclasses.replace(score, per_class=torch.ones(6)))


# The commands follow


def test_train_follows_the_choice(place, photos, monkeypatch):
    monkeypatch.setenv("KIT_PROFILE", "mini")
    choose_dataset(find_workspace(), "photos")
    arguments = ["train", "--method", "bn_cnn", "--epochs", "1", "--device", "cpu"]
    assert cli.main(arguments) == 0
    record = place / "results" / "mini" / "bn_cnn" / "record.json"
    assert read_json(record)["data"]["name"] == "photos"
    write_class_folders(place / "data" / "others", {"a": 5, "b": 5})
    assert cli.main([*arguments, "--dataset", "others"]) == 0
    assert read_json(record)["data"]["name"] == "others"
    assert kept(place) == {"dataset": "photos"}


def test_check_looks_at_the_choice(place, photos, capsys):
    (photos / "ox" / "empty.jpg").touch()
    choose_dataset(find_workspace(profile="mini"), "photos")
    capsys.readouterr()
    cli.main(["check"])
    said = capsys.readouterr().out
    assert "[ok]      the notebooks use the data set photos" in said
    assert "[problem] left out of photos: ox/empty.jpg" in said
    assert "[ok]      photos: 31 pictures of 3 classes can be used" in said
    (place / "results" / "assignment.json").write_text("[]", encoding="utf-8")
    cli.main(["check"])
    assert "[problem] " + str(place / "results" / "assignment.json") in capsys.readouterr().out


def test_a_hand_in_is_about_the_choice(photos):
    workspace = choose_dataset(find_workspace("s1", profile="mini"), "photos")
    work = submit.Work(workspace)
    assert work._data_set == ("photos", load(workspace).fingerprint)
    shutil.rmtree(photos)
    with pytest.raises(KitError, match="no data set 'photos'"):
        submit.Work(workspace)._data_set  # noqa: B018


def test_a_run_without_notebook_01_looks_for_the_pictures_first(place, photos, monkeypatch):
    monkeypatch.setenv("KIT_PROFILE", "mini")
    choose_dataset(find_workspace(), "photos")
    record = place / "results" / "mini" / "bn_cnn" / "record.json"
    record.parent.mkdir(parents=True)
    record.touch()
    shutil.rmtree(photos)
    with pytest.raises(KitError, match="no data set 'photos'"):
        runner.run_notebooks(names=["02"])
    assert record.exists()  # nothing was moved
    runner.check_pictures(find_workspace(), [Path("01_dataset_tour.ipynb")])
    runner.check_pictures(find_workspace(), [Path("07_cnn_vs_transfer_cifar100.ipynb")])


def test_the_report_of_other_pictures_says_nothing_of_flowers(photos):
    workspace = choose_dataset(find_workspace(profile="mini"), "photos")
    page = BeautifulSoup(
        report.write_report(workspace, []).read_text(encoding="utf-8"), "html.parser"
    )
    notice = page.find(class_="notice").text
    assert MINI_WEIGHTS_NOTE in notice
    assert "flowers" not in notice
    plain = choose_dataset(workspace, "Flowers102")
    page = BeautifulSoup(report.write_report(plain, []).read_text(encoding="utf-8"), "html.parser")
    assert "say nothing of real flowers" in page.find(class_="notice").text


# The one line of notebook 01, and all six notebooks after it


def draw(path: Path, label: int, number: int) -> Path:
    """A picture of stripes, whose width, direction and colour tell the class; 90 to 150 pixels."""
    rng = np.random.default_rng(1000 * label + number)
    height, width = rng.integers(90, 150, 2)
    rows, columns = np.mgrid[:height, :width]
    angle = np.pi * (label % 6) / 6 + rng.normal(0, 0.08)
    waves = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) / (2 + label % 5) + number)
    color = np.random.default_rng(label).integers(60, 196, 3) + rng.normal(0, 15, 3)
    pixels = color + 50 * waves[..., None] + rng.normal(0, 12, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def write_photos(place: Path) -> tuple[str, int, str]:
    """Three classes of 5, 17 and 40 pictures, one more that is damaged, and three copies."""
    folder = place / "data" / "my photos"
    for label, (name, count) in enumerate((("ant", 5), (LONG, 17), ("costs $5 or $6", 40))):
        for number in range(count):
            draw(folder / name / f"{number}.{('jpg', 'png')[number % 2]}", label, number)
    whole = (folder / "ant" / "0.jpg").read_bytes()
    (folder / "ant" / "damaged.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folder / LONG / "0.jpg", folder / LONG / "the same again.jpg")
    draw(folder / "ant" / "in two classes.png", 7, 7)
    shutil.copy(folder / "ant" / "in two classes.png", folder / LONG / "in two classes.png")
    return (
        "my photos",
        3,
        "train    from 3 (ant) to 24 (costs $5 or $6) pictures, 8.0 times as many",
    )


def write_many_pets(place: Path) -> tuple[str, int, str]:
    """OxfordIIITPet's 37 classes in its own files, with six pictures of each in both parts."""
    names = [f"breed_{chr(97 + number % 26)}{number}" for number in range(37)]
    write_pets(place / "data", names, count=6, write=draw)
    return "OxfordIIITPet", 37, "train    every class has 5 pictures"


def printed(results: Path, number: str) -> str:
    (path,) = (results / "notebooks").glob(f"{number}_*.ipynb")
    return notebooks.shown_text(nbformat.read(path, as_version=4))


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_photos, write_many_pets])
def test_six_notebooks_follow_one_line(place, monkeypatch, write: Callable):
    name, classes, told = write(place)
    shutil.copytree(NOTEBOOKS, place / "notebooks")
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", place / "notebooks")
    tour = place / "notebooks" / "01_dataset_tour.ipynb"
    notebook = nbformat.read(tour, as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.source == CHOICE)
    cell.source = CHOICE.replace("Flowers102", name)
    nbformat.write(notebook, tour)

    page = runner.run_notebooks(profile="mini").read_text(encoding="utf-8")
    results = place / "results" / "mini"
    records = [read_json(results / method / "record.json") for method in METHODS]
    data = records[0]["data"]
    assert all(record["data"] == data for record in records)
    assert (data["name"], data["classes"], data["note"]) == (name, classes, MINI_WEIGHTS_NOTE)
    listing = list_pictures(name, profile="mini", data_dir=place / "data", seed=0)
    sizes = {split: len(paths) for split, (paths, _) in listing.splits.items()}
    assert data["sizes"] == sizes
    assert data["fingerprint"] == fingerprint(listing)
    assert {record["test"]["total"] for record in records} == {sizes["test"]}
    assert data["left_out"] == len(listing.left_out)

    assert told in printed(results, "01")
    for line in listing.left_out:
        assert line in printed(results, "01")
    for number, record in zip(("02", "03", "04", "05"), records, strict=True):
        assert f"data set {name}" in printed(results, number)
        test = record["test"]
        assert f"({test['correct']:,}/{test['total']:,})" in printed(results, number)
    comparison = printed(results, "06")
    assert "missing: nothing" in comparison
    assert MINI_WEIGHTS_NOTE in comparison
    for record, title in zip(records, METHODS.values(), strict=True):
        row = next(line for line in comparison.splitlines() if line.startswith(title + " "))
        assert f"{record['test']['accuracy']:.1%}" in row

    soup = BeautifulSoup(page, "html.parser")
    facts = dict(zip((one.text for one in soup.find_all("dt")),
                     (one.text for one in soup.find_all("dd")), strict=True))  # fmt: skip
    shown = ", ".join(
        f"{size:,}{f' of {listing.all_sizes[split]}' if listing.all_sizes else ''} {split}"
        for split, size in sizes.items()
    )
    assert facts["Data set"].startswith(f"{name}, {classes} classes: {shown}")
    assert "flowers" not in soup.find(class_="notice").text
    assert not soup.find(class_="problem")
