"""How each method is trained: one table, method by profile. Chosen on val, never on test."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .kit.errors import KitError

METHODS = {
    "bn_cnn": "BN-CNN",
    "resnet18_finetune": "ResNet18 fine-tuned",
    "resnet18_extractor": "ResNet18 extractor",
    "efficientnet_b5_finetune": "EfficientNet-B5 fine-tuned",
}


@dataclass(frozen=True)
class Augmentation:
    """What may be done to a training picture, at random."""

    smallest_crop: float = 1.0  # of the picture's area
    flip: float = 0.0  # probability of mirroring
    color_jitter: tuple[float, float, float, float] = (0, 0, 0, 0)  # light, contrast, colour, hue


@dataclass(frozen=True)
class SmallAugmentation:
    """What may be done at random to a training picture that is small, and is kept whole."""

    padding: int = 0  # pixels by which it may be shifted to each side, with black from there
    flip: float = 0.0  # probability of mirroring
    rotation: float = 0.0  # degrees by which it may be turned, either way


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
    warmup: float  # part of the run in which the learning rate rises; it falls in the rest
    label_smoothing: float
    augment: Augmentation | SmallAugmentation

    @property
    def folder(self) -> str:
        """Where its result is kept: a path below results/<profile>."""
        return self.method

    def __str__(self) -> str:
        rows = {field.name: getattr(self, field.name) for field in fields(self)}
        augment = rows.pop("augment")
        rows |= {f"augment.{field.name}": getattr(augment, field.name) for field in fields(augment)}
        return "\n".join(f"{name:<22} {value}" for name, value in rows.items())


CROP_AND_FLIP = Augmentation(smallest_crop=0.35, flip=0.5)
CROP_FLIP_COLOR = Augmentation(smallest_crop=0.3, flip=0.5, color_jitter=(0.3, 0.3, 0.3, 0.05))

_COLUMNS = [
    "profile", "size", "batch_size", "num_epochs", "optimizer", "head_lr", "backbone_lr",
    "weight_decay", "warmup", "label_smoothing", "augment",
]  # fmt: skip
# fmt: off
_ROWS = {
    # profile  px  batch epochs optim  head  backb. decay warm smooth augment
    "bn_cnn": [
        ("full", 128,  32, 110, "AdamW", 6e-3, None, 5e-2, .25, .1, CROP_FLIP_COLOR),
        ("mini",  64,  16,  30, "AdamW", 6e-3, None, 5e-2, .25, .1, CROP_FLIP_COLOR),
    ],
    "resnet18_finetune": [
        ("full", 224,  32,  12, "SGD",   1e-1, 15e-3, 1e-3, .2, .1, CROP_AND_FLIP),
        ("mini",  64,  16,  12, "SGD",   1e-2, 2e-3, 5e-4, .2,  .1, CROP_AND_FLIP),
    ],
    "resnet18_extractor": [
        ("full", 224,  32,  50, "SGD",   1e-1, None, 1e-3, .1,  .1, CROP_AND_FLIP),
        ("mini",  64,  16,  50, "SGD",   1e-2, None, 1e-3, .1,  .1, CROP_AND_FLIP),
    ],
    "efficientnet_b5_finetune": [
        ("full", 224,   8,  10, "AdamW", 2e-3, 2e-4, 5e-2, .2,  .1, CROP_AND_FLIP),
        ("mini",  64,   8,   4, "AdamW", 1e-3, 3e-4, 5e-2, .2,  .1, CROP_AND_FLIP),
    ],
}
# fmt: on
RECIPES = {
    (method, row[0]): Recipe(method, **dict(zip(_COLUMNS, row, strict=True)))
    for method, rows in _ROWS.items()
    for row in rows
}


def get_recipe(method: str, profile: str) -> Recipe:
    """The row of a method on a profile; raises `KitError` for a name that is not in the table."""
    if method not in METHODS:
        raise KitError(f"unknown method {method!r}: use one of {', '.join(METHODS)}")
    if (method, profile) not in RECIPES:
        raise KitError(f"unknown profile {profile!r}: use 'mini' or 'full'")
    return RECIPES[method, profile]
