"""Training and evaluation: counts over samples, the best weights, honest seconds, one seed."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import time

import pytest
import torch
from tiny import SPLITS, vector_data
from torch import nn
from torch.optim import lr_scheduler

from helpers import bn_cnn, compute_features, freeze, resnet18, test, train_model
from helpers.data import make_loader, normalize
from helpers.errors import KitError
from helpers.models import replace_head
from helpers.training import (
    BestWeights,
    Features,
    accuracy_interval,
    epochs_without_gain,
    evaluate,
)

CRITERION = nn.CrossEntropyLoss()
CPU = torch.device("cpu")


def linear(width: int = 6, classes: int = 3) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(width, classes)


def train(model, data, *, lr=0.1, num_epochs=3, scheduler=None, **options):
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=lr)
    scheduler = scheduler(optimizer) if scheduler else None
    return train_model(
        model, data, CRITERION, optimizer, scheduler, num_epochs=num_epochs, progress=False,
        **options,
    )  # fmt: skip


def hits_of(model: nn.Module, data, split: str) -> torch.Tensor:
    """Which samples of a split a model gets right, computed without the kit's loop."""
    samples = data.dataloaders[split].dataset
    with torch.no_grad():
        return model(samples.vectors).argmax(dim=1) == samples.labels


# Learning


def test_loss_falls_and_pictures_are_learned(cnn, data):
    run = train(cnn, data, lr=0.05, num_epochs=8)
    losses = [row["train_loss"] for row in run.history]
    assert losses[-1] < losses[0] / 2
    assert test(cnn, data.test).accuracy > 0.9


def test_a_batch_can_be_learned_by_heart(cnn):
    data = vector_data((8, 8, 8), width=6, noise=3.0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))
    run = train(model, data, lr=0.5, num_epochs=60)
    assert run.history[-1]["train_accuracy"] == 1.0
    assert run.history[-1]["train_loss"] < 0.05


def test_first_loss_is_near_ln_of_the_classes(cnn, data):
    run = train(cnn, data, num_epochs=1)
    assert run.first_loss == pytest.approx(math.log(3), abs=0.15)


def test_first_loss_is_that_of_val_before_any_step():
    model, data = linear(), vector_data(batch_size=100)
    with torch.no_grad():
        wanted = CRITERION(model(data.val.dataset.vectors), data.val.dataset.labels)
    assert train(model, data).first_loss == pytest.approx(float(wanted), rel=1e-6)


def test_all_epochs_run():
    run = train(linear(), vector_data(), num_epochs=5)
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4, 5]
    assert run.num_epochs == 5


def test_every_training_sample_is_seen_once_an_epoch():
    data = vector_data((41, 10, 10), batch_size=8)
    seen: list[int] = []
    model = linear()
    model.register_forward_pre_hook(
        lambda layer, inputs: seen.append(len(inputs[0])) if layer.training else None
    )
    train(model, data, num_epochs=3)
    assert sum(seen) == 3 * 41
    assert 1 not in seen


# Accuracy is k/n


def test_accuracy_and_loss_are_over_samples_not_over_batches():
    data, model = vector_data((50, 35, 27), batch_size=8, noise=2.0), linear()
    hits = hits_of(model, data, "val")
    tally = evaluate(model, data.val, CRITERION, device=CPU)
    assert (tally.correct, tally.seen) == (int(hits.sum()), 35)
    assert tally.accuracy == int(hits.sum()) / 35
    batches = [hits[start : start + 8] for start in range(0, 35, 8)]  # the last has 3
    mean_of_means = sum(float(batch.double().mean()) for batch in batches) / len(batches)
    assert mean_of_means != pytest.approx(tally.accuracy, abs=1e-3)  # the trap would show
    with torch.no_grad():
        loss = CRITERION(model(data.val.dataset.vectors), data.val.dataset.labels)
    assert tally.loss == pytest.approx(float(loss), rel=1e-5)
    assert test(model, data.test).accuracy == int(hits_of(model, data, "test").sum()) / 27


def test_train_accuracy_is_over_samples():
    run = train(linear(), vector_data((43, 10, 10)), num_epochs=4)
    for row in run.history:
        assert row["train_accuracy"] * 43 == pytest.approx(round(row["train_accuracy"] * 43))


# The best weights


