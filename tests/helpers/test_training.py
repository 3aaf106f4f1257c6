"""Training, evaluation and tests of networks: what is counted, kept, refused and left alone."""

from __future__ import annotations

import dataclasses
import math
import types
import weakref

import pytest
import torch
import torchvision
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)
from torch.utils.data import DataLoader, SequentialSampler, Subset, TensorDataset

import helpers
from coursekit.train.networks import bn_cnn, resnet18
from helpers import KitError, compute_features, evaluate, freeze, train_model
from helpers.data import Data
from helpers.lib.datasets import ids_of
from helpers.training import TrainingRun
from tools.tiny import vector_data


def linear(outputs: int = 3) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, outputs)


def train(
    model: nn.Module, data, *, lr: float = 0.05, num_epochs: int = 2, **options
) -> TrainingRun:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad] or
                                list(model.parameters()), lr=lr)  # fmt: skip
    return train_model(model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=num_epochs,
                       progress=False, **options)  # fmt: skip


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


# The loop


def test_pictures_are_learned_from_near_ln_of_the_classes(cnn, data):
    run = train(cnn, data, num_epochs=8)
    assert run.first_loss == pytest.approx(math.log(3), abs=0.2)
    assert run.history[-1]["train_loss"] < 0.6 * run.first_loss
    assert helpers.test(cnn, data).accuracy > 0.9
    assert run.num_epochs == len(run.history) == 8


