"""The TODO cells of the notebooks: a solution passes its checks, and what goes wrong does not."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import helpers
from coursekit.handin.release import BEGIN, END, roles
from coursekit.notebooks import METHOD_OF, read_notebook, select_notebooks

CLASSES = 5


class Net(nn.Module):
    """A network with a head under both of the names that the notebooks' networks have."""

    def __init__(self, classes: int, pretrained: str | None = "drawn") -> None:
        super().__init__()
        self.features, self.fc = nn.Linear(4, 512), nn.Linear(512, classes)
        self.weights_kind = pretrained or "random"


class HeadBelow(Net):
    """The same with EfficientNet's name."""

    def __init__(self, classes: int, pretrained: str | None = "drawn") -> None:
        super().__init__(classes, pretrained)
        self._fc = self.fc
        del self.fc


def make_features(model, head, data, *, views, device, precision):
    vectors = torch.zeros(views * data.sizes["train"], head.in_features)
    train = SimpleNamespace(dataset=SimpleNamespace(vectors=vectors))
    return SimpleNamespace(train=train, feature_seconds=1.0)


def train(model, data, criterion, optimizer, scheduler, *, num_epochs, **options):
    first = criterion(torch.zeros(3, CLASSES), torch.tensor([0, 1, 2])).item()
    return SimpleNamespace(first_loss=first, num_epochs=num_epochs, history=[{}] * num_epochs)


def nothing(*values, **options) -> None:
    """Draws nothing, prints nothing."""


def namespace(number: str) -> dict:
    """What the cells above a TODO have made, as small as can be."""
    network = HeadBelow if number == "05" else Net
    here = SimpleNamespace(
        seed=0, pretrained="drawn", device="cpu", precision=torch.float32, checkpoints_dir=Path("c")
    )
    here.suited_to = lambda model: here
    sizes = {"train": 6, "val": 3, "test": 3}
    data = SimpleNamespace(num_classes=CLASSES, train=range(7), sizes=sizes, note="")
    return {
        "torch": torch, "nn": nn, "math": math, "copy": copy, "workspace": here, "data": data,
        "recipe": helpers.get_recipe(METHOD_OF[number], "mini"), "model": network(CLASSES),
        "features": data, "criterion": nn.CrossEntropyLoss(), "optimizer": None, "scheduler": None,
        "bn_cnn": network, "resnet18": network, "efficientnet_b5": network,
        "freeze": helpers.freeze, "count_parameters": helpers.count_parameters,
        "compute_features": make_features, "train_model": train, "plot_schedule": nothing,
        "plot_history": nothing,
    }  # fmt: skip


def pairs() -> list[tuple[str, str, str]]:
    """Every TODO of the notebooks: its notebook's number, its source, and that of its check."""
    found = []
    for path in select_notebooks(list(METHOD_OF)):
        cells = read_notebook(path).cells
        todo = None
        for cell, role in zip(cells, roles(SimpleNamespace(cells=cells)), strict=True):
            if role == "todo":
                todo = cell.source
            elif role == "check":
                found.append((path.name[:2], todo, cell.source))
    return found


PAIRS = pairs()
WRONG = {  # what stands in a solution, and what somebody may write instead
    "recipe.label_smoothing)": ["0.3)"],
    "optim.AdamW(\n    model": ["optim.Adam(\n    model"],
    "    model.parameters(), lr": ["    model.fc.parameters(), lr"],
    "weight_decay=recipe.weight_decay": ["weight_decay=0"],
    "optimizer, recipe.head_lr, total": ["optimizer, 1.0, total"],
    "total_steps=recipe.num_epochs * len(data.train)": ["total_steps=recipe.num_epochs"],
    "optimizer, scheduler, num_epochs=recipe.num_epochs": ["optimizer, scheduler, num_epochs=1"],
    "(data.num_classes, ": ["(1000, "],
    "pretrained=workspace.pretrained": ["pretrained=None"],
    '[{"params": backbone, "lr": recipe.backbone_lr}, {"params": head, "lr": recipe.head_lr}]': [
        '[{"params": head}, {"params": backbone}]',
        "model.parameters()",
        '[{"params": []}, {"params": head}]',
    ],
    "[recipe.backbone_lr, recipe.head_lr]": ["[recipe.head_lr, recipe.head_lr]"],
    "optim.SGD(\n    [": ["optim.RMSprop(\n    ["],
    "optim.SGD(\n    model": ["optim.RMSprop(\n    model"],
    "optim.AdamW(\n    [": ["optim.Adam(\n    ["],
    'freeze(model, keep="fc")': ['freeze(model, keep="features")', "model"],
    "views=2": ["views=1"],
    "    model.fc.parameters(), lr": ["    model.parameters(), lr"],
}


def name_of(value: object) -> str:
    return value if isinstance(value, str) and len(value) == 2 else ""


@pytest.mark.parametrize(("number", "todo", "check"), PAIRS, ids=name_of)
def test_the_solution_passes_its_check(number, todo, check):
    assert BEGIN in todo
    comment = todo.partition(BEGIN)[0].splitlines()[-1]
    assert comment.startswith("# ")  # it says what to write
    names = namespace(number)
    exec(todo, names)
    exec(check, names)


def test_each_of_four_notebooks_has_todos():
    assert [number for number, _, _ in PAIRS] == ["02"] * 2 + ["03"] * 3 + ["04"] * 3 + ["05"] * 3


def mistakes() -> list:
    """Each TODO with one thing wrong in its solution."""
    found = []
    for number, todo, check in PAIRS:
        above, begin, solution = todo.partition(BEGIN)
        solution, end, below = solution.partition(END)
        for right, wrongs in WRONG.items():
            for wrong in wrongs if right in solution else ():
                changed = solution.replace(right, wrong)
                if "RMSprop" in wrong:
                    changed = changed.replace("nesterov=True,", "")  # it does not know that
                source = above + begin + changed + end + below
                found.append(pytest.param(number, source, check, id=f"{number}: {wrong[:40]}"))
    return found


@pytest.mark.parametrize(("number", "todo", "check"), mistakes())
def test_a_mistake_does_not_pass(number, todo, check):
    names = namespace(number)
    with pytest.raises((AssertionError, ValueError)):  # a wrong number of groups is no assert
        exec(todo, names)
        exec(check, names)


def test_every_mistake_is_one_that_can_be_made():
    solutions = [todo.partition(BEGIN)[2].partition(END)[0] for _, todo, _ in PAIRS]
    assert [right for right in WRONG if not any(right in one for one in solutions)] == []
