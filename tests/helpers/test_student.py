"""What a student writes with PyTorch alone, and nothing of helpers but their public names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, ReduceLROnPlateau, StepLR
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    random_split,
)
from torchvision import datasets, transforms
from torchvision.transforms import v2

import helpers
from helpers import KitError, compute_features, load_results, save_result, train_model
from tools.cells import run_cells

NOTEBOOK_06 = Path(__file__).resolve().parents[2] / "notebooks" / "06_comparison.ipynb"
COLORS = ("red", "green", "blue")


class Net(nn.Module):
    """A network that helpers have never seen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.bn(self.conv(images))).mean((2, 3)))


class Unfollowable(Net):
    """A network whose way depends on what it sees, which torch.export cannot follow."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if images.mean() > 0 else images + 0.01)


TRANSFORMS = {
    "v1": transforms.Compose(
        [
            transforms.Resize(20),
            transforms.RandomCrop(16),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    ),
    "v2": v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(20),
            v2.RandomCrop(16),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ImageFolder: 21 pictures of each of three colours."""
    root, noise = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for channel, name in enumerate(COLORS):
        (root / name).mkdir()
        for number in range(21):
            pixels = noise.integers(0, 80, (40, 50, 3))
            pixels[..., channel] += 150
            Image.fromarray(pixels.astype("uint8")).save(root / name / f"{number}.png")
    return root


def own_loaders(dataset: Dataset, sizes: tuple[int, int, int]) -> dict[str, DataLoader]:
    """Three splits, in batches of 8."""
    parts = random_split(dataset, sizes, generator=torch.Generator().manual_seed(0))
    return {
        split: DataLoader(part, batch_size=8, shuffle=split == "train")
        for split, part in zip(("train", "val", "test"), parts, strict=True)
    }


@pytest.fixture
def loaders(root: Path) -> dict[str, DataLoader]:
    """33 samples in batches of 8: the last one would be alone before BatchNorm."""
    return own_loaders(datasets.ImageFolder(root, transform=TRANSFORMS["v1"]), (33, 15, 15))


def train(
    model: nn.Module, loaders: dict, epochs: int = 2, **options
) -> helpers.training.TrainingRun:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, num_epochs=epochs,
                       progress=False, **options)  # fmt: skip


def record(workspace, model: nn.Module, loaders: dict, method: str = "my_net") -> Path:
    run = train(model, loaders)
    score = helpers.test(model, loaders)
    return save_result(workspace, {"method": method, "lr": 0.1}, model=model, data=loaders, run=run,
                       score=score)  # fmt: skip


@pytest.mark.parametrize("version", TRANSFORMS)
def test_own_pictures_own_network_own_schedule(workspace, root, version, capsys):
    """From the folder to the comparison, as notebook 06 draws it."""
    torch.manual_seed(0)
    loaders = own_loaders(datasets.ImageFolder(root, transform=TRANSFORMS[version]), (33, 15, 15))
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = train_model(
        model, loaders, nn.CrossEntropyLoss(), optimizer, StepLR(optimizer, 2), num_epochs=6,
        step_scheduler="epoch", progress=False,
    )  # fmt: skip
    assert [row["learning_rate"] for row in run.history] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]
    score = helpers.test(model, loaders)
    assert score.accuracy > 0.6
    assert set(score.ids) < {f"{name}/{number}.png" for name in COLORS for number in range(21)}
    recipe = {"method": "my_net", "lr": 0.1, "decay": StepLR}
    folder = save_result(workspace, recipe, model=model, data=loaders, run=run, score=score)
    kept = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert kept["data"]["class_names"] == sorted(COLORS)
    assert kept["data"]["normalization"] == {"mean": [0.5] * 3, "std": [0.25] * 3}
    assert kept["settings"]["scheduler"]["name"] == "StepLR"
    assert kept["input_shape"] == [3, 16, 16]

    (result,) = load_results(workspace, loaders)
    (row,) = helpers.comparison_table([result])
    assert row["Method"] == "my_net" and row["Test accuracy"] == f"{score.accuracy:.1%}"
    networks = helpers.load_trained(workspace, [result])
    for figure in (
        helpers.plot_results([result]),
        helpers.plot_results([result], x="training_seconds"),
        helpers.plot_history({"mine": result.run}, x="fraction"),
        helpers.show_confident_mistakes(result, loaders),
        helpers.show_confused([result], loaders),
        helpers.compare_grad_cam(networks, loaders),
        helpers.classify_photo(networks, root / "red" / "3.png", loaders),
        helpers.classify_photo(networks, "", loaders),
    ):
        figure.canvas.draw()  # it can be
    assert "3.png: whatever it shows, the answer is one of 3 classes" in capsys.readouterr().out


