"""How each method is trained: one table, method by profile. Chosen on val, never on test."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from helpers.errors import KitError


@dataclass(frozen=True)
class Method:
    """What the kit knows of one method of the assignment, wherever it is asked for."""

    title: str
    notebook: str  # the number of the notebook that trains it
    head: str = ""  # the name of its new layer; "" when all of the network is new
    frozen: bool = False  # whether only the head is trained, on features
    views: int = 1  # of each training picture, when features are computed


METHODS = {
    "bn_cnn": Method("BN-CNN", "02"),
    "resnet18_finetune": Method("ResNet18 fine-tuned", "03", "fc"),
    "resnet18_extractor": Method("ResNet18 extractor", "04", "fc", True, 2),
    "efficientnet_b5_finetune": Method("EfficientNet-B5 fine-tuned", "05", "_fc"),
}


def method_title(method: str) -> str:
    """How tables and figures call a method: its title, or its own name if it is a student's."""
    return METHODS[method].title if method in METHODS else method


@dataclass(frozen=True)
class Augmentation:
    """What may be done to a training picture, at random."""

    smallest_crop: float = 1.0  # of the picture's area
    flip: float = 0.0  # probability of mirroring
    color_jitter: tuple[float, float, float, float] = (0, 0, 0, 0)
    # brightness, contrast, saturation, hue


@dataclass(frozen=True)
class Recipe:
    """One row of the table: everything that decides a training run but the network and the data."""

    method: str
    profile: str
    size: int  # pixels of a side
    batch_size: int
    num_epochs: int
    optimizer: str  # name in torch.optim
    head_lr: float  # highest learning rate of the new layers
    backbone_lr: float | None  # highest learning rate of the pretrained layers, None: frozen or new
    weight_decay: float
    warmup: float  # fraction of the run in which the learning rate rises; it falls in the rest
    label_smoothing: float
    dropout: float = field(default=0.0, kw_only=True)  # of what enters the last layer
    augment: Any  # an Augmentation, or a dataclass of your own

    def __str__(self) -> str:
        rows = {one.name: getattr(self, one.name) for one in fields(self)}
        del rows["augment"]
        rows |= {f"augment.{name}": value for name, value in as_dict(self.augment).items()}
        return "\n".join(f"{name:<22} {value}" for name, value in rows.items())


CROP_AND_FLIP = Augmentation(smallest_crop=0.35, flip=0.5)
CROP_FLIP_COLOR = Augmentation(smallest_crop=0.3, flip=0.5, color_jitter=(0.3, 0.3, 0.3, 0.05))

# fmt: off
_ROWS = (
    # profile, pixels, batch, epochs, optimizer, head, backbone, decay, warmup, smoothing, augment
    Recipe("bn_cnn", "full", 128, 32, 110, "AdamW", 6e-3, None, 5e-2, .25, .1, CROP_FLIP_COLOR,
           dropout=.2),
    Recipe("bn_cnn", "mini", 64, 16, 30, "AdamW", 6e-3, None, 5e-2, .25, .1, CROP_FLIP_COLOR,
           dropout=.2),
    Recipe("resnet18_finetune", "full", 224, 32, 12, "SGD", 1e-1, 15e-3, 1e-3, .2, .1,
           CROP_AND_FLIP),
    Recipe("resnet18_finetune", "mini", 64, 16, 10, "SGD", 5e-3, 2e-3, 5e-4, .2, .1,
           CROP_AND_FLIP),
    Recipe("resnet18_extractor", "full", 224, 32, 50, "SGD", 1e-1, None, 1e-3, .1, .1,
           CROP_AND_FLIP),
    Recipe("resnet18_extractor", "mini", 64, 16, 50, "SGD", 1e-2, None, 1e-3, .1, .1,
           CROP_AND_FLIP),
    Recipe("efficientnet_b5_finetune", "full", 224, 8, 10, "AdamW", 2e-3, 2e-4, 5e-2, .2, .1,
           CROP_AND_FLIP),
    Recipe("efficientnet_b5_finetune", "mini", 64, 8, 4, "AdamW", 1e-3, 3e-4, 5e-2, .2, .1,
           CROP_AND_FLIP),
)
# fmt: on
RECIPES = {(row.method, row.profile): row for row in _ROWS}


def get_recipe(method: str, profile: str) -> Recipe:
    """The row of a method on a profile; raises `KitError` for a name that is not in the table."""
    if method not in METHODS:
        meant = difflib.get_close_matches(method, METHODS, n=1)
        hint = f" (did you mean {meant[0]!r}?)" if meant else ""
        raise KitError(f"unknown method {method!r}{hint}: use one of {', '.join(METHODS)}")
    if (method, profile) not in RECIPES:
        raise KitError(f"unknown profile {profile!r}: use 'mini' or 'full'")
    return RECIPES[method, profile]


def settings_of(
    recipe: Any, names: tuple[str, ...], changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Some settings of a recipe; `changes` go first. Raises `KitError` for unknown ones."""
    changes = changes or {}
    if unknown := set(changes) - set(names):
        raise KitError(f"unknown setting {', '.join(sorted(unknown))}: use {', '.join(names)}")
    known = as_dict(recipe) | dict(changes)
    if missing := [name for name in names if name not in known]:
        raise KitError(f"the recipe has no {', '.join(missing)}: add it to the recipe")
    return {name: known[name] for name in names}


def as_dict(recipe: Any) -> dict[str, Any]:
    """A recipe's settings by name; raises `KitError` for what is no dict and no dataclass."""
    if isinstance(recipe, Mapping):
        return dict(recipe)
    if is_dataclass(recipe) and not isinstance(recipe, type):
        return {one.name: getattr(recipe, one.name) for one in fields(recipe)}
    raise KitError(f"a recipe is a dict or a dataclass, not {type(recipe).__name__}")


def plain_types(value: Any) -> Any:
    """A setting in JSON's types: dataclasses become dicts, whatever JSON lacks becomes a text."""
    if isinstance(value, Mapping):
        return {str(key): plain_types(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain_types(as_dict(value))
    if isinstance(value, list | tuple):
        return [plain_types(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
