"""Figures: every one can be drawn, says when its pictures are drawings, and changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from made_up import write_result
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torch.optim import lr_scheduler

import helpers
from helpers import METHODS, load_results, test, train_model
from helpers.data import denormalize
from helpers.lib.display import show_small_figures
from helpers.lib.figures import SmallFigure
from helpers.plots import learning_rates

NOTE = "drawn flowers (mini profile), not photographs"


@pytest.fixture
def results(workspace):
    for method in METHODS:
        write_result(workspace.results_dir, method, student=None)
    return load_results(workspace)


def run_of(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    criterion = nn.CrossEntropyLoss()
    return train_model(model, data, criterion, optimizer, num_epochs=2, progress=False)


def inputs_of(layer, model, data):
    with helpers.watch_inputs(layer) as seen:
        run_of(model, data)
    return seen


def texts_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


def check(figure: Figure) -> None:
    """It is a figure, it can be drawn, and pyplot will not show it a second time."""
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert plt.get_fignums() == []


PICTURES = {
    "imshow one": lambda data, cnn: helpers.imshow(next(iter(data.val))[0][0], "a title"),
    "imshow several": lambda data, cnn: helpers.imshow(next(iter(data.val))[0][:5], note=data.note),
    "show_samples": lambda data, cnn: helpers.show_samples(data),
    "show_augmentation": lambda data, cnn: helpers.show_augmentation(data, 0),
    "plot_class_balance": lambda data, cnn: helpers.plot_class_balance(data),
    "plot_picture_sizes": lambda data, cnn: helpers.plot_picture_sizes(
        helpers.picture_sizes(data), data.size, note=data.note
    ),
    "plot_history": lambda data, cnn: helpers.plot_history(run_of(cnn, data), note=data.note),
    "plot_history of several": lambda data, cnn: helpers.plot_history(
        {"a": run_of(cnn, data), "b": run_of(cnn, data)}, note=data.note
    ),
    "plot_accuracy_over_time": lambda data, cnn: helpers.plot_accuracy_over_time(
        {"a": run_of(cnn, data), "b": run_of(cnn, data)}, note=data.note
    ),
    "plot_activations": lambda data, cnn: helpers.plot_activations(
        {"a": inputs_of(cnn[2], cnn, data), "b": inputs_of(cnn[6], cnn, data)},
        batches=len(data.train),
        note=data.note,
    ),
    "plot_features": lambda data, cnn: helpers.plot_features(
        {"a network": helpers.compute_features(cnn, cnn[11], data)}, note=data.note
    ),
    "plot_with_and_without": lambda data, cnn: helpers.plot_with_and_without(
        {1: 20.0, 2: 30.0}, {1: 25.0, 3: 60.0}, xlabel="epoch", ylabel="percent", note=data.note
    ),
    "plot_claims": lambda data, cnn: helpers.plot_claims(
        [88.0, 91.0, 90.0], {"a": (88.0, 0.005), "b": (89.7, 3.0)}, xlabel="%", note=data.note
    ),
    "show_predictions": lambda data, cnn: helpers.show_predictions(test(cnn, data.test), data),
    "plot_accuracy_against_count": lambda data, cnn: helpers.plot_accuracy_against_count(
        {1: 0.3, 5: 0.7}, note=data.note
    ),
    "plot_accuracy_against_count of several": lambda data, cnn: helpers.plot_accuracy_against_count(
        {"a": {1: 0.3, 5: 0.7}, "b": {1: 0.2, 5: 0.8}}, note=data.note
    ),
}
NETWORKS = {
    "plot_batchnorm": lambda data, cnn: helpers.plot_batchnorm(
        cnn, next(iter(data.train))[0], note=data.note
    ),
    "plot_filters": lambda data, cnn: helpers.plot_filters(cnn[0], note=data.note),
    "show_feature_maps": lambda data, cnn: helpers.show_feature_maps(
        cnn, {"block 1": cnn[2], "block 2": cnn[6]}, next(iter(data.val))[0][0], note=data.note
    ),
    "show_grad_cam": lambda data, cnn: helpers.show_grad_cam(
        cnn, cnn[4], *(part[:2] for part in next(iter(data.val))), data
    ),
    "draw_network": lambda data, cnn: helpers.draw_network(helpers.freeze(cnn, keep="11")),
    "plot_layer_changes": lambda data, cnn: helpers.plot_layer_changes(
        {name: value + 0.1 for name, value in cnn.state_dict().items()}, cnn, note=data.note
    ),
}
NO_NUMBERS = ("imshow one", "draw_network")  # of pictures: they need no note


def test_grad_cam_is_drawn_over_the_picture_itself(data, cnn):
    images, labels = (part[:2] for part in next(iter(data.val)))
    figure = helpers.show_grad_cam(cnn, cnn[4], images, labels, data, count=1)
    for row, image in enumerate(denormalize(images, data.normalization)):
        for axis in figure.axes[2 * row : 2 * row + 2]:
            shown = torch.as_tensor(axis.images[0].get_array())
            assert torch.allclose(shown, image.permute(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("name", PICTURES)
def test_figures_of_pictures(data, cnn, name):
    figure = PICTURES[name](data, cnn)
    check(figure)
    assert NOTE not in texts_of(figure)


@pytest.mark.parametrize("name", sorted((PICTURES | NETWORKS).keys() - NO_NUMBERS))
def test_drawings_are_called_drawings(data, cnn, name):
    figure = (PICTURES | NETWORKS)[name](dataclasses.replace(data, note=NOTE), cnn)
    assert NOTE in texts_of(figure)


@pytest.mark.parametrize("name", NETWORKS)
def test_figures_of_networks_leave_no_trace(data, cnn, name):
    cnn.train()
    state, modes = copy.deepcopy(cnn.state_dict()), [layer.training for layer in cnn.modules()]
    check(NETWORKS[name](data, cnn))
    assert all(torch.equal(state[key], value) for key, value in cnn.state_dict().items())
    if name != "draw_network":  # which freezes it first
        assert [layer.training for layer in cnn.modules()] == modes
    assert cnn[1].momentum == 0.1
    assert not any(layer._forward_hooks for layer in cnn.modules())


@pytest.mark.parametrize(
    "name",
    ["plot_comparison", "plot_accuracy_against_time", "plot_val_curves", "plot_class_accuracy"],
)
def test_figures_of_results(results, name):
    figure = getattr(helpers, name)(results)
    check(figure)
    assert NOTE in texts_of(figure)
    for method in METHODS.values():
        assert method in texts_of(figure)
    if name == "plot_class_accuracy":
        assert all(flower in texts_of(figure) for flower in ("rose", "iris", "lily", "aloe"))
    empty = getattr(helpers, name)([])
    check(empty)
    assert "no results yet" in texts_of(empty)


def result_of(score, predictions=None):
    record = {"method": "bn_cnn", "data": {"classes": 3, "note": NOTE}}
    predictions = score.predictions if predictions is None else predictions
    return helpers.results.Result(record, score.ids, score.labels, predictions)


def test_confused_pictures_are_those_of_the_result(data, cnn):
    score = test(cnn, data.test)
    swapped = (score.labels + 1) % 3  # everything is mistaken
    figure = helpers.show_confused([result_of(score, swapped), result_of(score)], data)
    check(figure)
    rows = [figure.axes[:4], figure.axes[4:]]
    assert [row[0].get_ylabel() for row in rows] == ["BN-CNN"] * 2
    for left, right in zip(rows[0][::2], rows[0][1::2], strict=True):
        label = data.class_names.index(left.get_title())
        assert right.get_title() == f"taken for, 4 x\n{data.class_names[(label + 1) % 3]}"
        for axis, name in ((left, left.get_title()), (right, right.get_title().split("\n")[1])):
            color = np.asarray(axis.images[0].get_array()).mean(axis=(0, 1)).argmax()
            assert name == ("red", "green", "blue")[color]


def test_confused_pictures_without_a_mistake_or_a_result(data, cnn):
    score = test(cnn, data.test)
    assert (score.predictions != score.labels).any()  # an untrained network
    right = result_of(score, score.labels)
    assert "no test picture was mistaken" in texts_of(helpers.show_confused([right], data))
    check(helpers.show_confused([right, result_of(score)], data))  # a row stays empty
    assert "no results yet" in texts_of(helpers.show_confused([], data))


def test_features_are_named_by_class_and_none_is_lost(data, cnn):
    features = helpers.compute_features(cnn, cnn[11], data)
    figure = helpers.plot_features({"a": features, "b": features}, count=2)
    check(figure)
    assert len(figure.axes) == 2
    for axis in figure.axes:
        points = {group.get_label(): len(group.get_offsets()) for group in axis.collections}
        assert points == {"other classes": 4, "blue": 4, "red": 4}
        assert "of the variance" in axis.get_title()


def test_activations_are_drawn_over_epochs_on_one_scale(data, cnn):
    seen = inputs_of(cnn[2], cnn, data)
    figure = helpers.plot_activations({"a": seen, "b": seen}, batches=len(data.train))
    for axis in figure.axes:
        channels = [line for line in axis.lines if line.get_label().startswith("channel")]
        assert len(channels) == 3
        for line in channels:
            epochs, means = line.get_xydata().T
            assert epochs[-1] == 2  # as many as ran
            assert np.allclose(means, seen.means[:, int(line.get_label().split()[1])])
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_figure_of_costs_has_a_panel_each_and_all_results(results):
    costs = {"parameters": [1e3, 1e4, 1e5, 1e6], "MACs of a picture": [4e6, 3e6, 2e6, 1e6]}
    figure = helpers.plot_accuracy_against_costs(results, costs)
    check(figure)
    assert NOTE in texts_of(figure)
    for axis, (name, values) in zip(figure.axes, costs.items(), strict=True):
        assert axis.get_xlabel() == name
        drawn = [container.lines[0].get_xydata()[0] for container in axis.containers]
        expected = [result.record["test"]["accuracy"] for result in results]
        assert np.allclose(drawn, np.transpose([values, expected]))
    assert all(method in texts_of(figure) for method in METHODS.values())


def test_accuracy_over_time_counts_features_and_never_falls(data, cnn):
    run = run_of(cnn, data)
    run.seconds["features"] = 100.0
    history = [{**run.history[0], "val_accuracy": value} for value in (0.2, 0.5, 0.3)]
    figure = helpers.plot_accuracy_over_time({"a": dataclasses.replace(run, history=history)})
    (line,) = figure.axes[0].lines
    seconds, accuracy = line.get_xydata().T
    assert seconds[0] > 100
    assert (np.diff(seconds) > 0).all()
    assert accuracy.tolist() == [0.2, 0.5, 0.5]


def test_imshow_undoes_the_normalisation(data):
    images, _ = next(iter(data.val))
    shown = helpers.imshow(images[0]).axes[0].images[0].get_array()
    assert np.allclose(shown, denormalize(images[0]).permute(1, 2, 0).numpy())
    plain = data.val.dataset.picture(0)
    shown = helpers.imshow(plain).axes[0].images[0].get_array()
    assert np.array_equal(shown, plain.permute(1, 2, 0).numpy())


def test_samples_show_a_picture_of_each_class_under_its_name(data):
    figure = helpers.show_samples(data)
    shown = [axis for axis in figure.axes if axis.images]
    # of few classes several, in rows of their own
    assert [axis.get_title() for axis in shown] == [
        one for one in data.class_names for _ in "123456"
    ]
    for axis in shown:
        color = np.asarray(axis.images[0].get_array()).mean(axis=(0, 1))
        assert axis.get_title() == ("red", "green", "blue")[color.argmax()]


def test_the_schedule_that_is_drawn_is_the_one_that_is_followed():
    layer = nn.Linear(2, 2)
    groups = [{"params": [layer.weight], "lr": 0.1}, {"params": [layer.bias], "lr": 0.2}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, [0.1, 0.2], total_steps=30)
    before = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    rates = learning_rates(scheduler, 30)
    check(helpers.plot_schedule(scheduler, num_epochs=3, batches=10, names=("body", "head")))
    assert (optimizer.state_dict(), scheduler.state_dict()) == before
    followed = []
    for _ in range(30):
        followed.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert np.allclose(rates, followed)


def test_a_notebook_shows_figures_as_small_pngs(monkeypatch):
    monkeypatch.setattr("IPython.core.history.HistoryAccessor.enabled", False)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    show_small_figures()  # before any figure is there, as start() does
    figure = SmallFigure(figsize=(1, 1))
    shown = shell.display_formatter.format(figure)[0]["image/png"]
    InteractiveShell.clear_instance()
    assert Image.open(io.BytesIO(shown)).mode == "P"  # a palette of few colours
