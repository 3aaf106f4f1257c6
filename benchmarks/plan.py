"""What is measured on which pictures: the same for every case, and for processes of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import helpers
from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.datasets import labels_of, paths_of
from helpers.lib.identity import FLOWERS
from helpers.lib.weights import pretrained_weights
from helpers.recipes import Recipe
from helpers.workspace import Workspace

ROUNDS, QUICK_ROUNDS = 3, 1  # measured, after one to warm up
QUICK_CLASSES, QUICK_COUNTS = 4, {"train": 6, "val": 3, "test": 1}  # pictures of each class


@dataclasses.dataclass(frozen=True)
class Plan:
    """The decisions behind a run, in plain JSON types."""

    profile: str  # of the workspace: where the pictures come from
    dataset: str = FLOWERS  # or a folder of class folders: a few of its pictures
    quick: bool = False  # the mini profile's recipes (64 pixels), and no accuracies
    in_full: bool = False  # really train the tutorial's 25 epochs
    rounds: int = ROUNDS


@dataclasses.dataclass(frozen=True)
class Bench:
    """A plan and the machine it is carried out on."""

    workspace: Workspace
    plan: Plan

    @property
    def pretrained(self) -> str | None:
        """Weights that both sides start from. Speed does not depend on them."""
        return None if self.plan.quick else "imagenet"

    @functools.cached_property
    def weights(self) -> str:
        """What exactly those weights are, for a record."""
        origin = self.pretrained
        return pretrained_weights("resnet18", origin).source if origin else "random"

    def recipe(self, method: str) -> Recipe:
        """The kit's own recipe of a method."""
        return helpers.get_recipe(method, "mini" if self.plan.quick else "full")

    def data(self, recipe: Recipe) -> Data:
        """The pictures, as a notebook loads them; nothing is decoded yet."""
        return helpers.load_data(self.workspace, recipe, dataset=self.plan.dataset)

    def on(self, folder: Path) -> Bench:
        """The same, on the pictures of another folder."""
        plan = dataclasses.replace(self.plan, dataset=str(folder))
        return dataclasses.replace(self, plan=plan)


@contextlib.contextmanager
def nothing_decoded(bench: Bench) -> Iterator[Bench]:
    """The same, on a machine that has decoded none of the pictures yet: for times from the files.

    What it decodes is deleted in the end.
    """
    usual = bench.workspace.decoded_dir
    usual.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=usual, ignore_cleanup_errors=True) as folder:
        workspace = dataclasses.replace(bench.workspace, decoded_dir=Path(folder))
        yield dataclasses.replace(bench, workspace=workspace)


def open_bench(plan: Plan) -> Bench:
    """The bench of a plan; prints the kit's banner. Raises `KitError` when pictures are missing."""
    return Bench(helpers.start(profile=plan.profile, dataset=FLOWERS), plan)


def make_bench(
    *, profile: str | None, quick: bool, in_full: bool, rounds: int | None, folder: Path
) -> Bench:
    """Decide on a plan; a quick one copies a few pictures into `folder`.

    `profile` None takes Flowers102 when it is there. Raises `KitError` when it is needed and not
    there, and for numbers that make no sense.
    """
    if rounds is None:
        rounds = QUICK_ROUNDS if quick else ROUNDS
    if rounds < 1:
        raise KitError(f"--rounds {rounds}: use at least 1")
    if quick and in_full:
        raise KitError("--quick and --in-full exclude each other: use one of them")
    workspace = helpers.start(profile=profile, dataset=FLOWERS)
    if workspace.profile != "full" and not quick:
        raise KitError(
            f"the benchmark needs Flowers102, and the profile is mini ({workspace.reason}): give "
            "--data DIR, run `python -m coursekit download`, or use --quick for a first look"
        )
    plan = Plan(profile=workspace.profile, quick=quick, in_full=in_full, rounds=rounds)
    bench = Bench(workspace, plan)
    bench.data(bench.recipe("resnet18_finetune"))  # before hours of work: are its pictures there?
    if quick:
        bench = bench.on(few_pictures(bench, folder, QUICK_COUNTS, classes=QUICK_CLASSES))
    return bench


def few_pictures(
    bench: Bench, folder: Path, counts: Mapping[str, int], *, classes: int | None = None
) -> Path:
    """Copy the first pictures of the first classes into `folder`/few, in class folders.

    `counts` are pictures of each class by split; `classes` None takes them all. Returns the folder.
    """
    data = bench.data(bench.recipe("resnet18_finetune"))  # nothing is decoded
    target = folder / "few"
    for split, loader in data.dataloaders.items():
        taken: dict[int, int] = {}
        labels = labels_of(loader.dataset).tolist()
        for path, label in zip(paths_of(loader.dataset), labels, strict=True):
            number = taken.get(label, 0)
            if label < (classes or data.num_classes) and number < counts[split]:
                place = target / split / f"class_{label:03d}"
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place / path.name)
                taken[label] = number + 1
    return target
