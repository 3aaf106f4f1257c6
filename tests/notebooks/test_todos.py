"""The TODO cells of the notebooks: a solution passes its checks, and what goes wrong does not.

They run here as they are, one after the other, on a few small pictures of noise.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from coursekit.handin.edition import roles
from coursekit.notebooks import METHOD_OF, code_cells, read_notebook, select_notebooks
from coursekit.questions import BEGIN, END
from helpers.data import Data
from helpers.errors import KitError
from helpers.recipes import get_recipe
from helpers.workspace import find_workspace

CLASSES, PICTURES = 5, 10
MISTAKES = [  # what stands in a solution, and what somebody may write instead
    (r"label_smoothing=recipe\.label_smoothing", "label_smoothing=0.3"),
    (r"optim\.AdamW", "optim.Adam"),
    (r"optim\.SGD\((.*?)momentum=0.9, nesterov=True,", r"optim.Adagrad(\1"),
    (r"optimizer, recipe\.head_lr", "optimizer, 1.0"),
    (r"weight_decay=recipe\.weight_decay", "weight_decay=0"),
    (r"total_steps=recipe\.num_epochs \* len\(data\.train\)", "total_steps=recipe.num_epochs"),
    (r"num_epochs=recipe\.num_epochs", "num_epochs=1"),
    (r"\(data\.num_classes", "(1000"),
    (r"pretrained=workspace\.pretrained", "pretrained=None"),
    (r"    model\.parameters\(\), lr", "    list(model.parameters())[:2], lr"),
    (r"model\.fc\.parameters\(\), lr", "model.parameters(), lr"),
    (r"\[\{.*?\}, \{.*?\}\]", '[{"params": head}, {"params": backbone}]'),
    (r"\[\{.*?\}, \{.*?\}\]", '[{"params": []}, {"params": head}]'),
    (r"\[\{.*?\}, \{.*?\}\]", "model.parameters()"),
    (r"\[recipe\.backbone_lr, recipe\.head_lr\]", "[recipe.head_lr, recipe.head_lr]"),
    (r'keep="fc"', 'keep="layer4"'),
    (r"freeze\(model, .*?\)", "model"),
    (r"views=2", "views=1"),
]


def steps_of(number: str) -> list[tuple[str, str]]:
    """The TODOs of a notebook in their order, each as its source and that of its check."""
    (path,) = select_notebooks([number])
    notebook, steps, todo = read_notebook(path), [], ""
    for cell, role in zip(notebook.cells, roles(notebook), strict=True):
        if role == "todo":
            todo = cell.source
        elif role == "check":
            steps.append((todo, cell.source))
    return steps


STEPS = {number: steps_of(number) for number in METHOD_OF}
TODOS = [(number, place) for number, steps in STEPS.items() for place in range(len(steps))]


def solution_of(todo: str) -> str:
    return todo.partition(BEGIN)[2].partition(END)[0]


def mistakes() -> list[Any]:
    """Each TODO with one thing wrong in its solution; of equal ones in two notebooks, the first."""
    found = {}
    for number, place in TODOS:
        todo = STEPS[number][place][0]
        for right, wrong in MISTAKES:
            solution = re.sub(right, wrong, solution_of(todo), flags=re.DOTALL)
            if solution != solution_of(todo) and solution not in found:
                source = todo.replace(solution_of(todo), solution)
                name = f"{number}: {wrong[:30]}"
                found[solution] = pytest.param(number, place, source, id=name)
    return list(found.values())


@pytest.fixture
def names(tmp_path, monkeypatch, request) -> dict[str, Any]:
    """What the cells above the first TODO of a notebook have made."""
    number = request.getfixturevalue("number")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path))
    (path,) = select_notebooks([number])
    tree = ast.parse(code_cells(read_notebook(path))[0].source)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names: dict[str, Any] = {}
    exec(ast.unparse(ast.Module(imports, [])), names)
    images = torch.randn(PICTURES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pictures = TensorDataset(images, torch.arange(PICTURES) % CLASSES)
    loaders = {
        split: DataLoader(pictures, batch_size=5, shuffle=split == "train")
        for split in ("train", "val", "test")
    }
    return names | {
        "workspace": find_workspace(profile="mini", device="cpu"),
        "recipe": replace(get_recipe(METHOD_OF[number], "mini"), num_epochs=3),
        "data": Data.from_loaders(loaders),
    }


def run(names: dict[str, Any], *sources: str) -> None:
    for source in sources:
        exec(source, names)


@pytest.mark.parametrize("number", STEPS)
def test_the_solutions_pass_their_checks(number, names):
    assert STEPS[number]
    for todo, check in STEPS[number]:
        assert todo.partition(BEGIN)[0].splitlines()[-1].startswith("# ")  # it says what to write
        run(names, todo, check)


@pytest.mark.parametrize(("number", "place", "source"), mistakes())
def test_a_mistake_does_not_pass(number, place, source, names):
    for todo, _ in STEPS[number][:place]:
        run(names, todo)
    with pytest.raises((AssertionError, ValueError, KitError)):
        run(names, source, STEPS[number][place][1])


def test_something_can_go_wrong_in_each_todo():
    spoiled = {
        solution_of(STEPS[number][place][0])
        for number, place, _ in (one.values for one in mistakes())
    }
    assert spoiled == {solution_of(STEPS[number][place][0]) for number, place in TODOS}
