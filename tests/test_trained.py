"""Trained networks read back: the ones that were tested or none, and what they say of pictures."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image
from tiny import write_class_folders
from torch import nn

from helpers import (
    METHODS,
    bn_cnn,
    classify_photo,
    compare_grad_cam,
    get_recipe,
    load_data,
    load_results,
    load_trained,
    save_result,
    test,
)
from helpers.errors import KitError
from helpers.lib.figures import VERMILLION
from helpers.lib.files import read_json, sha256, write_json
from helpers.trained import NETWORKS, ask, load_network
from helpers.training import TrainingRun

EPOCH = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.4, "val_loss": 1.1, "val_accuracy": 0.5}
RUN = TrainingRun(
    history=[EPOCH],
    first_loss=1.1,
    best_epoch=1,
    best_val_accuracy=0.5,
    num_epochs=1,
    seconds={"training": 1.0, "loading": 0.1, "evaluation": 0.1, "features": 0.0},
)


def save(workspace, data, model, method: str = "bn_cnn") -> Path:
    recipe = dataclasses.replace(get_recipe(method, "mini"), size=data.size)
    score = test(model, data.test)
    return save_result(workspace, recipe, model=model, data=data, run=RUN, score=score)


@pytest.fixture
def model() -> nn.Module:
    """The network of notebook 02 for three classes, never trained."""
    torch.manual_seed(0)
    return bn_cnn(3)


@pytest.fixture
def networks(workspace, data, model):
    """The one network of the results, read back."""
    save(workspace, data, model)
    return load_trained(workspace, load_results(workspace, data), data)


def test_what_is_read_back_says_what_was_tested(data, model, networks):
    (network,) = networks
    score, samples = test(model, data.test), data.test.dataset
    assert network.title == "BN-CNN"
    for index in (0, 5, 11):
        answer = ask(network, samples.paths[index], data)
        assert torch.equal(answer.picture, samples.transform(samples.picture(index)))
        assert torch.allclose(answer.probabilities, score.probabilities[index], atol=1e-5)
        assert answer.probabilities.sum() == pytest.approx(1)
        assert answer.heat.shape == (data.size, data.size)
        assert answer.heat.min() >= 0
        assert answer.heat.max() <= 1


def test_reading_back_draws_no_random_number_and_leaves_nothing_to_train(
    workspace, data, model, capsys
):
    save(workspace, data, model)
    results = load_results(workspace, data)
    state, _ = torch.get_rng_state(), capsys.readouterr()
    (network,) = load_trained(workspace, results, data)
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr().out == ""
    assert not network.model.training
    assert not any(parameter.requires_grad for parameter in network.model.parameters())
    assert network.model.weights_kind == results[0].record["weights"]["kind"]


def test_pictures_are_scaled_to_what_each_network_was_trained_on(
    workspace, data, model, picture_folder
):
    """As on the full profile, where that of notebook 02 sees smaller pictures than the others."""
    save(workspace, data, model)
    larger = load_data(
        workspace, size=32, batch_size=8, augment=get_recipe("bn_cnn", "mini").augment,
        dataset=picture_folder,
    )  # fmt: skip
    (network,) = load_trained(workspace, load_results(workspace, larger), larger)
    answer = ask(network, larger.test.dataset.paths[3], larger)
    assert torch.equal(answer.picture, data.test.dataset.transform(data.test.dataset.picture(3)))


# What is refused


def left_out(workspace, data, capsys) -> str:
    """What is printed of the one result, whose network must not be had."""
    results = load_results(workspace, data)
    capsys.readouterr()
    assert load_trained(workspace, results, data) == []
    (line,) = capsys.readouterr().out.splitlines()
    return line


def rewrite(folder: Path, content: object) -> None:
    """Put other weights there, as somebody does who knows of the hash."""
    torch.save(content, folder / "weights.pt")
    record = read_json(folder / "record.json")
    record["files"]["weights.pt"] = sha256(folder / "weights.pt")
    write_json(folder / "record.json", record)


def test_missing_weights_are_named_and_the_others_are_there(workspace, data, model, capsys):
    save(workspace, data, model)
    folder = workspace.results_dir / "resnet18_finetune"
    shutil.copytree(workspace.results_dir / "bn_cnn", folder)
    record = read_json(folder / "record.json")
    write_json(folder / "record.json", {**record, "method": "resnet18_finetune"})
    (folder / "weights.pt").unlink()
    (network,) = load_trained(workspace, load_results(workspace, data), data)
    assert network.title == "BN-CNN"
    said = capsys.readouterr().out
    assert "left out: ResNet18 fine-tuned, for " in said
    assert "weights.pt is missing: run its notebook again" in said


def test_weights_changed_after_they_were_recorded_are_refused(workspace, data, model, capsys):
    path = save(workspace, data, model) / "weights.pt"
    torch.save(bn_cnn(3).state_dict(), path)
    assert "was changed after it was recorded" in left_out(workspace, data, capsys)


@pytest.mark.parametrize(
    "content",
    [
        bn_cnn(3, widths=(8, 16)).state_dict(),
        bn_cnn(4).state_dict(),
        {"0.weight": torch.zeros(32, 3, 3, 3)},
        {"not": Path("weights")},
        [],
    ],
    ids=["widths", "classes", "a part", "no weights", "a list"],
)
def test_weights_that_do_not_fit_are_refused(workspace, data, model, capsys, content):
    rewrite(save(workspace, data, model), content)
    said = left_out(workspace, data, capsys)
    assert "weights.pt is of another network than bn_cnn(3) makes: run its notebook again" in said


def test_a_network_of_other_pictures_is_refused(workspace, data, model, tmp_path):
    save(workspace, data, model)
    (result,) = load_results(workspace)
    other = dataclasses.replace(data, fingerprint="e" * 64)
    with pytest.raises(KitError, match="about other pictures"):
        load_network(workspace, result, other)


# Where they look


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"resnet18_finetune"}))
def test_the_layers_that_are_asked_are_there_and_as_wide_as_they_are_said_to_be(method):
    """On the meta device, where a network has shapes and no numbers; both ResNet18s are one."""
    assert NETWORKS["resnet18_finetune"] is NETWORKS["resnet18_extractor"]
    build, layers = NETWORKS[method]
    shapes = {}
    with torch.device("meta"):
        model = build(12).eval()
        for name, _ in layers:
            model.get_submodule(name).register_forward_hook(
                lambda _layer, _inputs, output, name=name: shapes.update({name: output.shape})
            )
        for profile in ("mini", "full"):
            size = get_recipe(method, profile).size
            shapes.clear()
            model(torch.zeros(1, 3, size, size))
            sides = {name: shape[-1] for name, shape in shapes.items()}
            assert sides == {name: size // pixels for name, pixels in layers}
            assert max(sides.values()) >= 4


def test_the_same_pictures_under_each_network(data, networks):
    (network,) = networks
    figure = compare_grad_cam([network, network], data, count=4)
    assert len(figure.axes) == 4 * 3
    marks = []
    for row in range(4):
        shown, *answers = figure.axes[3 * row : 3 * row + 3]
        for axis in answers:
            wrong = axis.get_title().startswith("\N{BALLOT X}")
            assert (shown.get_title() in axis.get_title()) != wrong
            assert (axis.title.get_color() == VERMILLION) == wrong
            marks.append(wrong)
    assert marks == sorted(marks, reverse=True)  # from wrong to right
    assert figure.axes[-1].get_xlabel() == "BN-CNN"


def test_without_networks_the_figures_say_so(data):
    for figure in (compare_grad_cam([], data), classify_photo([], "", data)):
        (text,) = figure.axes[0].texts
        assert "run notebooks 02 to 05" in text.get_text()


# A photo of one's own


def chances_of(figure) -> list[float]:
    """The probabilities that are written at the bars of the first network, in percent."""
    return [float(text.get_text().rstrip("%")) for text in figure.axes[2].texts]


def test_three_classes_are_all_named(data, networks, capsys):
    figure = classify_photo(networks * 2, "", data)
    assert len(figure.axes) == 6
    chances = chances_of(figure)
    assert len(chances) == 3
    assert sum(chances) == pytest.approx(100, abs=0.2)
    assert chances == sorted(chances, reverse=True)
    names = {label.get_text() for label in figure.axes[2].get_yticklabels()}
    assert names == {"red", "green", "blue"}
    assert "no photo named, so a test picture: " in capsys.readouterr().out


def test_of_many_classes_five_are_named_and_long_names_are_cut(workspace, tmp_path):
    names = {f"${letter}^$ {letter * 60}": 5 for letter in "abcdefg"}
    folder = write_class_folders(tmp_path / "pictures", names)
    augment = get_recipe("bn_cnn", "mini").augment
    data = load_data(workspace, size=16, batch_size=8, augment=augment, dataset=folder)
    save(workspace, data, bn_cnn(7))
    networks = load_trained(workspace, load_results(workspace, data), data)
    figure = classify_photo(networks, "", data)
    assert len(chances_of(figure)) == 5
    assert sum(chances_of(figure)) < 100
    labels = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert max(map(len, labels)) <= 26
    assert all(label.count(r"\$") == 2 for label in labels)  # signs, and no formula
    figure.canvas.draw()  # it has room for what it names
    assert compare_grad_cam(networks, data).axes


def test_a_photo_taken_with_the_camera_held_sideways_is_upright(data, networks, tmp_path, capsys):
    upright = Image.new("RGB", (60, 40), (200, 30, 30))
    upright.paste((30, 30, 200), (0, 0, 60, 20))  # blue above, red below
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by a quarter, clockwise
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    sideways.save(tmp_path / "sideways.png", exif=exif)
    answers = [ask(networks[0], tmp_path / f"{n}.png", data) for n in ("upright", "sideways")]
    assert torch.allclose(*(answer.picture.float() for answer in answers), atol=2)
    assert answers[1].picture[2, 0].min() > answers[1].picture[0, 0].max()  # blue is above
    assert torch.allclose(*(answer.probabilities for answer in answers), atol=0.02)
    classify_photo(networks, str(tmp_path / "sideways.png"), data)
    assert "sideways.png: whatever it shows, the answer is one of 3 classes" in (
        capsys.readouterr().out
    )


def test_what_is_no_photo_is_refused_in_one_line(data, networks, tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture", encoding="utf-8")
    (tmp_path / "phone.heic").write_bytes(b"something")
    (tmp_path / "half.png").write_bytes(data.test.dataset.paths[0].read_bytes()[:200])
    (tmp_path / "folder.png").mkdir()
    messages = {
        "text.jpg": r"text\.jpg cannot be read \(no picture that can be read, or empty\): save it",
        "phone.heic": r"phone\.heic is of a kind that is not read on every machine: save it",
        "half.png": r"half\.png cannot be read \(.+\): save it",
        "folder.png": r"folder\.png cannot be read \(.+\): save it",
        "none.jpg": r"there is no file .*none\.jpg",
    }
    for name, message in messages.items():
        with pytest.raises(KitError, match=message) as caught:
            classify_photo(networks, tmp_path / name, data)
        assert "\n" not in str(caught.value)
