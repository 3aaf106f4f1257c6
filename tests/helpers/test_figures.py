"""Figures: every one can be drawn, says when its pictures are drawings, and changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

import helpers
from helpers import METHODS, train_model
from helpers.lib import figures
from helpers.lib.figures import jpeg_of, png_of, shows_pictures
from helpers.network_plots import neighbours_alike, principal_components
from helpers.pictures import denormalize
from helpers.scores import accuracy_interval
from tools.results import made_result

NOTE = "drawn flowers (mini profile), not photographs"


@pytest.fixture
def results():
    hits = torch.rand(4, 12, generator=torch.Generator().manual_seed(1)) < 0.7
    pairs = enumerate(zip(METHODS, hits, strict=True), start=1)
    return [
        made_result(method, row.tolist(), classes=4, note=NOTE, place=place)
        for place, (method, row) in pairs
    ]


def run_of(model, data):
    torch.manual_seed(0)  # for dropout
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return train_model(model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=2, progress=False)


def texts_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


def check(figure: Figure) -> None:
    """It is a figure, it can be drawn, and pyplot will not show it a second time."""
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert plt.get_fignums() == []


OF_DATA = {
    "show_samples": lambda data, cnn: helpers.show_samples(data),
    "plot_class_balance": lambda data, cnn: helpers.plot_class_balance(data),
    "plot_picture_sizes": lambda data, cnn: helpers.plot_picture_sizes(data),
    "show_predictions": lambda data, cnn: helpers.show_predictions(helpers.test(cnn, data), data),
}
OF_NETWORKS = {
    "imshow": lambda data, cnn: helpers.imshow(next(iter(data.val))[0][:5], note=data.note),
    "plot_history": lambda data, cnn: helpers.plot_history(run_of(cnn, data), note=data.note),
    **{
        f"plot_history {x}": lambda data, cnn, x=x: helpers.plot_history(
            {"a": run_of(cnn, data), "b": run_of(cnn, data)}, x=x, note=data.note
        )
        for x in ("epoch", "seconds", "fraction")
    },
    "plot_features": lambda data, cnn: helpers.plot_features(
        {"a network": helpers.compute_features(cnn, cnn[-1], data)}, note=data.note
    ),
    "plot_accuracy_against_count": lambda data, cnn: helpers.plot_accuracy_against_count(
        {1: [0.2, 0.4], 5: [0.7, 0.9]}, chance=0.1, note=data.note
    ),
    "plot_accuracy_against_count of several": lambda data, cnn: helpers.plot_accuracy_against_count(
        {"a": {1: 0.3, 5: 0.7}, "b": {1: 0.2, 5: 0.8}}, note=data.note
    ),
    "plot_batchnorm": lambda data, cnn: helpers.plot_batchnorm(
        cnn, next(iter(data.train))[0], note=data.note
    ),
    "show_feature_maps": lambda data, cnn: helpers.show_feature_maps(
        cnn, {"block 1": cnn[2], "block 2": cnn[6]}, next(iter(data.val))[0][0], note=data.note
    ),
    "plot_layer_changes": lambda data, cnn: helpers.plot_layer_changes(
        {name: value + 0.1 for name, value in cnn.state_dict().items()}, cnn, note=data.note
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*OF_DATA, *OF_NETWORKS])
def test_figures_can_be_drawn_and_call_drawings_drawings(data, cnn, name):
    draw = (OF_DATA | OF_NETWORKS)[name]
    plain, noted = (draw(dataclasses.replace(data, note=note), cnn) for note in ("", NOTE))
    check(plain)
    check(noted)
    assert NOTE not in texts_of(plain) and NOTE in texts_of(noted)


def test_accuracy_against_count_shows_the_mean_of_the_draws_and_guessing():
    figure = helpers.plot_accuracy_against_count({1: [0.2, 0.4], 5: [0.7, 0.9]}, chance=0.1)
    figure.draw_without_rendering()
    texts = texts_of(figure).splitlines()
    assert {"30%", "80%", "1", "5", "guessing", "10%"} <= set(texts)
    assert "mean of 2 draws of the pictures, and lowest to highest" in texts
    single = helpers.plot_accuracy_against_count({1: 0.3, 5: 0.8})
    assert "draws" not in texts_of(single) and "guessing" not in texts_of(single)


@pytest.mark.parametrize("name", OF_DATA)
def test_figures_of_data_take_plain_loaders(data, cnn, name):
    loaders = {
        split: DataLoader(one.dataset, batch_size=8) for split, one in data.dataloaders.items()
    }
    if name == "show_predictions":
        figure = helpers.show_predictions(helpers.test(cnn, loaders), loaders)
    else:
        figure = OF_DATA[name](loaders, cnn)
    check(figure)
    assert texts_of(figure)


@pytest.mark.parametrize("name", ["plot_batchnorm", "show_feature_maps", "draw_network"])
def test_figures_of_networks_leave_no_trace(data, cnn, name):
    before, modes = copy.deepcopy(cnn.state_dict()), [m.training for m in cnn.modules()]
    check(helpers.draw_network(cnn) if name == "draw_network" else OF_NETWORKS[name](data, cnn))
    assert all(torch.equal(value, before[key]) for key, value in cnn.state_dict().items())
    assert [m.training for m in cnn.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in cnn.modules())


RESULTS = {
    "bars": lambda results: helpers.plot_results(results),
    "costs": lambda results: helpers.plot_results(results, x="training_seconds"),
    "own": lambda results: helpers.plot_results(results, x={"a": [1, 2, 3, 4], "b": [4, 3, 2, 1]}),
}


@pytest.mark.parametrize("name", RESULTS)
def test_figures_of_results(results, name):
    figure = RESULTS[name](results)
    check(figure)
    text = texts_of(figure)
    assert NOTE in text and all(result.title in text for result in results)
    empty = RESULTS[name]([])
    check(empty)
    assert "no results yet: run notebooks 02 to 05 first" in texts_of(empty)
    assert len(figure.axes) == (2 if name == "own" else 1)


def test_bars_are_as_long_as_the_accuracies(results):
    figure = helpers.plot_results(results)
    lengths = [bar.get_width() for bar in figure.axes[0].patches]
    assert lengths == [result.record["test"]["accuracy"] for result in results]


def test_accuracy_over_time_counts_features_and_never_falls(data, cnn):
    run = run_of(cnn, data)
    run = dataclasses.replace(run, seconds={**run.seconds, "features": 100.0}, history=[
        {**row, "val_accuracy": value} for row, value in zip(run.history, (0.8, 0.5), strict=True)
    ])  # fmt: skip
    (line,) = helpers.plot_history({"a": run}, x="seconds").axes[0].lines
    assert line.get_ydata().tolist() == [0.8, 0.8]
    assert line.get_xdata()[0] > 100


def test_confused_pictures_are_those_of_the_result(data, cnn):
    score = helpers.test(cnn, data)
    right = made_result("bn_cnn", [True] * 12, classes=3, ids=score.ids)
    result = dataclasses.replace(right, labels=score.labels, predictions=score.labels.clone(),
                                 class_names=data.class_names)  # fmt: skip
    assert "no test picture was mistaken" in texts_of(helpers.show_confused([result], data))
    result.predictions[2] = (result.labels[2] + 1) % 3
    figure = helpers.show_confused([result], data)
    check(figure)
    left, right = figure.axes[:2]
    label, guess = (int(part[2]) for part in (result.labels, result.predictions))
    assert left.get_title() == data.class_names[label]
    assert right.get_title() == f"said once:\n{data.class_names[guess]}"
    shown = torch.as_tensor(np.array(left.images[0].get_array())).float()
    mistaken = data.test.dataset.picture(2).float()
    assert shown.mean((0, 1)).argmax() == mistaken.mean((1, 2)).argmax()
    assert "these pictures are not here" in texts_of(
        helpers.show_confused([dataclasses.replace(result, ids=["x"] * 12)], data)
    )


def test_the_surest_mistakes_come_first(data, cnn):
    score = helpers.test(cnn, data)
    right = made_result("bn_cnn", [True] * 12, classes=3, ids=score.ids)
    result = dataclasses.replace(right, labels=score.labels, predictions=score.labels.clone(),
                                 class_names=data.class_names)  # fmt: skip
    show = helpers.show_confident_mistakes
    assert "no results yet" in texts_of(show(None, data))
    assert "no test picture was mistaken" in texts_of(show(result, data))
    for index in (2, 7, 9):
        result.predictions[index] = (result.labels[index] + 1) % 3
    figure = show(result, data, count=2)  # the surer, the higher the index in a made result
    check(figure)
    assert [axis.get_title() for axis in figure.axes if axis.images] == [
        f"{data.class_names[result.predictions[index]]}: {result.probabilities[index]:.1%}\n"
        f"not {data.class_names[result.labels[index]]}"
        for index in (9, 7)
    ]
    other = dataclasses.replace(result, ids=["x"] * 12)
    assert "these pictures are not here" in texts_of(show(other, data))


@pytest.mark.parametrize("classes", [0, 2, 15, 16, 102])
def test_a_confusion_matrix_has_numbers_and_names_if_they_can_be_read(classes):
    names = [f"$ class {label} with | a <b>long</b> name" for label in range(classes)]
    matrix = torch.diag(torch.arange(classes))  # the first class has no picture
    figure = helpers.plot_confusion(matrix, names, note=NOTE)
    check(figure)
    texts = texts_of(figure)
    assert NOTE in texts and ("no results yet" in texts) == (classes == 0)
    assert ("class 1 with" in texts) == (2 <= classes <= 15)
    assert len(figure.axes[0].texts) == (classes - 1 if 2 <= classes <= 15 else classes == 0)
    assert not shows_pictures(figure)


def test_a_reliability_diagram_leaves_out_empty_bins():
    nan = float("nan")
    bins = torch.tensor([0.3, nan, 0.9]), torch.tensor([0.5, nan, 1.0]), torch.tensor([4, 0, 9])
    figure = helpers.plot_calibration({"before": bins, "after": bins}, note=NOTE)
    check(figure)
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 1 + 2 * 2
    assert figure.axes[0].lines[1].get_ydata()[0] == pytest.approx(accuracy_interval(2, 4)[0])
    assert "no network to ask" in texts_of(helpers.plot_calibration({}))


def test_imshow_undoes_the_normalisation_and_shows_grey_pictures_too(data):
    image = data.val.dataset[0][0]
    figure = helpers.imshow(image, "a title")
    check(figure)
    shown = torch.as_tensor(np.array(figure.axes[0].images[0].get_array()))
    assert torch.allclose(shown, denormalize(image).permute(1, 2, 0), atol=1e-6)
    assert "a title" in texts_of(figure)
    check(helpers.imshow(torch.rand(2, 1, 9, 9), normalization=None))
    check(helpers.imshow([torch.randint(256, (3, 300, 400), dtype=torch.uint8)]))


def test_a_note_is_not_wider_than_its_figure(data):
    figure = helpers.imshow(data.val.dataset[0][0], "a title", note=NOTE)
    figure.canvas.draw()
    (note,) = (text for text in figure.texts if "drawn" in text.get_text())
    box = note.get_window_extent()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width


def test_epochs_are_whole_and_accuracies_in_percent(data, cnn):
    figure = helpers.plot_history(run_of(cnn, data), note=data.note)
    figure.canvas.draw()
    loss, accuracy = figure.axes
    epochs = [text.get_text() for axis in (loss, accuracy) for text in axis.get_xticklabels()]
    assert all("." not in text for text in epochs)
    assert all(text.get_text().endswith("%") for text in accuracy.get_yticklabels())
    assert figure.legends and not loss.get_legend() and not accuracy.get_legend()  # off the data


def test_samples_show_pictures_of_each_class_under_its_name(data):
    figure = helpers.show_samples(data, count=6)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["blue", "blue", "green", "green", "red", "red"]
    for axis, channel in zip(figure.axes, (2, 2, 1, 1, 0, 0), strict=True):
        assert np.array(axis.images[0].get_array()).mean((0, 1)).argmax() == channel


def test_the_schedule_that_is_drawn_is_the_one_that_is_followed():
    parameters = [[nn.Parameter(torch.zeros(1))] for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": p, "lr": lr} for p, lr in zip(parameters, (0.1, 0.01), strict=True)]
    )
    schedule = lr_scheduler.OneCycleLR(optimizer, [0.1, 0.01], total_steps=8)
    figure = helpers.plot_schedule(schedule, num_epochs=2, batches=4, names=("head", "rest"))
    check(figure)
    drawn = np.array([line.get_ydata() for line in figure.axes[0].lines]).T
    followed = []
    for _ in range(8):
        followed.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if len(followed) < 8:
            schedule.step()
    assert np.allclose(drawn, followed)


def test_letters_that_no_font_has_are_told_once_and_without_warnings(monkeypatch, capsys, recwarn):
    monkeypatch.setattr(figures, "_fonts", lambda: ("DejaVu Sans",))  # it has no Chinese
    figures._tell_of_missing_letters.cache_clear()
    for _ in range(2):
        png_of(helpers.imshow(torch.zeros(3, 20, 20), "\N{CJK UNIFIED IDEOGRAPH-82B1}"))
    said = capsys.readouterr().out
    assert said.count("NOTE: no installed font has some letters of these names") == 1
    assert not [one for one in recwarn if "Glyph" in str(one.message)]


def test_a_font_that_is_installed_for_another_script_is_used(monkeypatch):
    monkeypatch.setattr(figures, "OTHER_SCRIPTS", ("No Such Font", "DejaVu Serif"))
    figures._fonts.cache_clear()
    figure = helpers.imshow(torch.zeros(3, 20, 20), "rose")
    png_of(figure)
    figures._fonts.cache_clear()
    assert figure.axes[0].title.get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]


def test_a_notebook_shows_pictures_in_full_colour_and_lines_as_small_pngs(data):
    pictures, lines = helpers.show_samples(data), helpers.plot_class_balance(data)
    assert callable(pictures._ipython_display_)
    assert shows_pictures(pictures) and not shows_pictures(lines)
    shown = Image.open(io.BytesIO(jpeg_of(pictures)))
    assert (shown.format, shown.mode) == ("JPEG", "RGB")
    drawn = Image.open(io.BytesIO(png_of(lines)))
    assert (drawn.format, drawn.mode) == ("PNG", "P")
    assert Image.open(io.BytesIO(png_of(pictures))).mode == "RGB"  # a palette shows in a sky


# Vectors in two dimensions


def vectors(count: int = 20, width: int = 6) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def test_it_is_the_view_with_the_most_variance():
    every = vectors()
    places, held = principal_components(every)
    total = every.var(dim=0).sum()
    assert float(places.var(dim=0).sum() / total) == pytest.approx(held, abs=1e-5)
    assert held > float(every[:, :2].var(dim=0).sum() / total)


def test_neighbours():
    line = torch.tensor([[0.0], [1.0], [10.0], [11.0], [12.0]])
    assert neighbours_alike(line, torch.tensor([0, 0, 1, 1, 1])) == 1
    assert neighbours_alike(line, torch.tensor([0, 1, 2, 0, 1])) == 0
    assert neighbours_alike(line, torch.tensor([0, 0, 1, 1, 0])) == pytest.approx(4 / 5)