def test_best_weights_are_restored():
    data, model = vector_data((40, 30, 30), noise=4.0), linear()
    run = train(model, data, lr=2.0, num_epochs=12)
    accuracies = [row["val_accuracy"] for row in run.history]
    assert max(accuracies) > accuracies[-1]  # the last weights are not the best
    assert run.best_val_accuracy == max(accuracies)
    assert run.best_epoch == accuracies.index(max(accuracies)) + 1
    assert int(hits_of(model, data, "val").sum()) / 30 == run.best_val_accuracy


def test_of_equal_epochs_the_first_is_kept():
    model, best = linear(), BestWeights()
    for epoch, accuracy in enumerate([0.5, 0.7, 0.7, 0.6], start=1):
        nn.init.constant_(model.weight, epoch)
        best.keep(model, accuracy, epoch)
    best.restore(model)
    assert (best.epoch, best.accuracy) == (2, 0.7)
    assert model.weight.unique().tolist() == [2.0]


def test_best_weights_include_running_statistics(cnn, data):
    best = BestWeights()
    best.keep(cnn, 0.5, 1)
    before = copy.deepcopy(cnn.state_dict())
    cnn.train()(torch.randn(4, 3, 16, 16))
    best.restore(cnn)
    assert all(torch.equal(before[name], value) for name, value in cnn.state_dict().items())


def test_patience_stops_early():
    run = train(linear(), vector_data(), lr=0.0, num_epochs=50, patience=3)
    assert run.best_epoch == 1
    assert run.num_epochs == 4


@pytest.mark.parametrize(
    ("accuracies", "min_delta", "epochs"),
    [
        ([], 0, 0),
        ([0.2], 0, 0),
        ([0.2, 0.3, 0.3, 0.1], 0, 2),
        ([0.2, 0.3, 0.3001, 0.35], 0.01, 0),
        ([0.2, 0.3, 0.305, 0.309], 0.01, 2),  # small steps do not add up until they pass it
        ([0.2, 0.3, 0.305, 0.311], 0.01, 0),
        ([0.5, 0.4, 0.3], 0.01, 2),
    ],
)
def test_epochs_without_gain_ask_for_more_than_the_smallest(accuracies, min_delta, epochs):
    history = [{"val_accuracy": accuracy} for accuracy in accuracies]
    assert epochs_without_gain(history, min_delta) == epochs


def test_min_delta_stops_earlier_but_keeps_the_best_weights():
    runs = {
        min_delta: train(linear(), vector_data(), lr=1e-3, num_epochs=30, patience=2,
                         min_delta=min_delta)
        for min_delta in (0.0, 0.9)
    }  # fmt: skip
    assert runs[0.9].num_epochs == 3  # nothing gains 90 points
    assert runs[0.0].num_epochs > 3
    best = max(row["val_accuracy"] for row in runs[0.9].history)
    assert runs[0.9].best_val_accuracy == best


# The schedule


@pytest.mark.parametrize("length", [20, 22, 3])
@pytest.mark.parametrize("kind", ["OneCycleLR", "CosineAnnealingLR"])
def test_a_schedule_of_another_length_is_refused(kind, length):
    data, model = vector_data((50, 9, 9), batch_size=8), linear()
    before = model.weight.clone()

    def scheduler(optimizer):
        if kind == "OneCycleLR":
            return lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=length)
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=length)

    assert len(data.train) == 7
    with pytest.raises(KitError, match=f"{length} steps long, but the run is 21"):
        train(model, data, num_epochs=3, scheduler=scheduler)
    assert torch.equal(model.weight, before)


def test_a_schedule_of_the_right_length_is_stepped_once_a_batch():
    used: list[float] = []  # the rate of each step that is taken

    def scheduler(optimizer):
        optimizer.register_step_pre_hook(
            lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"])
        )
        return lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=21, pct_start=0.3)

    train(linear(), vector_data((50, 9, 9)), num_epochs=3, scheduler=scheduler)
    assert len(used) == 21
    assert max(used) == pytest.approx(0.3, rel=0.02)
    assert used.index(max(used)) in (5, 6)
    assert used[-1] == min(used) < 1e-5


def test_a_schedule_without_a_length_is_accepted():
    run = train(
        linear(),
        vector_data((50, 9, 9)),
        num_epochs=2,
        scheduler=lambda optimizer: lr_scheduler.StepLR(optimizer, 7, gamma=0.1),
    )
    # The rate of an epoch is that of its first step: after 7 steps it is a tenth.
    assert run.history[0]["learning_rate"] == pytest.approx(0.1)
    assert run.history[1]["learning_rate"] == pytest.approx(0.01)


