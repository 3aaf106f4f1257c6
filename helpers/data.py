"""Pictures and batches: data sets, transforms and loaders, all of PyTorch's own kind.

`data.train` is a plain `DataLoader`, `data.train.dataset[0]` is a picture and its label. Whatever
takes a `Data` also takes a dict of your own loaders, as {"train": ..., "val": ...}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2 as transforms

from helpers.errors import KitError
from helpers.lib.datasets import class_names_of, ids_of, labels_of
from helpers.lib.devices import choose_device
from helpers.lib.identity import fingerprint_of
from helpers.lib.loaders import loader_like, make_loader
from helpers.lib.picture_store import PictureStore
from helpers.lib.pictures import check_all
from helpers.lib.randomness import untouched_randomness
from helpers.lib.sources import Listing, list_pictures, picture_ids
from helpers.pictures import (
    IMAGENET,
    Normalization,
    Pictures,
    eval_transform,
    normalization_of,
    plain,
    short_side,
    train_transform,
)
from helpers.recipes import Recipe, settings_of
from helpers.workspace import Workspace

EVALUATION_BATCH = 64  # pictures, at most


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set ready for training: loaders of (images, labels), and what they hold.

    Images are float32 of shape (batch, 3, size, size), normalised; labels are int64.
    """

    name: str
    class_names: list[str]
    dataloaders: dict[str, DataLoader]  # "train", "val" and "test"
    fingerprint: str  # of the ids, labels and splits: two runs with the same saw the same task
    size: int = 0  # pixels of a side of the square that the network sees; 0: not known
    normalization: Normalization | None = None  # of the images; None: not known
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    precision: torch.dtype = torch.float32  # of their arithmetic
    seed: int = 0  # of splits and batches
    note: str = ""  # what every figure of these pictures must say, "" when nothing
    feature_seconds: float = 0.0  # spent on computing features, see compute_features
    left_out: tuple[str, ...] = ()  # files of a folder that are no part of it, with the reason
    made_splits: tuple[str, ...] = ()  # the splits that were made here: the data set has none
    all_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)  # if a part was taken

    @classmethod
    def of(cls, data: Data | Mapping[str, DataLoader]) -> Data:
        """`data` itself, or what a dict of plain loaders tells of its data sets."""
        return data if isinstance(data, Data) else cls.from_loaders(data)

    @classmethod
    def from_loaders(
        cls,
        loaders: Mapping[str, DataLoader],
        *,
        class_names: Sequence[str] | None = None,
        name: str = "own data",
    ) -> Data:
        """Describe loaders of your own, so that results and figures have names for what they show.

        Networks work with them on the fastest device there is, in float32.

        Args:
            loaders: under "train", "val" and, for a test, "test".
            class_names: a text for each label, by default those that the data sets know.
            name: what tables and records call these data.
        """
        datasets = {split: loader.dataset for split, loader in loaders.items()}
        if not {"train", "val"} <= set(datasets):
            raise KitError(f'the loaders are {list(datasets)}: give at least "train" and "val"')
        with untouched_randomness():
            shape = tuple(getattr(datasets["train"][0][0], "shape", ()))
        pairs = {
            split: zip(ids_of(dataset), labels_of(dataset).tolist(), strict=True)
            for split, dataset in datasets.items()
        }
        return cls(
            name=name,
            class_names=list(class_names or class_names_of(list(datasets.values()))),
            dataloaders=dict(loaders),
            fingerprint=fingerprint_of(pairs),
            size=shape[-1] if len(shape) == 3 else 0,
            normalization=normalization_of(datasets["val"]),
            device=choose_device(None),
        )

    def _loader(self, split: str) -> DataLoader:
        if split not in self.dataloaders:
            raise KitError(f'these data have no {split} split: add "{split}" to the loaders')
        return self.dataloaders[split]

    @property
    def train(self) -> DataLoader:
        return self._loader("train")

    @property
    def val(self) -> DataLoader:
        return self._loader("val")

    @property
    def test(self) -> DataLoader:
        return self._loader("test")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples in each split."""
        return {split: len(loader.dataset) for split, loader in self.dataloaders.items()}  # type: ignore[arg-type]

    def with_loaders(self, **loaders: DataLoader) -> Data:
        """The same data with other loaders for some splits."""
        return dataclasses.replace(self, dataloaders=self.dataloaders | loaders)

    def few_per_class(self, count: int, *, seed: int) -> Data:
        """The same data with only `count` training pictures of each class, drawn by `seed`.

        A picture that is there in several views is taken with all of them. Raises `KitError` when
        a class has fewer.
        """
        dataset = self.train.dataset
        label_of = dict(zip(ids_of(dataset), labels_of(dataset).tolist(), strict=True))
        ids = sorted(label_of)
        generator = torch.Generator().manual_seed(seed)
        shuffled = [ids[i] for i in torch.randperm(len(ids), generator=generator).tolist()]
        chosen: set[str] = set()
        for label, name in enumerate(self.class_names):
            members = [one for one in shuffled if label_of[one] == label]
            if len(members) < count:
                raise KitError(
                    f"class {name!r} has {len(members)} training pictures, so count={count} cannot "
                    f"be taken: use at most {len(members)}"
                )
            chosen.update(members[:count])
        subset = Subset(dataset, [i for i, one in enumerate(ids_of(dataset)) if one in chosen])
        return self.with_loaders(train=loader_like(self.train, subset))

    def without_augmentation(self) -> Data:
        """The same data, with the training pictures as val and test see theirs."""
        return self.with_loaders(train=loader_like(self.train, plain(self.train.dataset)))


def load_data(
    workspace: Workspace,
    recipe: Recipe | Mapping[str, Any],
    *,
    dataset: str | Path | None = None,
    num_workers: int = 0,
    **changes: Any,
) -> Data:
    """Load a data set with its train, val and test splits, as a recipe wants it.

    Copies in a folder of your own, and files that cannot be used, are named and left out; a damaged
    picture of a published set is an error. Of a large set that is not drawn, the mini profile takes
    a part of each class, and says so.

    Args:
        workspace: from `start()`; device, precision and seed come from it.
        recipe: `size` (pixels of a side), `batch_size` and `augment` of it are used; a `Recipe`, or
            a dict or dataclass of your own.
        dataset: by default the workspace's: "Flowers102" (drawn flowers on the mini profile), or
            what `choose_dataset` was given. See there.
        num_workers: processes that prepare batches ahead.
        **changes: other values for `size`, `batch_size` or `augment`.

    Returns:
        Loaders of images (batch, 3, size, size), float32 and normalised as ImageNet's, and labels.
        Pictures are scaled to a short side of 8/7 `size`, as ImageNet's 256 for 224.

    Raises:
        KitError: when data is missing, damaged or not allowed, or a setting is missing or unknown.
    """
    wanted = settings_of(recipe, ("size", "batch_size", "augment"), changes)
    size, batch_size, augment = wanted["size"], wanted["batch_size"], wanted["augment"]
    if size < 8 or batch_size < 1:
        raise KitError(f"size={size} and batch_size={batch_size}: use at least 8 pixels and 1")
    listing = list_pictures(
        workspace.dataset if dataset is None else dataset,
        profile=workspace.profile,
        data_dir=workspace.data_dir,
        seed=workspace.seed,
    )
    return data_from(
        workspace,
        listing,
        size=size,
        batch_size=batch_size,
        short_side=short_side(size),
        transform=train_transform(size, augment),
        plain_transform=eval_transform(size),
        num_workers=num_workers,
    )


def data_from(
    workspace: Workspace,
    listing: Listing,
    *,
    size: int,
    batch_size: int,
    short_side: int,
    transform: transforms.Transform,
    plain_transform: transforms.Transform,
    num_workers: int = 0,
) -> Data:
    """The loaders of listed pictures: decoded to `short_side`, transformed, in batches."""
    loaders = {}
    class_names = [name.replace("_", " ") for name in listing.class_names]
    for split, (paths, labels) in listing.splits.items():
        training = split == "train"
        if known := listing.picture_sizes:
            sizes = [known[path] for path in paths]
        else:
            sizes = check_all(paths, f"checking {split} pictures", hint=listing.hint)
        name = f"{listing.name} {split}"
        store = PictureStore(
            paths,
            sizes,
            short_side=short_side,
            name=name,
            folder=workspace.decoded_dir,
            bits=listing.bits,
        )
        pictures = Pictures(
            store,
            labels,
            picture_ids(paths, listing.root),
            class_names=class_names,
            transform=transform if training else plain_transform,
            plain_transform=plain_transform,
        )
        loaders[split] = make_loader(
            pictures,
            # Without gradients four times as many fit, where the network is large.
            batch_size if training else min(EVALUATION_BATCH, 4 * batch_size),
            seed=workspace.seed,
            shuffle=training,
            num_workers=num_workers,
        )
    data = Data(
        name=listing.name,
        class_names=class_names,
        dataloaders=loaders,
        fingerprint=fingerprint_of(listing.named_labels()),
        size=size,
        normalization=IMAGENET,
        device=workspace.device,
        precision=workspace.precision,
        seed=workspace.seed,
        note=listing.note,
        left_out=listing.left_out,
        made_splits=listing.made_splits,
        all_sizes=listing.all_sizes,
    )
    tell_what_was_left(data)
    return data


def tell_what_was_left(data: Data, most: int = 10) -> None:
    """Print which files of a folder are left out and why, and what part of a set mini takes."""
    if count := len(data.left_out):
        used, are = sum(data.sizes.values()), "is" if count == 1 else "are"
        print(f"{data.name}: {used:,} pictures are used, {count:,} {are} left out:")
        print(*(f"- {line}" for line in data.left_out[:most]), sep="\n")
        if count > most:
            print(f"- and {count - most:,} more, see data.left_out")
    if data.all_sizes:
        print(f"{data.name}: {part_text(data)}")


def part_text(data: Data) -> str:
    """How much of a data set the mini profile takes, in a line."""
    parts = [f"{size:,} of {data.all_sizes[split]:,} {split}" for split, size in data.sizes.items()]
    return f"mini takes {', '.join(parts)} pictures, by class and by seed {data.seed}"


class DataSet(NamedTuple):
    """What tells whether a result is about the pictures that are used now."""

    name: str
    fingerprint: str


def data_set_of(workspace: Workspace) -> DataSet:
    """The data set that the notebooks use, not loaded; raises `KitError` when it is not here."""
    place = workspace
    listing = list_pictures(
        place.dataset, profile=place.profile, data_dir=place.data_dir, seed=place.seed
    )
    return DataSet(listing.name, fingerprint_of(listing.named_labels()))
