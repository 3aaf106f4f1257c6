"""How each run of the extensions is trained: the same kind of table, notebook by notebook."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

from helpers.errors import KitError
from helpers.recipes import Recipe

EPOCHS_VARIABLE = "KIT_EPOCHS"  # the most epochs that a run may take, on the full profile


@dataclass(frozen=True)
class SmallAugmentation:
    """What may be done at random to a training picture that is small, and is kept whole."""

    padding: int = 0  # pixels by which it may be shifted to each side, with black from there
    flip: float = 0.0  # probability of mirroring
    rotation: float = 0.0  # degrees by which it may be turned, either way


@dataclass(frozen=True)
class ExtensionRecipe(Recipe):
    """One row of the table below; `method` is the name of the run."""

    notebook: str
    dataset: str
    val_fraction: float  # of the training pictures
    per_class: int | None  # training pictures of each class that are used, None: all
    table_epochs: int  # that are meant; KIT_EPOCHS may have made num_epochs smaller
    folder: str = field(init=False)  # of its result: apart from the methods of the assignment

    def __post_init__(self) -> None:
        folder = f"extensions/{self.notebook}/{folder_name(self.method)}"
        object.__setattr__(self, "folder", folder)  # the only way in a frozen dataclass


def folder_name(run: str) -> str:
    """The name of a run as that of a folder; raises `KitError` when nothing of it is left."""
    name = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")
    if not name:
        raise KitError(f"a run cannot be called {run!r}: use letters or digits")
    return name


NOTEBOOKS = {  # by number: its name, and its data set
    "07": ("07_cnn_vs_transfer_cifar100", "CIFAR100"),
    "08": ("08_how_much_to_freeze", "CIFAR10"),
    "09": ("09_compact_architectures", "CIFAR10"),
    "10": ("10_transfer_across_classes", "CIFAR10"),
}
PLAIN = SmallAugmentation()
FLIP = SmallAugmentation(flip=0.5)
FLIP_AND_SHIFT = SmallAugmentation(padding=4, flip=0.5)
FLIP_AND_TURN = SmallAugmentation(flip=0.4, rotation=30)

_COLUMNS = [
    "profile", "size", "val_fraction", "per_class", "batch_size", "num_epochs", "optimizer",
    "head_lr", "backbone_lr", "weight_decay", "warmup", "label_smoothing", "augment",
]  # fmt: skip
# fmt: off
_ROWS: dict[tuple[str, str], list[tuple[Any, ...]]] = {
    # profile   px val each  batch epochs optim  head  backb. decay warm smooth augment
    ("07", "cnn"): [
        ("full",  32, .10, None, 200,  10, "SGD",   5e-2, None, 5e-4, .3, 0, PLAIN),
        ("mini",  32, .25, None,  32,  10, "SGD",   1e-2, None, 5e-4, .3, 0, PLAIN),
    ],
    # Stopped early, it needs a rate that stays: of one that falls, the best is yet to come.
    ("07", "cnn_early_stopping"): [
        ("full",  32, .10, None, 200, 100, "SGD",   1e-2, None, 5e-4, 0, 0, PLAIN),
        ("mini",  32, .25, None,  32,  40, "SGD",   5e-3, None, 5e-4, 0, 0, PLAIN),
    ],
    ("07", "resnet18_head"): [
        ("full", 224, .10, None, 200,  10, "SGD",   5e-2, None, 5e-4, .3, 0, PLAIN),
        ("mini",  64, .25, None,  32,  10, "SGD",   2e-2, None, 5e-4, .3, 0, PLAIN),
    ],
    # Few pictures and KIT_EPOCHS make runs of few steps: at .3 no warm-up is exactly one step long,
    # which OneCycleLR would divide by zero for.
    ("08", "finetune"): [
        ("full",  32, .20, None, 128,  20, "Adam",  1e-3, 1e-3, 0, .3, 0, PLAIN),
        ("mini",  32, .15,   20,  50,  12, "Adam",  1e-3, 1e-3, 0, .3, 0, PLAIN),
    ],
    ("08", "resized"): [
        ("full", 224, .20,  500,  64,  20, "Adam",  3e-3, None, 0, .3, 0, PLAIN),
        ("mini",  64, .15,   20,  50,  12, "Adam",  3e-3, None, 0, .3, 0, PLAIN),
    ],
    ("08", "tiny_set"): [
        ("full",  32, .20,  500,  64,  50, "Adam",  1e-3, 1e-3, 0, .3, 0, FLIP_AND_TURN),
        ("mini",  32, .15,   10,  25,  32, "Adam",  1e-3, 1e-3, 0, .3, 0, FLIP_AND_TURN),
    ],
    ("09", "compact"): [
        ("full",  32, .10, None, 128, 100, "AdamW", 3e-3, None, 1e-1, .1, 0, FLIP_AND_SHIFT),
        ("mini",  32, .10,   16,  10,   3, "AdamW", 3e-3, None, 1e-1, .1, 0, FLIP_AND_SHIFT),
    ],
    ("10", "cnn"): [
        ("full",  32, .20, None, 100,  10, "Adam",  1e-3, None, 0, .3, 0, PLAIN),
        ("mini",  32, .25, None,  32,  10, "Adam",  1e-3, None, 0, .3, 0, PLAIN),
    ],
}
# fmt: on
EXTENSION_RECIPES = {
    (number, run, row[0]): ExtensionRecipe(
        method=run,
        notebook=NOTEBOOKS[number][0],
        dataset=NOTEBOOKS[number][1],
        table_epochs=row[_COLUMNS.index("num_epochs")],
        **dict(zip(_COLUMNS, row, strict=True)),
    )
    for (number, run), rows in _ROWS.items()
    for row in rows
}


def get_extension_recipe(number: str, run: str, profile: str) -> ExtensionRecipe:
    """The row of a run of an extension notebook.

    On the full profile, the environment variable `KIT_EPOCHS` limits its epochs, for machines that
    are too slow for all: the record then says so, and a note is printed.

    Args:
        number: of the notebook, such as "07".
        run: its name in the table.
        profile: "mini" or "full".

    Raises:
        KitError: for a row that is not in the table, and a limit that is no whole number from 1 on.
    """
    recipe = EXTENSION_RECIPES.get((number, run, profile))
    if recipe is None:
        known = ", ".join(" ".join(key) for key in EXTENSION_RECIPES)
        raise KitError(f"no recipe {number!r}, {run!r}, {profile!r}: there are {known}")
    limit = epoch_limit()
    if profile != "full" or limit is None or limit >= recipe.num_epochs:
        return recipe
    print(
        f"NOTE     {limit} of {recipe.num_epochs} epochs of {run!r} ({EPOCHS_VARIABLE}={limit}): "
        "say so with any result"
    )
    return replace(recipe, num_epochs=limit)


def epoch_limit() -> int | None:
    """What `KIT_EPOCHS` says; None when it is not set."""
    text = os.environ.get(EPOCHS_VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise KitError(f"{EPOCHS_VARIABLE}={text}: use a whole number from 1 on, or unset it")
    return int(text)