class Counted(TensorDataset):
    """A data set that notes the epochs that it is told of."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__(*tensors)
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


class CountedSampler(SequentialSampler):
    def __init__(self, dataset: TensorDataset) -> None:
        super().__init__(dataset)
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_a_sampler_and_a_data_set_of_ones_own_are_told_of_each_epoch():
    data = vector_data()
    dataset = Counted(*data.train.dataset.tensors)
    loader = DataLoader(Subset(dataset, range(20)), batch_size=5)
    train(linear(), {"train": loader, "val": data.val}, num_epochs=3)
    assert dataset.epochs == [1, 2, 3]
    sampler = CountedSampler(dataset)
    loader = DataLoader(dataset, batch_size=5, sampler=sampler)
    train(linear(), {"train": loader, "val": data.val}, num_epochs=3)
    assert sampler.epochs == [1, 2, 3]  # as DistributedSampler needs it


def test_the_first_loss_is_that_of_val_before_any_step():
    model, data = linear(), vector_data()
    images, labels = next(iter(data.val))
    before = nn.functional.cross_entropy(model(images), labels).item()
    assert train(model, data).first_loss == pytest.approx(before)


@pytest.mark.parametrize("batch_size", [7, 8, 50])
def test_loss_and_accuracy_are_over_samples_not_over_batches(batch_size):
    """The last batch is smaller, and counts as much as its samples."""
    model, data = linear(), vector_data(batch_size=batch_size)
    run = train(model, data, lr=0.0, num_epochs=1)
    for split in ("train", "val"):
        vectors, labels = data.dataloaders[split].dataset.tensors
        logits = model(vectors)
        loss = nn.functional.cross_entropy(logits, labels).item()
        right = float((logits.argmax(dim=1) == labels).double().mean())
        assert run.history[0][f"{split}_loss"] == pytest.approx(loss, rel=1e-5)
        assert run.history[0][f"{split}_accuracy"] == pytest.approx(right)


def test_every_training_sample_is_seen_once_an_epoch_and_test_never():
    data, seen = vector_data(), []

    class Unread(TensorDataset):
        def __getitem__(self, index):
            raise AssertionError("training must not look at the test split")

    hidden = DataLoader(Unread(*data.test.dataset.tensors), batch_size=8)
    data, model = data.with_loaders(test=hidden), linear()
    model.register_forward_pre_hook(
        lambda layer, inputs: seen.append(inputs[0]) if layer.training else None
    )
    train(model, data, num_epochs=3)
    every = torch.cat(seen).view(3, 50, 6)
    for epoch in every:
        assert torch.equal(
            epoch.sort(dim=0).values, data.train.dataset.tensors[0].sort(dim=0).values
        )
    assert not torch.equal(every[0], every[1])


def test_the_best_weights_are_restored_with_their_running_statistics(data, cnn):
    run = train(cnn, data, lr=0.3, num_epochs=5)
    accuracy = evaluate(cnn, data.val, nn.CrossEntropyLoss()).accuracy
    assert accuracy == pytest.approx(run.best_val_accuracy)
    assert run.best_val_accuracy == max(row["val_accuracy"] for row in run.history)
    first = next(row["epoch"] for row in run.history if row["val_accuracy"] == accuracy)
    assert run.best_epoch == first  # of equals the first


def test_two_runs_with_one_seed_are_equal_bit_for_bit(data):
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        model = bn_cnn(3, widths=(8, 16))
        train(model, data)
        states.append(state_of(model))
    assert equal(*states)


def test_patience_stops_early_and_keeps_the_best():
    model, data = linear(), vector_data(noise=0.1)
    run = train(model, data, num_epochs=40, patience=2)
    assert run.num_epochs < 40
    assert run.best_epoch == run.num_epochs - 2


def test_reduced_precision_keeps_the_weights_in_float32(cnn, data):
    run = train(cnn, data, precision=torch.bfloat16)
    assert {p.dtype for p in cnn.parameters()} == {torch.float32}
    assert run.settings["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("layer", "expected"),
    [(nn.Conv2d(3, 6, 3, groups=3), "float32"), (nn.Conv2d(3, 6, 3), "bfloat16")],
)
def test_depthwise_networks_stay_with_float32_on_a_cpu(data, layer, expected):
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    data = dataclasses.replace(data, precision=torch.bfloat16)
    assert train(model, data, num_epochs=1).settings["precision"] == expected


def test_the_settings_are_those_with_which_it_ran():
    model, data = linear(), vector_data()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    scheduler = OneCycleLR(optimizer, 0.3, total_steps=2 * len(data.train))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.2)
    run = train_model(model, data, criterion, optimizer, scheduler, num_epochs=2, progress=False)
    assert run.settings["criterion"]["label_smoothing"] == 0.2
    (group,) = run.settings["optimizer"]["groups"]
    assert (group["lr"], group["weight_decay"], group["tensors"]) == (0.3, 0.1, 2)
    assert run.settings["scheduler"]["step"] == "batch"
    assert (run.settings["batch_size"], run.settings["num_epochs"]) == (8, 2)
    assert (run.settings["device"], run.settings["precision"]) == ("cpu", "float32")


def test_the_table_says_what_its_numbers_are_about(cnn, data, capsys):
    optimizer = torch.optim.SGD(cnn.parameters(), lr=0.05)
    noted = dataclasses.replace(data, note="drawn")
    run = train_model(cnn, noted, nn.CrossEntropyLoss(), optimizer, num_epochs=2)
    said = capsys.readouterr().out
    assert f"best on val: epoch {run.best_epoch}, {run.best_val_accuracy:.1%} (drawn)" in said


# Refused before the first step


@pytest.mark.parametrize("length", [13, 15, 2])
def test_a_schedule_of_another_length_is_refused(length):
    model, data = linear(), vector_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=length)
    with pytest.raises(KitError, match=f"schedule is {length} steps long, but the run is 14") as e:
        train_model(model, data, nn.CrossEntropyLoss(), optimizer, scheduler, num_epochs=2)
    assert ('step_scheduler="epoch"' in str(e.value)) == (length == 2)


def test_a_schedule_that_was_used_up_is_refused():
    model, data = linear(), vector_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=14)

    def run() -> None:
        train_model(model, data, nn.CrossEntropyLoss(), optimizer, scheduler, num_epochs=2,
                    progress=False)  # fmt: skip

    run()
    with pytest.raises(KitError, match="has 0 of its 14 steps left"):
        run()


BATCHES = 7  # of an epoch of `vector_data()`
SCHEDULES = [  # a schedule, what is asked for, and the steps that it has taken before each epoch
    (lambda o: StepLR(o, 1, 0.1), None, "epoch"),
    (lambda o: ExponentialLR(o, 0.9), None, "epoch"),
    (lambda o: ExponentialLR(o, 0.9), "batch", "batch"),
    (lambda o: CosineAnnealingLR(o, 3), None, "epoch"),
    (lambda o: CosineAnnealingLR(o, 3 * BATCHES), None, "batch"),
    (lambda o: OneCycleLR(o, 0.5, total_steps=3 * BATCHES), None, "batch"),
    (lambda o: OneCycleLR(o, 0.5, total_steps=3), "epoch", "epoch"),
    (lambda o: CyclicLR(o, 0.1, 0.5, step_size_up=5), None, "batch"),
]


@pytest.mark.parametrize(("make", "wanted", "after"), SCHEDULES)
def test_a_schedule_is_stepped_as_it_is_meant_or_as_it_is_asked_for(make, wanted, after):
    def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    model, data = linear(), vector_data()
    assert len(data.train) == BATCHES
    optimizer = optimizer_of(model)
    run = train_model(model, data, nn.CrossEntropyLoss(), optimizer, make(optimizer), num_epochs=3,
                      step_scheduler=wanted, progress=False)  # fmt: skip
    other = optimizer_of(linear())
    alone, rates = make(other), []
    for _ in range(3):
        rates.append(other.param_groups[0]["lr"])
        for _ in range(BATCHES if after == "batch" else 1):
            other.step()
            if alone.last_epoch < getattr(alone, "total_steps", 10**6) - 1:
                alone.step()
    assert [row["learning_rate"] for row in run.history] == pytest.approx(rates)
    assert run.settings["scheduler"]["step"] == after


def test_a_schedule_that_watches_val_is_stepped_after_each_epoch():
    model, data = linear(), vector_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = ReduceLROnPlateau(optimizer)
    train_model(model, data, nn.CrossEntropyLoss(), optimizer, scheduler, num_epochs=3,
                progress=False)  # fmt: skip
    assert scheduler.last_epoch == 3


def foreign_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([*model.parameters(), nn.Parameter(torch.zeros(2))], lr=0.1)


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        (3, {"num_epochs": 0}, "num_epochs=0: use at least 1"),
        (2, {}, "label 2 is beyond the head's 2 outputs: give its last layer 3"),
        (7, {}, r"7 outputs for 3 classes \(a new head .* near a loss of ln 7 = 1.95\)"),
        (3, {"step_scheduler": "step"}, 'step_scheduler=\'step\': use "batch" or "epoch"'),
        (3, {"optimizer": foreign_optimizer}, "1 of the optimizer's 3 tensors belong to another"),
        (3, {"scheduler": ReduceLROnPlateau, "step_scheduler": "batch"}, "watches val loss"),
        (
            3,
            {"scheduler": lambda _: StepLR(torch.optim.SGD(linear().parameters(), lr=0.1), 2)},
            "the schedule belongs to another optimizer: make one for this optimizer",
        ),
        (3, {"criterion": nn.CrossEntropyLoss}, r"is a class: write CrossEntropyLoss\(\), with"),
        (3, {"criterion": nn.CrossEntropyLoss(reduction="sum")}, "has reduction='sum', and every"),
        (3, {"criterion": nn.CrossEntropyLoss(weight=torch.ones(4))}, "CrossEntropyLoss cannot co"),
        (3, {"criterion": nn.CrossEntropyLoss(weight=torch.ones(3).double())}, "cannot compare"),
        (3, {"criterion": nn.BCEWithLogitsLoss()}, r"cannot compare logits \(8, 3\) with class nu"),
        (3, {"criterion": nn.MSELoss()}, r"MSELoss cannot compare .*CrossEntropyLoss\(\) does"),
        (3, {"criterion": lambda logits, labels: logits}, r"gives a tensor of shape \(8, 3\): it"),
    ],
)
def test_what_does_not_fit_together_is_told_before_the_first_step(outputs, options, message):
    model, data, options = linear(outputs), vector_data(), dict(options)
    before = state_of(model)
    optimizer = options.pop("optimizer", lambda m: torch.optim.SGD(m.parameters(), lr=0.1))(model)
    scheduler = options.pop("scheduler", lambda _: None)(optimizer)
    criterion = options.pop("criterion", nn.CrossEntropyLoss())
    with pytest.raises(KitError, match=message):
        train_model(model, data, criterion, optimizer, scheduler,
                    **{"num_epochs": 1, "progress": False, **options})  # fmt: skip
    assert equal(before, model.state_dict())


def test_networks_that_cannot_learn_or_cannot_take_the_pictures(data, cnn):
    with pytest.raises(KitError, match="nothing to train: every parameter is frozen"):
        train(freeze(cnn), data)
    deep = nn.Sequential(nn.Conv2d(3, 3, 17), nn.Flatten(), nn.Linear(3, 3))
    with pytest.raises(KitError, match="cannot take samples of 3 x 16 x 16: "):
        optimizer = torch.optim.SGD(deep[0].parameters(), lr=0.1)
        train_model(deep, data, nn.CrossEntropyLoss(), optimizer, num_epochs=1)
    half = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).half()
    with pytest.raises(KitError, match=r"cannot take samples of 3 x 16 x 16: [^.]*(Half|dtype)"):
        train(half, data)
    with pytest.raises(KitError, match="Pictures are too small for it: use a larger size"):
        train(torchvision.models.vit_b_32(num_classes=3, image_size=32), data)
    partly = nn.Sequential(nn.Flatten(), nn.Linear(768, 5).requires_grad_(False), nn.Linear(5, 3))
    with pytest.raises(KitError, match="every tensor of the optimizer is frozen, and what is not"):
        optimizer = torch.optim.SGD(partly[1].parameters(), lr=0.1)
        train_model(partly, data, nn.CrossEntropyLoss(), optimizer, num_epochs=1)
    one = {split: DataLoader(loader.dataset, 1) for split, loader in data.dataloaders.items()}
    with pytest.raises(KitError, match="BatchNorm cannot train on batches of one sample: use batc"):
        train(bn_cnn(3, widths=(8, 16)), one)
    flat = nn.Conv2d(3, 3, 1)
    with pytest.raises(
        KitError, match=r"gives a tensor of shape \(12, 3, 16, 16\): it must be logits"
    ):
        train(flat, data)


class Returns(nn.Module):
    """A network that returns more than its logits, or in another wrapping."""

    def __init__(self, wrap):
        super().__init__()
        self.inner, self.wrap = linear(), wrap

    def forward(self, samples):
        return self.wrap(self.inner(samples))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: (logits, logits.detach() * 0),
        lambda logits: types.SimpleNamespace(logits=logits, hidden=None),
        lambda logits: [logits],
    ],
    ids=["tuple", "object", "list"],
)
def test_networks_that_return_more_than_logits_learn_alike(wrap):
    runs = []
    for model in (linear(), Returns(wrap)):
        data = vector_data()
        run = train(model, data)
        score = helpers.test(model, data)
        runs.append(([row["train_loss"] for row in run.history], score.correct, score.loss))
    assert runs[0] == runs[1]


def test_a_network_without_logits_is_told():
    with pytest.raises(KitError, match="the network gives a dict: it must be logits, a tensor"):
        train(Returns(lambda logits: {"scores": logits}), vector_data())


# Evaluation and tests


def test_a_loss_that_is_nan_stops_the_run_at_once():
    data, model = vector_data(), nn.Linear(6, 3)
    steps = []
    model.register_forward_pre_hook(lambda *_: steps.append(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e38)
    with pytest.raises(KitError, match=r"the loss is NaN, .*: use a lower learning rate"):
        train_model(model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=50, progress=False)
    assert len(steps) < 2 * len(data.train)


def test_a_network_that_flattens_with_view_is_trained_evaluated_and_tested(data):
    """In channels last, `view` of maps is an error: such a network stays as it was written."""

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16 * 16, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = torch.relu(self.conv(images))
            return self.fc(maps.view(maps.size(0), -1))

    model = Views()
    assert evaluate(model, data.val, nn.CrossEntropyLoss()).seen == 12
    run = train(model, data)
    assert helpers.test(model, data).accuracy >= 0 and run.num_epochs == 2


def test_evaluation_leaves_modes_and_weights_alone(cnn, data):
    cnn[1].eval()  # a layer of its own mode
    modes, before = [layer.training for layer in cnn.modules()], state_of(cnn)
    evaluate(cnn, data.val, nn.CrossEntropyLoss())
    helpers.test(cnn, data)
    assert [layer.training for layer in cnn.modules()] == modes
    assert equal(before, cnn.state_dict())


def test_a_score_counts_every_sample_and_every_class():
    logits = torch.eye(7)[torch.tensor([0, 1, 1, 2, 2, 2])] * 5
    labels = torch.tensor([0, 1, 2, 2, 2, 3])
    loader = DataLoader(TensorDataset(logits, labels), batch_size=4)
    score = helpers.test(nn.Identity(), loader)
    assert (score.correct, score.total) == (4, 6)
    assert score.accuracy == pytest.approx(4 / 6)
    assert score.predictions.tolist() == [0, 1, 1, 2, 2, 2]
    assert score.per_class[:4].tolist() == pytest.approx([1, 1, 2 / 3, 0])
    assert score.per_class[4:].isnan().all()
    assert score.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item())
    assert torch.allclose(score.probabilities.sum(dim=1), torch.ones(6))
    assert score.ids == [f"{number:05d}" for number in range(6)]
    assert "accuracy 66.7% (4/6), 95 % interval 30.0% to 90.3%; top-5 " in str(score)


def test_a_label_without_a_column_is_refused():
    loader = DataLoader(TensorDataset(torch.randn(4, 3), torch.tensor([0, 1, 2, 3])))
    with pytest.raises(KitError, match="label 3 has no column in 3 logits"):
        helpers.test(nn.Identity(), loader)


# Features


@pytest.fixture
def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    return freeze(resnet18(3), keep="fc")


def test_features_are_what_enters_the_head(data, small_resnet):
    features = compute_features(small_resnet, small_resnet.fc, data, precision=torch.float32)
    assert isinstance(features, Data)
    assert features.sizes == data.sizes and features.fingerprint == data.fingerprint
    vectors, labels = features.test.dataset.tensors
    assert vectors.shape == (12, 512) and vectors.dtype == torch.float32
    images, expected = next(iter(data.test))
    small_resnet.eval()
    assert torch.allclose(small_resnet.fc(vectors), small_resnet(images), atol=1e-4)
    assert torch.equal(labels, expected)
    assert ids_of(features.test.dataset) == ids_of(data.test.dataset)
    assert features.feature_seconds > 0


def test_views_are_plain_then_augmented_and_each_picture_goes_through_once(data, cnn):
    seen = []
    cnn.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    features = compute_features(cnn, cnn[-1], data, views=3)
    assert sum(seen) == 3 * 36 + 12 + 12
    vectors, labels = features.train.dataset.tensors
    plain, first, second = vectors.view(3, 36, -1)
    expected = compute_features(cnn, cnn[-1], data.without_augmentation()).train.dataset.vectors
    assert torch.equal(plain, expected)
    assert not torch.equal(first, plain) and not torch.equal(first, second)
    assert torch.equal(labels, labels[:36].repeat(3))
    again = compute_features(cnn, cnn[-1], data, views=3).train.dataset.vectors
    assert torch.equal(again, vectors)


def test_a_head_learns_on_features_and_the_network_with_it(data, small_resnet):
    features = compute_features(small_resnet, small_resnet.fc, data)
    run = train(small_resnet.fc, features, num_epochs=10)
    assert run.seconds["features"] == features.feature_seconds
    assert run.training_seconds > features.feature_seconds
    whole = helpers.test(small_resnet, data)
    assert whole.accuracy == helpers.test(small_resnet.fc, features).accuracy > 0.8


def test_a_network_can_be_trained_after_it_was_looked_at(data, small_resnet):
    helpers.test(small_resnet, data)
    evaluate(small_resnet, data.val, nn.CrossEntropyLoss())
    compute_features(small_resnet, small_resnet.fc, data)
    before = state_of(small_resnet)
    train(small_resnet, data, num_epochs=1)
    after = small_resnet.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "fc.weight", "fc.bias"
    }  # fmt: skip


# Memory

TOO_MUCH = [
    (torch.cuda.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB."),
    (RuntimeError, "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
    (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    (RuntimeError, "MPS backend out of memory (MPS allocated: 9 GB)"),
    (MemoryError, ""),
]


class Hungry(nn.Linear):
    """A layer that finds no memory when its batch is too large, in train mode or always."""

    def __init__(self, kind: type, text: str, *, only_training: bool) -> None:
        super().__init__(6, 3)
        self.kind, self.text, self.only_training = kind, text, only_training
        self.made: list = []

    def forward(self, values):
        logits = super().forward(values)
        self.made.append(weakref.ref(logits))
        if (self.training or not self.only_training) and len(values) > 4:
            raise self.kind(self.text)
        return logits


@pytest.mark.parametrize("only_training", [True, False])
def test_out_of_memory_frees_what_it_held_and_says_what_to_change(only_training):
    model = Hungry(*TOO_MUCH[0], only_training=only_training)
    with pytest.raises(
        KitError, match=r"^out of memory\. Close other notebooks.* batch_size"
    ) as caught:
        train(model, vector_data())
    assert model.made
    assert not [tensor for tensor in model.made if tensor() is not None], (
        caught
    )  # it is still there
    assert all(parameter.grad is None for parameter in model.parameters())
