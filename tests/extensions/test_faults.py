"""The eleven faults of the published experiment, one by one: the kit does not have them."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from coursekit.train.networks import bn_cnn, resnet18
from helpers import (
    KitError,
    check_head,
    compute_features,
    count_parameters,
    freeze,
    get_recipe,
    pretrained_weights,
    save_result,
    test,
    train_model,
)
from lib import newnet
from tools.tiny import vector_data

CRITERION = nn.CrossEntropyLoss()


def train(model, data, **options):
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    return train_model(
        model, data, CRITERION, optimizer, **{"num_epochs": 2, "progress": False, **options}
    )


@pytest.fixture
def record(workspace, data, cnn) -> dict:
    """The record of a short run."""
    run, score = train(cnn, data), test(cnn, data)
    folder = save_result(
        workspace, get_recipe("bn_cnn", "mini"), model=cnn, data=data, run=run, score=score
    )
    return json.loads((folder / "record.json").read_text())


def test_faults_1_8_9_and_11_can_be_seen_in_a_record(record):
    """What was measured on which pictures, from which weights, in what time, and how surely."""
    # 1: the best val accuracy was called test accuracy, and test was never used
    assert set(record["val"]) == {"accuracy", "epoch"}
    assert record["test"]["total"] == record["data"]["sizes"]["test"]
    # 8: nobody said that the weights were random
    assert record["weights"]["kind"] and record["weights"]["source"]
    # 9: 99 epochs were compared with 25, evaluation and loading included, on an unnamed device
    seconds, machine = record["seconds"], record["machine"]
    assert set(seconds) == {"training", "loading", "evaluation", "features"}
    spent = sum(seconds.values()) - seconds["evaluation"]
    assert record["training_seconds"] == pytest.approx(spent)
    assert record["epochs"] == len(record["history"]) == 2
    assert machine["device"] == "cpu"
    assert machine["device_name"] and machine["precision"] and machine["threads"] >= 1
    # 11: one number, without the interval that 12 test pictures give it
    low, high = record["test"]["interval"]
    assert low < record["test"]["accuracy"] <= high
    assert high - low > 0.1
    assert {"seed", "profile"} <= set(record)


def test_fault_1_training_does_not_read_the_test_split():
    class Unreadable(TensorDataset):
        def __getitem__(self, index):
            raise AssertionError("training read the test split")

    data = vector_data()
    closed = DataLoader(Unreadable(*data.test.dataset.tensors), batch_size=8)
    run = train(nn.Linear(6, 3), data.with_loaders(test=closed))
    assert len(run.history) == 2


def test_fault_2_head_assigned_to_a_name_that_is_not_used():
    """B5's new head was assigned to `.fc`, its last layer is `._fc`: 1,000 outputs stayed."""
    model = nn.Module()
    model.body, model._fc = nn.Flatten(), nn.Linear(3 * 64 * 64, 1000)
    model.forward = lambda images: model._fc(model.body(images))
    model.fc = nn.Linear(1000, 102)
    with pytest.raises(KitError, match="1000 outputs for 102 classes"):
        check_head(model, 102)
    with pytest.raises(KitError, match=r"ln 1000 = 6\.91"):
        train(nn.Linear(6, 1000), vector_data())
    # The published first loss, 6.29, is not that of 102 classes.
    run = train(nn.Linear(6, 102), vector_data((102, 102, 102), classes=102, noise=0.1))
    assert run.first_loss == pytest.approx(math.log(102), abs=0.5)


def test_fault_3_batchnorm_of_a_frozen_network_moves():
    """`train()` moved the running statistics of all 20 frozen BatchNorm layers."""

    def moved(model: nn.Module) -> int:
        before = {name: value.clone() for name, value in model.named_buffers()}
        model.train()(torch.randn(2, 3, 64, 64))
        after = dict(model.named_buffers())
        means = [name for name in before if name.endswith("running_mean")]
        return sum(not torch.equal(before[name], after[name]) for name in means)

    model = resnet18(5)
    assert moved(copy.deepcopy(model).requires_grad_(False)) == 20
    assert moved(freeze(model, keep="fc")) == 0


def test_fault_4_frozen_network_run_again_in_every_epoch(data, cnn):
    """Its output for a picture does not change: once is enough."""
    passed: list[int] = []
    cnn.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    features = compute_features(cnn, cnn[-1], data)
    train(nn.Linear(16, 3), features, num_epochs=4)
    assert sum(passed) == sum(data.sizes.values())


def test_fault_5_most_parameters_in_one_layer_and_view_that_changes_the_batch():
    """177 M parameters in a linear layer; `view(-1, n)` can turn one batch size into another."""
    published = newnet(102)
    largest = max(count_parameters(layer)["total"] for layer in published)
    assert largest / count_parameters(published)["total"] > 0.98
    assert count_parameters(bn_cnn(102))["total"] < 180_000_000 / 400
    for size in (16, 40, 64):
        assert bn_cnn(7)(torch.randn(3, 3, size, size)).shape == (3, 7)
    # A network that mixes up samples in this way does not get through the check of its head.
    mixing = nn.Sequential(nn.Flatten(0, 1), nn.Flatten(), nn.Linear(64 * 64, 7))
    with pytest.raises(KitError):
        check_head(mixing, 7)


def test_fault_6_an_epoch_too_few_and_the_last_ones_not_evaluated():
    """`range(0, num_epochs - 1)` ran 99 epochs of 100; the last three were never evaluated."""
    run = train(nn.Linear(6, 3), vector_data(), num_epochs=7)
    assert [row["epoch"] for row in run.history if "val_accuracy" in row] == list(range(1, 8))


def test_fault_7_a_percent_sign_after_a_fraction():
    """ "0.0019%" was printed for 2 of 1,020, which is 0.20 %: percent of k/n are printed."""
    logits = nn.functional.one_hot(torch.zeros(1020, dtype=torch.int64), 102).float()
    labels = torch.ones(1020, dtype=torch.int64)
    labels[:2] = 0
    model = nn.Linear(102, 102, bias=False)
    nn.init.eye_(model.weight)
    score = test(model, DataLoader(TensorDataset(logits, labels), batch_size=64))
    assert (score.correct, score.total) == (2, 1020)
    assert str(score).startswith("accuracy 0.2% (2/1,020)")


def test_fault_8_no_weights_by_default():
    """torchvision's networks are random unless weights are asked for; a record says which."""
    assert not torch.equal(resnet18(5).conv1.weight, resnet18(5).conv1.weight)
    weights = pretrained_weights("resnet18", "drawn")
    pretrained = resnet18(5, weights)
    assert torch.equal(pretrained.conv1.weight, weights.state["conv1.weight"])


def test_fault_10_a_schedule_that_is_not_as_long_as_the_run():
    """StepLR(7) left the last 11 of 25 epochs nearly frozen."""
    data, model = vector_data((40, 9, 9)), nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epochs in (1, 3):
        schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2 * len(data.train))
        with pytest.raises(KitError, match=r"schedule.*steps"):
            train_model(model, data, CRITERION, optimizer, schedule, num_epochs=epochs)
    # What the published one did can be read from a history.
    schedule = lr_scheduler.StepLR(optimizer, 7, gamma=0.1)
    run = train_model(
        model, data, CRITERION, optimizer, schedule, num_epochs=25, step_scheduler="epoch",
        progress=False,
    )  # fmt: skip
    rates = [row["learning_rate"] for row in run.history]
    assert sum(rate < 0.02 * max(rates) for rate in rates) >= 11
