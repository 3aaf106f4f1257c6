"""The table of methods and recipes: complete, sane, and fair to the methods that are compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from helpers import METHODS, KitError, get_recipe
from helpers.recipes import RECIPES, Augmentation, method_title, plain_types

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
ROWS = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: f"{r.method}-{r.profile}")


def test_every_method_has_a_network_a_notebook_and_a_row_on_every_profile():
    assert set(RECIPES) == {(method, profile) for method in METHODS for profile in ("mini", "full")}
    for (method, profile), recipe in RECIPES.items():
        assert get_recipe(method, profile) is recipe
        assert (recipe.method, recipe.profile) == (method, profile)
    for name, method in METHODS.items():
        (notebook,) = NOTEBOOKS.glob(f"{method.notebook}_*.ipynb")
        assert f'"{name}"' in notebook.read_text(encoding="utf-8").replace('\\"', '"')
        assert method_title(name) == method.title
    assert method_title("my_net") == "my_net"


@ROWS
def test_rows_can_be_carried_out(recipe):
    assert issubclass(getattr(torch.optim, recipe.optimizer), torch.optim.Optimizer)
    assert recipe.size >= 16
    assert recipe.batch_size >= 2  # BatchNorm cannot train on one picture
    assert recipe.num_epochs >= 1
    assert 0 < recipe.head_lr <= 0.5
    assert recipe.backbone_lr is None or 0 < recipe.backbone_lr <= recipe.head_lr
    assert (recipe.backbone_lr is None) == (
        METHODS[recipe.method].frozen or not METHODS[recipe.method].head
    )
    assert 0 <= recipe.weight_decay < 1
    assert 0 < recipe.warmup < 1
    assert 0 <= recipe.label_smoothing < 0.5
    assert 0 < recipe.augment.smallest_crop <= 1
    assert 0 <= recipe.augment.flip <= 1


@ROWS
def test_printed_rows_hide_nothing(recipe):
    printed = str(recipe)
    for field in dataclasses.fields(recipe):
        if field.name != "augment":
            assert f"{getattr(recipe, field.name)}" in printed
    for field in dataclasses.fields(Augmentation):
        assert f"augment.{field.name}" in printed


@pytest.mark.parametrize("profile", ["mini", "full"])
def test_the_two_ways_of_resnet18_see_the_same_pictures(profile):
    tuned, fixed = (get_recipe(f"resnet18_{name}", profile) for name in ("finetune", "extractor"))
    assert (tuned.size, tuned.batch_size) == (fixed.size, fixed.batch_size)
    assert tuned.augment == fixed.augment


@pytest.mark.parametrize(
    ("method", "profile", "message"),
    [("alexnet", "mini", "unknown method 'alexnet'"), ("bn_cnn", "huge", "unknown profile 'huge'")],
)
def test_unknown_rows(method, profile, message):
    with pytest.raises(KitError, match=message):
        get_recipe(method, profile)


def test_a_recipe_of_ones_own_is_recorded_in_plain_types():
    @dataclasses.dataclass
    class Mine:
        rate: float
        augment: object

    own = plain_types({"a": Mine(0.1, Augmentation(flip=0.5)), "b": (1, torch.optim.SGD), 3: None})
    assert own["a"]["rate"] == 0.1 and own["a"]["augment"]["flip"] == 0.5
    assert own["b"] == [1, str(torch.optim.SGD)] and own["3"] is None