def texts(figures: list) -> str:
    """All that is written in some figures."""
    return "\n".join(
        text.get_text().replace("\n", " ")
        for figure in figures
        if isinstance(figure, Figure)
        for text in figure.findobj(plt.Text)
    )


def test_notebook_06_shows_an_own_network(workspace, loaders, capsys):
    record(workspace, Net(), loaders)
    figures = run_cells(NOTEBOOK_06, {})
    said = capsys.readouterr().out
    assert "found:   my_net" in said
    assert "my_net was tested on other pictures" in said
    assert "my_net                      sees  16 pixels, looks with bn" in said
    assert sum(isinstance(figure, Figure) for figure in figures) >= 7
    assert texts(figures).count("my_net") >= 4
    assert "green" in texts(figures)  # the photo cell knows the network's own classes


def test_notebook_06_needs_no_class_of_the_network(workspace, loaders):
    """In a fresh process, where `Net` does not exist."""
    record(workspace, Net(), loaders)
    tests, kit = Path(__file__).parents[1], NOTEBOOK_06.parents[1]
    code = (
        "import sys; from pathlib import Path; from tools.cells import run_cells\n"
        "print('photo of', run_cells(Path(sys.argv[1]), {})[-2].axes[0].get_ylabel())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(NOTEBOOK_06)],
        capture_output=True,
        text=True,
        check=False,
        cwd=NOTEBOOK_06.parent,
        env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{kit}", "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "photo of my_net"


def test_a_network_that_cannot_be_exported_is_recorded_all_the_same(workspace, loaders, capsys):
    folder = record(workspace, Unfollowable(), loaders)
    kept = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert kept["network_fault"] and "network.pt2" not in kept["files"]
    assert not (folder / "network.pt2").exists()
    assert "notebook 06 cannot ask this network" in capsys.readouterr().out
    results = load_results(workspace, loaders)
    assert len(helpers.comparison_table(results)) == 1
    assert helpers.load_trained(workspace, results) == []
    assert "left out: my_net, because torch.export could not" in capsys.readouterr().out
    assert isinstance(helpers.plot_results(results), Figure)
    weights = torch.load(folder / "weights.pt", weights_only=True)
    Unfollowable().load_state_dict(weights)


# Other data sets


class Numbers(Dataset):
    """A data set of one's own, with nothing but what PyTorch asks for."""

    def __init__(self, count: int) -> None:
        self.samples = [(torch.full((3, 8, 8), float(n % 3)), n % 3) for n in range(count)]
        self.classes = 3  # not a list of names

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.samples[index]


def tensors(count: int) -> TensorDataset:
    labels = torch.arange(count) % 3
    return TensorDataset(torch.eye(3)[labels][:, :, None, None].expand(-1, -1, 8, 8), labels)


def fake(count: int) -> Dataset:
    to_tensor = transforms.ToTensor()
    return datasets.FakeData(count, image_size=(3, 8, 8), num_classes=3, transform=to_tensor)


SETS = {
    "TensorDataset": tensors,
    "own": Numbers,
    "FakeData": fake,
    "Subset": lambda count: Subset(tensors(2 * count), range(0, 2 * count, 2)),
    "ConcatDataset": lambda count: ConcatDataset([tensors(count - 5), tensors(5)]),
    "nested": lambda count: Subset(ConcatDataset([Numbers(count), Numbers(4)]), range(count)),
}


@pytest.mark.parametrize("kind", SETS)
def test_any_data_set_is_trained_on_tested_and_recorded(workspace, kind):
    sets = {"train": SETS[kind](33), "val": SETS[kind](12), "test": SETS[kind](12)}
    loaders = {split: DataLoader(one, batch_size=8) for split, one in sets.items()}
    folder = record(workspace, Net(), loaders)
    kept = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert kept["data"]["sizes"] == {"train": 33, "val": 12, "test": 12}
    assert kept["data"]["class_names"] == ["class 0", "class 1", "class 2"]
    (result,) = load_results(workspace, loaders)
    assert result.labels.tolist() == [int(sets["test"][n][1]) for n in range(12)]
    assert len(set(result.ids)) == 12
    assert "train, val and test as the data set has them" in helpers.describe_data(loaders)
    assert isinstance(helpers.plot_class_balance(loaders), Figure)
    model = Net()
    features = compute_features(model, model.fc, loaders)
    assert features.train.dataset.tensors[0].shape == (33, 8)


def test_one_loader_of_another_split_can_be_tested(loaders):
    model = Net()
    assert helpers.test(model, {"test": loaders["test"]}).total == 15
    assert helpers.test(model, loaders, split="val").total == 15
    with pytest.raises(KitError, match="no 'tset' split: it is one of train, val, test"):
        helpers.test(model, loaders, split="tset")


def test_a_last_sample_never_meets_batchnorm_alone(loaders):
    seen: list[int] = []
    model = Net()
    model.register_forward_pre_hook(
        lambda layer, inputs: seen.append(len(inputs[0])) if layer.training else None
    )
    assert [len(labels) for _, labels in loaders["train"]][-1] == 1
    train(model, loaders, epochs=1)
    assert seen == [8, 8, 8, 9]


@pytest.mark.parametrize("sampler", ["shuffled", "some"])
def test_predictions_are_in_the_order_of_the_data_set(root, sampler):
    dataset = datasets.ImageFolder(root, transform=transforms.Compose(
        [transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()]
    ))  # fmt: skip
    some = [50, 3, 20, 41, 7]
    loader = DataLoader(dataset, batch_size=8, shuffle=True)
    if sampler == "some":
        loader = DataLoader(dataset, batch_size=8, sampler=SubsetRandomSampler(some))
    score = helpers.test(Net(), loader)
    every = [f"{Path(p).parent.name}/{Path(p).name}" for p, _ in dataset.samples]
    expected = every if sampler == "shuffled" else [every[index] for index in sorted(some)]
    assert score.ids == expected
    assert score.labels.tolist() == [dataset.class_to_idx[name.split("/")[0]] for name in score.ids]


# Schedules


@pytest.mark.parametrize(
    ("make", "rates"),
    [
        (lambda optimizer: CosineAnnealingLR(optimizer, T_max=4), [0.1, 0.0854, 0.05, 0.0146]),
        (lambda optimizer: MultiStepLR(optimizer, [1, 3]), [0.1, 0.01, 0.01, 0.001]),
        (
            lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, threshold=1.0, factor=0.5),
            [0.1, 0.05, 0.025, 0.0125],
        ),
    ],
    ids=["CosineAnnealingLR", "MultiStepLR", "ReduceLROnPlateau"],
)
def test_schedules_that_count_epochs(workspace, make, rates):
    loaders = {split: DataLoader(tensors(16), batch_size=8) for split in ("train", "val", "test")}
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, make(optimizer),
                      num_epochs=4, step_scheduler="epoch", progress=False)  # fmt: skip
    assert [row["learning_rate"] for row in run.history] == pytest.approx(rates, abs=1e-4)
    score = helpers.test(model, loaders)
    save_result(workspace, {"method": "m"}, model=model, data=loaders, run=run, score=score)
    (result,) = load_results(workspace)
    assert result.record["settings"]["scheduler"]["step"] == "epoch"


def test_a_plateau_of_the_accuracy_is_watched_where_the_schedule_says_max():
    loaders = {split: DataLoader(tensors(24), batch_size=8) for split in ("train", "val")}
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = ReduceLROnPlateau(optimizer, mode="max", patience=0)
    run = train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, schedule, num_epochs=3,
                      step_scheduler="epoch", progress=False)  # fmt: skip
    assert schedule.best == run.best_val_accuracy