def test_a_schedule_that_was_used_up_is_refused():
    data, model = vector_data((50, 9, 9)), linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=14)
    options = {"num_epochs": 2, "progress": False}
    train_model(model, data, CRITERION, optimizer, scheduler, **options)
    with pytest.raises(KitError, match="schedule"):
        train_model(model, data, CRITERION, optimizer, scheduler, **options)


# What is refused before the first step


def test_no_epochs():
    with pytest.raises(KitError, match="num_epochs=0"):
        train(linear(), vector_data(), num_epochs=0)


def test_label_beyond_the_head():
    with pytest.raises(KitError, match="label 2 is beyond the head's 2 outputs"):
        train(linear(classes=2), vector_data())


def test_too_many_outputs():
    with pytest.raises(KitError, match=r"1000 outputs for 3 classes .*6\.91"):
        train(linear(classes=1000), vector_data())


def test_an_optimizer_of_another_network():
    model, other = linear(), linear()
    before = [parameter.clone() for parameter in other.parameters()]
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1)
    with pytest.raises(KitError, match="2 of the optimizer's 4 tensors belong to another network"):
        train_model(model, vector_data(), CRITERION, optimizer, num_epochs=1, progress=False)
    pairs = zip(before, other.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)
    part = torch.optim.SGD([model.weight], lr=0.1)  # only some of its own: that is a choice
    assert train_model(model, vector_data(), CRITERION, part, num_epochs=1, progress=False)


def test_everything_frozen(cnn, data):
    freeze(cnn)
    with pytest.raises(KitError, match="every parameter is frozen"):
        optimizer = torch.optim.SGD(cnn.parameters(), lr=0.1)
        train_model(cnn, data, CRITERION, optimizer, num_epochs=1, progress=False)


def test_pictures_too_small_for_the_network(data):
    with pytest.raises(KitError, match=r"3 x 16 x 16.*use a larger size"):
        train(bn_cnn(3, widths=(4, 4, 4, 4, 4)), data)


# Splits


class Unreadable(Features):
    """Samples that must not be read."""

    def __getitems__(self, draws):
        raise AssertionError("this split was read")


def without(data, split: str):
    samples = data.dataloaders[split].dataset
    closed = Unreadable(samples.vectors, samples.labels, samples.ids)
    return dataclasses.replace(data, **{split: make_loader(closed, 8, seed=0, shuffle=False)})


def test_the_test_split_is_not_read_by_training():
    train(linear(), without(vector_data(), "test"))
    with pytest.raises(AssertionError, match="was read"):
        train(linear(), without(vector_data(), "val"))


def test_evaluation_restores_modes(cnn, data):
    cnn.train()
    cnn[1].eval()
    modes = [layer.training for layer in cnn.modules()]
    state = copy.deepcopy(cnn.state_dict())
    evaluate(cnn, data.val, CRITERION, device=CPU)
    test(cnn, data.test)
    compute_features(cnn, cnn[-1], data)
    assert [layer.training for layer in cnn.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in cnn.state_dict().items())


# One seed, one result


def test_two_runs_with_one_seed_are_equal_bit_for_bit(data):
    runs = []
    for disturbance in (1, 2):
        torch.manual_seed(7)
        model = bn_cnn(3, widths=(8, 16))
        run = train(model, data, num_epochs=3)
        for _ in range(disturbance):  # what comes between two runs
            list(data.train)
        runs.append((run, model.state_dict(), test(model, data.test)))
    (first, weights, score), (second, weights_again, score_again) = runs
    for row, row_again in zip(first.history, second.history, strict=True):
        for key in row:
            assert row[key] == row_again[key] or key.endswith("_seconds")
    assert first.first_loss == second.first_loss
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    assert torch.equal(score.probabilities, score_again.probabilities)


def test_reduced_precision_keeps_the_weights_in_float32(cnn, data):
    run = train(cnn, data, num_epochs=1, precision=torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in cnn.parameters())
    assert math.isfinite(run.history[0]["train_loss"])
    assert test(cnn, data.test, precision=torch.bfloat16).probabilities.dtype == torch.float32


# Seconds


class Slow(Features):
    """Samples that take 20 ms a batch to arrive."""

    def __getitems__(self, draws):
        time.sleep(0.02)
        return super().__getitems__(draws)


def slow(data, split: str):
    samples = data.dataloaders[split].dataset
    loader = make_loader(Slow(samples.vectors, samples.labels, samples.ids), 8, seed=0, shuffle=0)
    return dataclasses.replace(data, **{split: loader})


