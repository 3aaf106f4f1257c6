"""The TODO cells of the notebooks: a solution passes its checks, and what goes wrong does not.

They run here as they are, one after the other, on a few small pictures of noise; of the cells
between them only those that make a name which a TODO or its check uses.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pytest
import torch
from torch.utils.data import TensorDataset

from coursekit.handin.edition import roles
from coursekit.notebooks import METHOD_OF, read_notebook, select_notebooks
from coursekit.questions import BEGIN, END
from coursekit.train.networks import bn_cnn
from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.loaders import make_loader
from helpers.recipes import get_recipe
from helpers.workspace import find_workspace
from tools.mistakes import MISTAKES, RIGHT_WAYS, Mistake

CLASSES, PICTURES, BATCH = 5, 10, 5
BATCHES = {"02": 4}  # of train: gradients that nobody zeroes show in the third; elsewhere 2
GIVEN = {"workspace", "recipe", "data"}  # made here, and not by the notebook


class Step(NamedTuple):
    """A TODO and its check, and what has to run before each."""

    before: tuple[str, ...]
    todo: str
    between: tuple[str, ...]
    check: str


def steps_of(number: str) -> list[Step]:
    """The TODOs of a notebook in their order."""
    (path,) = select_notebooks([number])
    notebook = read_notebook(path)
    cells = [
        (role, cell.source)
        for cell, role in zip(notebook.cells, roles(notebook), strict=True)
        if cell.cell_type == "code"
    ]
    needed, wanted = set(), set()
    for place, (role, source) in reversed(list(enumerate(cells))):
        made, used = names_in(source)
        if role in ("todo", "check") or (made - GIVEN) & wanted:
            needed.add(place)
            wanted = (wanted - made) | used
    steps, before, todo, between = [], [], "", []
    for place, (role, source) in enumerate(cells):
        if role == "todo":
            todo, between = source, []
        elif role == "check":
            steps.append(Step(tuple(before), todo, tuple(between), source))
            before, todo = [], ""
        elif place in needed:
            (between if todo else before).append(without_start(source))
    return steps


def names_in(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell makes, and those that it uses."""
    made, used = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.alias):
            made.add(node.asname or node.name.partition(".")[0])
    return made, used


def without_start(source: str) -> str:
    """A cell without the lines that make what is given here."""
    tree = ast.parse(source)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Assign) and names_in(ast.unparse(node))[0] & GIVEN)
    ]
    return ast.unparse(tree)


STEPS = {number: steps_of(number) for number in METHOD_OF}
TODOS = [(number, place) for number, steps in STEPS.items() for place in range(len(steps))]


def solution_of(todo: str) -> str:
    return todo.partition(BEGIN)[2].partition(END)[0]


def mistakes() -> list[Any]:
    """Each mistake in each TODO whose solution has the lines that it replaces.

    A step of 05 takes seconds: of its mistakes two a TODO run each time, all with `-m slow`.
    """
    found: list[Any] = []
    told = Counter[tuple[str, int]]()
    for number, listed in MISTAKES.items():
        for mistake in listed:
            places = [
                place
                for place, step in enumerate(STEPS[number])
                if spoiled(step.todo, mistake) is not None
            ]
            assert places, f"notebook {number} has no solution with {mistake.right}"
            for place in places:
                told[number, place] += 1
                is_slow = number == "05" and told[number, place] > 2
                marks = [pytest.mark.slow] if is_slow else []
                name = f"{number}: {mistake.what}"
                found.append(pytest.param(number, place, mistake, id=name, marks=marks))
    return found


def spoiled(todo: str, mistake: Mistake) -> str | None:
    """A TODO with this mistake in its solution; None where there is no such line."""
    solution = solution_of(todo)
    wrong, count = re.subn(mistake.right, mistake.wrong, solution, flags=re.DOTALL)
    return todo.replace(solution, wrong) if count else None


@pytest.fixture
def names(tmp_path, monkeypatch, request) -> Iterator[dict[str, Any]]:
    """What a notebook has made in its setup, for a few pictures of noise."""
    number = request.getfixturevalue("number")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path))
    counts = {"train": BATCH * BATCHES.get(number, 2), "val": PICTURES, "test": PICTURES}
    loaders = {
        split: make_loader(noise(count), BATCH, seed=0, shuffle=split == "train")
        for split, count in counts.items()
    }
    yield {
        "workspace": find_workspace(profile="mini", device="cpu"),
        "recipe": replace(get_recipe(METHOD_OF[number], "mini"), num_epochs=3),
        "data": Data.from_loaders(loaders),
    }
    plt.close("all")  # what a notebook would have shown


def noise(count: int) -> TensorDataset:
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return TensorDataset(images, torch.arange(count) % CLASSES)


def run(names: dict[str, Any], *sources: str) -> None:
    for source in sources:
        exec(source, names)


@pytest.mark.parametrize("number", STEPS)
def test_the_solutions_pass_their_checks(number, names):
    assert STEPS[number]
    for step in STEPS[number]:
        said = step.todo.partition(BEGIN)[0].rstrip().splitlines()[-1]
        assert said.lstrip().startswith("# ")  # what to write
        run(names, *step.before, step.todo, *step.between, step.check)


@pytest.mark.parametrize("number", ["02"])
def test_the_network_of_the_solution_is_the_one_that_the_tools_train(number, names):
    run(names, *STEPS[number][0].before, STEPS[number][0].todo)
    torch.manual_seed(0)
    ours = names["CNN"](102)
    torch.manual_seed(0)
    theirs = bn_cnn(102)
    assert sum(value.numel() for value in ours.parameters()) == 415_110
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("number", "place", "mistake"), mistakes())
def test_a_mistake_is_told(number, place, mistake, names):
    for step in STEPS[number][:place]:
        run(names, *step.before, step.todo, *step.between, step.check)
    step = STEPS[number][place]
    run(names, *step.before)
    with pytest.raises((AssertionError, RuntimeError, ValueError, KitError), match=mistake.says):
        run(names, spoiled(step.todo, mistake), *step.between, step.check)


@pytest.mark.parametrize(("number", "place"), TODOS)
def test_each_todo_tells_two_mistakes_at_least(number, place):
    told = [
        mistake.what for mistake in MISTAKES[number] if spoiled(STEPS[number][place].todo, mistake)
    ]
    assert len(told) >= 2, f"{told} in\n{STEPS[number][place].todo}"


@pytest.mark.parametrize(
    ("number", "place", "way"),
    [(number, place, way) for number, ways in RIGHT_WAYS.items() for place, way in ways],
)
def test_another_right_way_passes_all_checks(number, place, way, names):
    for number_of_step, step in enumerate(STEPS[number]):
        todo = step.todo
        if number_of_step == place:
            todo = todo.replace(solution_of(todo), way)
        run(names, *step.before, todo, *step.between, step.check)