def test_seconds_are_told_apart():
    data = vector_data((40, 40, 8))
    loading = train(linear(), slow(data, "train"), num_epochs=2)
    assert loading.seconds["loading"] >= 2 * 5 * 0.02
    assert loading.seconds["training"] < loading.seconds["loading"]
    assert loading.seconds["evaluation"] < loading.seconds["loading"]
    evaluation = train(linear(), slow(data, "val"), num_epochs=2)
    assert evaluation.seconds["evaluation"] >= 2 * 5 * 0.02
    assert evaluation.training_seconds < evaluation.seconds["evaluation"]


def test_seconds_of_a_run_are_the_sum_of_its_epochs():
    started = time.perf_counter()
    run = train(linear(), dataclasses.replace(vector_data(), feature_seconds=12.5), num_epochs=3)
    passed = time.perf_counter() - started
    for name in ("training", "loading", "evaluation"):
        parts = [row[f"{name}_seconds"] for row in run.history]
        assert all(part >= 0 for part in parts)
        assert run.seconds[name] == pytest.approx(sum(parts))
    assert run.seconds["features"] == 12.5
    assert sum(run.seconds.values()) - 12.5 <= passed
    assert run.training_seconds == pytest.approx(
        run.seconds["training"] + run.seconds["loading"] + 12.5
    )


# The score


def fixed(logits: torch.Tensor, labels: list[int]):
    """A model and a loader that give these logits for these labels, in batches of 4."""
    ids = [f"p{number}" for number in range(len(labels))]
    samples = Features(logits, torch.tensor(labels), ids)
    return nn.Sequential(nn.Flatten(), Identity()), make_loader(samples, 4, seed=0, shuffle=False)


class Identity(nn.Module):
    """A layer that has a parameter and does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


def test_score_fields():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(30, 7, generator=generator)
    labels = torch.randint(6, (30,), generator=generator).tolist()  # none of class 6
    score = test(*fixed(logits, labels))
    truth = torch.tensor(labels)
    hits = logits.argmax(dim=1) == truth
    assert (score.correct, score.total) == (int(hits.sum()), 30)
    assert score.accuracy == int(hits.sum()) / 30
    assert torch.equal(score.labels, truth)
    assert torch.equal(score.predictions, logits.argmax(dim=1))
    assert torch.allclose(score.probabilities, logits.softmax(dim=1))
    assert score.ids == [f"p{number}" for number in range(30)]
    assert score.loss == pytest.approx(float(CRITERION(logits, truth)), rel=1e-6)
    ranks = (logits > logits[range(30), labels][:, None]).sum(dim=1)
    assert score.top5 == pytest.approx(float((ranks < 5).double().mean()))
    assert hits.double().mean() < score.top5 < 1
    for label in range(6):
        assert score.per_class[label] == pytest.approx(float(hits[truth == label].double().mean()))
    assert math.isnan(score.per_class[6])
    assert score.seconds >= 0
    assert f"{score.correct}/30" in str(score)


@pytest.mark.parametrize(
    "look", [lambda m, d: test(m, d.val), lambda m, d: compute_features(m, m[-1], d)]
)
def test_a_network_can_be_trained_after_it_was_looked_at(cnn, data, look):
    look(cnn, data)  # moves it to the device, in the memory order that its convolutions like
    assert not any(parameter.is_inference() for parameter in cnn.parameters())
    train(cnn, data, num_epochs=1)


def test_top5_with_fewer_than_5_classes_is_1():
    score = test(*fixed(torch.randn(9, 3), [0, 1, 2] * 3))
    assert score.top5 == 1.0


def test_score_refuses_a_label_without_a_column():
    with pytest.raises(KitError, match="label 3 has no column in 3 logits"):
        test(*fixed(torch.randn(4, 3), [0, 1, 2, 3]))


@pytest.mark.parametrize("total", [1, 2, 30, 480, 6149])
def test_interval_is_wilsons(total):
    z = 1.959963984540054
    for correct in sorted({0, 1, total // 3, total // 2, total - 1, total}):
        p = correct / total
        centre = (p + z * z / (2 * total)) / (1 + z * z / total)
        half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2)) / (1 + z * z / total)
        low, high = accuracy_interval(correct, total)
        assert low == pytest.approx(centre - half, abs=1e-9)
        assert high == pytest.approx(centre + half, abs=1e-9)
        assert 0 <= low <= p <= high <= 1


def test_pytest_does_not_take_the_kits_test_for_one():
    assert test.__test__ is False


# Features


@pytest.fixture
def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(3, pretrained=None)


def test_features_are_what_enters_the_head(data, small_resnet):
    features = compute_features(small_resnet, small_resnet.fc, data)
    small_resnet.eval()
    for split in SPLITS:
        samples, vectors = data.dataloaders[split].dataset, features.dataloaders[split].dataset
        assert vectors.ids == samples.ids
        assert torch.equal(vectors.labels, samples.labels)
        plain = samples.with_transform(data.val.dataset.transform)
        images, _ = plain.__getitems__([(index, 0) for index in range(len(samples))])
        with torch.no_grad():
            wanted = small_resnet(images)
            given = small_resnet.fc(vectors.vectors)
        assert vectors.vectors.shape == (len(samples), 512)
        assert torch.allclose(given, wanted, atol=1e-4)


def test_each_picture_goes_through_the_network_once(data, small_resnet):
    passed: list[int] = []
    small_resnet.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    features = compute_features(small_resnet, small_resnet.fc, data, views=1)
    assert sum(passed) == 36 + 12 + 12
    train(nn.Linear(512, 3), features, num_epochs=5)
    assert sum(passed) == 60
    assert not small_resnet.fc._forward_pre_hooks


def test_views_are_plain_then_augmented(data, cnn):
    features = compute_features(cnn, cnn[-1], data, views=3)
    assert features.sizes == {"train": 3 * 36, "val": 12, "test": 12}
    views = features.train.dataset.vectors.view(3, 36, -1)
    plain = compute_features(cnn, cnn[-1], data).train.dataset.vectors
    assert torch.allclose(views[0], plain, atol=1e-6)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        differs = (views[first] - views[second]).abs().amax(dim=1) > 1e-4
        assert differs.double().mean() > 0.9
    labels = data.train.dataset.labels
    assert torch.equal(features.train.dataset.labels.view(3, 36), labels.expand(3, -1))
    again = compute_features(cnn, cnn[-1], data, views=3).train.dataset.vectors
    assert torch.equal(again, features.train.dataset.vectors)


def test_features_train_with_the_same_call(data, small_resnet):
    features = compute_features(small_resnet, small_resnet.fc, data, views=2)
    assert features.feature_seconds > 0
    head = nn.Linear(512, 3)
    run = train(head, features, num_epochs=6)
    assert run.history[-1]["train_loss"] < run.first_loss
    assert run.seconds["features"] == features.feature_seconds
    small_resnet.fc = head
    whole, alone = test(small_resnet, data.test), test(head, features.test)
    assert torch.allclose(whole.probabilities, alone.probabilities, atol=1e-4)


def test_a_frozen_network_and_its_features_learn_alike(data):
    """Head only, by the two ways, on the same plain pictures: the same weights to rounding."""
    plain = data.train.dataset.with_transform(data.val.dataset.transform)
    data = dataclasses.replace(data, train=make_loader(plain, 8, seed=4, shuffle=True))
    torch.manual_seed(0)
    model = freeze(resnet18(3, pretrained=None), keep="fc")
    head = copy.deepcopy(model.fc)
    train(head, compute_features(model, model.fc, data), lr=0.01, num_epochs=2)
    train(model, data, lr=0.01, num_epochs=2)
    assert torch.allclose(model.fc.weight, head.weight, atol=1e-4)


# The loop itself


def test_train_model_can_be_read_in_one_sitting():
    lines = inspect.getsource(train_model).splitlines()
    assert len(lines) <= 75
    begin = next(number for number, line in enumerate(lines) if "with saved, table" in line)
    assert len(lines) - begin <= 36  # from the first epoch to what is returned


def test_samples_reach_the_network_normalised(data):
    seen = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    test(model, data.test)
    first = data.test.dataset.transform(data.test.dataset.picture(0))
    assert torch.equal(seen[0][0], normalize(first))


def test_a_new_head_learns(data):
    model = resnet18(9, pretrained=None)
    replace_head(model, "fc", 3)
    before = model.fc.weight.clone()
    train(model, data, num_epochs=1)
    assert not torch.equal(model.fc.weight, before)


def test_the_epoch_table_says_what_its_numbers_are_about(cnn, data, capsys):
    note = "drawn flowers, not photographs"
    optimizer = torch.optim.SGD(cnn.parameters(), lr=0.1)
    train_model(cnn, dataclasses.replace(data, note=note), CRITERION, optimizer, num_epochs=1)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"({note})")
