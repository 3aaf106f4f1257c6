"""Pictures: their splits, what is done to each before a network sees it, and the batches."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2 as transforms

from .kit.errors import KitError
from .kit.identity import fingerprint_of
from .kit.loading import SteadyLoader
from .kit.picture_store import PictureStore
from .kit.pictures import check_all
from .kit.sources import Listing, list_pictures, list_small_pictures, picture_ids
from .recipes import Augmentation, SmallAugmentation
from .workspace import Workspace

# Means and standard deviations of ImageNet's red, green and blue: what pretrained networks expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EVALUATION_BATCH = 64  # pictures, but see `evaluation_batch`
FEW = 10  # training pictures of a class: with fewer, little can be learned of it


def evaluation_batch(batch_size: int) -> int:
    """Pictures at a time where no gradient is kept: 64, fewer beside small training batches.

    Those are small because the network is large; without gradients four times as many fit.
    """
    return min(EVALUATION_BATCH, 4 * batch_size)


class Normalization(NamedTuple):
    """Means and standard deviations of red, green and blue, of values in 0 ... 1."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


IMAGENET = Normalization()


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set ready for training: three loaders of (images, labels), and what they hold.

    `images` are float32 of shape (batch, 3, size, size), normalised; `labels` are int64.
    """

    name: str
    class_names: list[str]
    train: DataLoader
    val: DataLoader
    test: DataLoader
    size: int  # pixels of a side of the square that the network sees
    fingerprint: str  # of the ids, labels and splits: two runs with the same saw the same task
    note: str = ""  # what every figure of these pictures must say, "" when nothing
    feature_seconds: float = 0.0  # spent on computing features, see compute_features
    left_out: tuple[str, ...] = ()  # files of a folder that are no part of it, with the reason
    made_splits: tuple[str, ...] = ()  # the splits that were made here: the data set has none
    all_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)  # if a part was taken
    normalization: Normalization = IMAGENET  # of the images

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def dataloaders(self) -> dict[str, DataLoader]:
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples in each split."""
        return {split: len(loader.dataset) for split, loader in self.dataloaders.items()}


class Pictures(Dataset):
    """The pictures of one split: decoded once, transformed anew each time they are asked for."""

    def __init__(
        self,
        store: PictureStore,
        labels: Sequence[int],
        ids: Sequence[str],
        *,
        transform: transforms.Transform,
        plain_transform: transforms.Transform,
    ) -> None:
        self.store, self.ids, self.transform = store, list(ids), transform
        self.plain_transform, self.normalization = plain_transform, IMAGENET
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def paths(self) -> list[Path]:
        """The picture files."""
        return self.store.paths

    def picture(self, index: int) -> torch.Tensor:
        """One picture before its transform: uint8 of shape (3, height, width)."""
        return self.store[index]

    def with_transform(self, transform: transforms.Transform) -> Pictures:
        """The same pictures under another transform; they are still decoded only once."""
        other = copy.copy(self)
        other.transform = transform
        return other

    def plain(self) -> Pictures:
        """The same pictures as validation and test see theirs, without augmentation."""
        return self.with_transform(self.plain_transform)

    def __getitems__(self, draws: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """A whole batch at once. Each draw is the index of a picture and the seed of its transform.

        The seed makes the augmentation of a picture independent of whatever else uses the global
        random state, so that every method sees the same pictures.
        """
        images = []
        with torch.random.fork_rng(devices=[]):
            for index, seed in draws:
                torch.default_generator.manual_seed(seed)
                images.append(self.transform(self.picture(index)))
        indices = [index for index, _ in draws]
        return normalize(torch.stack(images), self.normalization), self.labels[indices]


class Batches(Sampler):
    """The order of a split: lists of (index, seed) pairs, shuffled by a generator of its own.

    No batch but an only one has a single sample, because BatchNorm cannot train on one: a last
    sample that would stand alone joins the batch before it.
    """

    def __init__(self, length: int, batch_size: int, *, seed: int, shuffle: bool) -> None:
        self.length, self.batch_size = length, batch_size
        self.seed, self.shuffle = seed, shuffle
        self.generator = torch.Generator().manual_seed(seed)

    def reseed(self) -> None:
        """Start the generator again, so that the next run sees the same batches as the last."""
        self.generator.manual_seed(self.seed)

    def __len__(self) -> int:
        batches = -(-self.length // self.batch_size)
        alone = self.length % self.batch_size == 1 and batches > 1
        return batches - 1 if alone and self.batch_size > 1 else batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = torch.arange(self.length)
        if self.shuffle:
            order = torch.randperm(self.length, generator=self.generator)
        seeds = torch.randint(2**62, (self.length,), generator=self.generator)
        draws = list(zip(order.tolist(), seeds.tolist(), strict=True))
        for batch in range(len(self)):
            last = batch == len(self) - 1
            end = self.length if last else (batch + 1) * self.batch_size
            yield draws[batch * self.batch_size : end]


def normalize(images: torch.Tensor, normalization: Normalization = IMAGENET) -> torch.Tensor:
    """uint8 pictures (..., 3, height, width) as floats, less the mean and over the deviation."""
    images = transforms.functional.to_dtype(images, torch.float32, scale=True)
    return transforms.functional.normalize(images, normalization.mean, normalization.std)


def denormalize(images: torch.Tensor, normalization: Normalization = IMAGENET) -> torch.Tensor:
    """The way back from `normalize`, to floats in 0 ... 1 that can be shown."""
    mean = torch.tensor(normalization.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(normalization.std, device=images.device).view(3, 1, 1)
    return (images.float() * std + mean).clamp(0, 1)


def train_transform(size: int, augment: Augmentation) -> transforms.Transform:
    """A random part of the picture, perhaps mirrored, perhaps in other light; uint8 to uint8."""
    steps = [
        transforms.RandomResizedCrop(size, scale=(augment.smallest_crop, 1.0), antialias=True),
        transforms.RandomHorizontalFlip(augment.flip),
    ]
    if any(augment.color_jitter):
        steps.append(transforms.ColorJitter(*augment.color_jitter))
    return transforms.Compose(steps)


def small_train_transform(side: int, size: int, augment: SmallAugmentation) -> transforms.Transform:
    """A small picture shifted, mirrored and turned at random, then scaled; uint8 to uint8."""
    steps: list[transforms.Transform] = []  # only what is wanted: each costs time for each picture
    if augment.padding:
        steps.append(transforms.RandomCrop(side, padding=augment.padding))
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip(augment.flip))
    if augment.rotation:
        bilinear = transforms.InterpolationMode.BILINEAR
        steps.append(transforms.RandomRotation(augment.rotation, interpolation=bilinear))
    return transforms.Compose([*steps, small_eval_transform(side, size)])


def small_eval_transform(side: int, size: int) -> transforms.Transform:
    """The whole of a small picture, always the same, scaled to `size`."""
    whole = eval_transform(side)
    if size == side:
        return whole
    return transforms.Compose([whole, transforms.Resize((size, size), antialias=True)])


def eval_transform(size: int) -> transforms.Transform:
    """The centre of the picture, always the same: validation and test never see augmentation."""
    return transforms.CenterCrop(size)


def load_data(
    workspace: Workspace,
    *,
    size: int,
    batch_size: int,
    augment: Augmentation | SmallAugmentation,
    dataset: str | Path | None = None,
    num_workers: int = 0,
    extension: bool = False,
    val_share: float = 0.25,
    own_colors: bool = False,
) -> Data:
    """Load a data set with its train, val and test splits.

    `dataset` is by default the workspace's: "Flowers102" (drawn flowers on the mini profile), or
    what `choose_dataset` was given: another torchvision set that the assignment allows
    ("OxfordIIITPet", "DTD", "FGVCAircraft", "EuroSAT"), or a folder of class folders, with or
    without train/, val/ and test/ above them. Missing splits are made by class and by seed.
    Pictures are scaled to a short side of 8/7 `size`, as ImageNet's 256 for 224. Copies in a
    folder, and files that cannot be used, are named and left out, as if they were not there; a
    damaged picture of a published set is an error. Of a large set that is not drawn, the mini
    profile takes a part of each class, and says so.

    For an `extension` of the assignment, `dataset` is "CIFAR10" or "CIFAR100" (small drawings on
    the mini profile) and `val_share` the part of its training pictures that becomes val. These
    pictures of 32 pixels are kept whole, and scaled to `size` only on their way to the network.
    Colours are normalised as ImageNet's are, with `own_colors` by those of the training pictures.
    Raises `KitError` when data is missing, damaged or not allowed.
    """
    if size < 8 or batch_size < 1:
        raise KitError(f"size={size} and batch_size={batch_size}: use at least 8 pixels and 1")
    where = {"profile": workspace.profile, "data_dir": workspace.data_dir, "seed": workspace.seed}
    dataset = workspace.dataset if dataset is None else dataset
    if extension:
        listing = list_small_pictures(str(dataset), val_share=val_share, **where)
    else:
        listing = list_pictures(dataset, **where)
    if listing.left_out:
        print(left_out_text(listing))
    if listing.side:
        plain = small_eval_transform(listing.side, size)
        augmented = small_train_transform(listing.side, size, augment)
    else:
        plain, augmented = eval_transform(size), train_transform(size, augment)
    loaders = {}
    for split, (paths, labels) in listing.splits.items():
        training = split == "train"
        store = PictureStore(
            paths,
            sizes_of(listing, split),
            short_side=listing.side or round(size * 8 / 7),
            name=f"{listing.name} {split}",
            folder=workspace.decoded_dir,
        )
        pictures = Pictures(
            store,
            labels,
            picture_ids(paths, listing.root),
            transform=augmented if training else plain,
            plain_transform=plain,
        )
        batch = batch_size if training else evaluation_batch(batch_size)
        loaders[split] = make_loader(
            pictures, batch, seed=workspace.seed, shuffle=training, num_workers=num_workers
        )
    names = [name.replace("_", " ") for name in listing.class_names]
    data = Data(
        name=listing.name,
        class_names=names,
        size=size,
        fingerprint=fingerprint(listing),
        note=listing.note,
        left_out=listing.left_out,
        made_splits=listing.made_splits,
        all_sizes=listing.all_sizes,
        **loaders,
    )
    if data.all_sizes:
        print(f"{data.name}: {part_text(data)}")
    return with_own_colors(data) if own_colors else data


def with_own_colors(data: Data) -> Data:
    """The same data, normalised by the colours of its training pictures; changed in place."""
    mean, std = channel_statistics(data)
    normalization = Normalization(tuple(mean.tolist()), tuple(std.tolist()))
    for loader in data.dataloaders.values():
        loader.dataset.normalization = normalization
    return dataclasses.replace(data, normalization=normalization)


def sizes_of(listing: Listing, split: str) -> list[tuple[int, int]]:
    """(width, height) of the pictures of a split; raises `KitError` that names damaged ones."""
    paths, _ = listing.splits[split]
    if listing.picture_sizes:
        return [listing.picture_sizes[path] for path in paths]
    return check_all(paths, f"checking {split} pictures", mend=listing.mend)


def left_out_text(listing: Listing, most: int = 10) -> str:
    """Which files of a folder are left out, and why, a line each."""
    used = sum(len(paths) for paths, _ in listing.splits.values())
    count = len(listing.left_out)
    are = "is" if count == 1 else "are"
    lines = [f"{listing.name}: {used:,} pictures are used, {count:,} {are} left out:"]
    lines += [f"- {line}" for line in listing.left_out[:most]]
    return "\n".join(lines + [f"- and {count - most:,} more, see data.left_out"] * (count > most))


def part_text(data: Data) -> str:
    """How much of a data set the mini profile takes, in a line."""
    parts = [f"{size:,} of {data.all_sizes[split]:,} {split}" for split, size in data.sizes.items()]
    return f"mini takes {_listed(parts)} pictures, by class and by seed {seed_of_order(data)}"


def seed_of_order(data: Data) -> int:
    """The seed that the splits and the batches follow."""
    return data.train.batch_sampler.seed


def _listed(names: Sequence[str]) -> str:
    """ "train", "train and val", "train, val and test"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def make_loader(
    samples: Dataset, batch_size: int, *, seed: int, shuffle: bool, num_workers: int = 0
) -> DataLoader:
    """A loader with an order of its own; `samples` must answer whole batches, as `Pictures` do."""
    order = Batches(len(samples), batch_size, seed=seed, shuffle=shuffle)
    return SteadyLoader(
        samples,
        batch_sampler=order,
        collate_fn=as_is,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,  # a new worker would decode everything again
    )


def as_is(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The data set has put the batch together already."""
    return batch


def picture_sizes(data: Data) -> list[tuple[int, int]]:
    """(width, height) in pixels of every picture file, over all splits."""
    paths = [path for loader in data.dataloaders.values() for path in loader.dataset.paths]
    return check_all(paths, "reading sizes")


def describe_data(data: Data) -> str:
    """What to know of a data set before training on it: splits, balance, small classes, files.

    A line each; `FEW` training pictures are what a class should have at least.
    """
    lines = []
    if own := [split for split in data.sizes if split not in data.made_splits]:
        lines.append(f"split    {_listed(own)} as the data set has {'them' if own[1:] else 'it'}")
    if data.made_splits:
        made = _listed(data.made_splits)
        lines.append(f"split    {made} made here, class by class, with seed {seed_of_order(data)}")
    if data.all_sizes:
        lines.append(f"part     {part_text(data)}")
    lines += [f"{split:<9}{_balance(data, split)}" for split in data.sizes]
    counts = zip(class_counts(data, "train").tolist(), data.class_names, strict=True)
    small = [f"{name} ({count})" for count, name in sorted(counts) if count < FEW]
    if small:
        shown = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
        lines.append(f"small    fewer than {FEW} training pictures: {shown}")
    count = len(data.left_out)
    lines.append(f"files    {f'{count:,} left out, named above' if count else 'none is left out'}")
    return "\n".join(lines)


def class_counts(data: Data, split: str) -> torch.Tensor:
    """(classes,) int64: how many samples of each class a split has."""
    labels = data.dataloaders[split].dataset.labels
    return torch.bincount(labels, minlength=data.num_classes)


def _balance(data: Data, split: str) -> str:
    """The smallest and the largest class of a split, in words."""
    counts = class_counts(data, split)
    (fewest, least), (most, largest) = (
        (int(counts[label]), data.class_names[label])
        for label in (counts.argmin(), counts.argmax())
    )
    if fewest == most:
        return f"every class has {most:,} picture{'s' * (most != 1)}"
    ratio = f", {most / fewest:.1f} times as many" if fewest else ""
    return f"from {fewest:,} ({least}) to {most:,} ({largest}) pictures{ratio}"


def duplicates_across_splits(data: Data) -> list[dict[str, str]]:
    """The pictures that are in more than one split, under whatever name: one dict of texts each.

    Two are the same when they decode to the same pixels. Each row names a picture and the one of an
    earlier split that it repeats; [] when there is none.
    """
    seen: dict[bytes, tuple[str, str]] = {}
    rows = []
    for split, loader in data.dataloaders.items():
        samples = loader.dataset
        for index, (name, label) in enumerate(
            zip(samples.ids, samples.labels.tolist(), strict=True)
        ):
            picture = samples.picture(index)
            digest = hashlib.blake2b(picture.numpy(), digest_size=16)
            digest.update(str(tuple(picture.shape)).encode())
            here = f"{split}: {name} ({data.class_names[label]})"
            first_split, first = seen.setdefault(digest.digest(), (split, here))
            if first_split != split:
                rows.append({"Picture": here, "Is the same as": first})
    return rows


def channel_statistics(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of red, green and blue over the training pictures, in 0 ... 1."""
    samples = data.train.dataset
    count, total, squares = 0, torch.zeros(3).double(), torch.zeros(3).double()
    for index in range(len(samples)):  # summed up picture by picture, in little memory
        pixels = samples.picture(index).flatten(1).double() / 255
        count += pixels.shape[1]
        total += pixels.sum(dim=1)
        squares += pixels.square().sum(dim=1)
    mean = total / count
    return mean.float(), ((squares - count * mean.square()) / (count - 1)).sqrt().float()


def few_per_class(data: Data, count: int, *, seed: int) -> Data:
    """The same data with only `count` training pictures of each class; val and test stay whole.

    A picture that is there in several views is taken with all of them.
    """
    samples = data.train.dataset
    label_of = dict(zip(samples.ids, samples.labels.tolist(), strict=True))
    generator = torch.Generator().manual_seed(seed)
    ids = sorted(label_of)
    shuffled = [ids[i] for i in torch.randperm(len(ids), generator=generator).tolist()]
    chosen: set[str] = set()
    for label in range(data.num_classes):
        members = [name for name in shuffled if label_of[name] == label]
        if len(members) < count:
            raise KitError(
                f"class {data.class_names[label]!r} has {len(members)} training pictures, "
                f"so count={count} cannot be taken: use at most {len(members)}"
            )
        chosen.update(members[:count])
    selection = Selection(samples, [i for i, name in enumerate(samples.ids) if name in chosen])
    order = data.train.batch_sampler
    train = make_loader(selection, order.batch_size, seed=order.seed, shuffle=True)
    return dataclasses.replace(data, train=train)


def without_augmentation(data: Data) -> Data:
    """The same data, with the training pictures as val and test see theirs."""
    order = data.train.batch_sampler
    train = make_loader(
        data.train.dataset.plain(),
        order.batch_size,
        seed=order.seed,
        shuffle=order.shuffle,
        num_workers=data.train.num_workers,
    )
    return dataclasses.replace(data, train=train)


def only_classes(data: Data, classes: Sequence[int]) -> Data:
    """The same data with these classes only, labelled 0, 1, ... in the order given.

    It is another task, so it has another fingerprint. Raises `KitError` for a class that is not
    there, or given twice, and for fewer than two.
    """
    wrong = [label for label in classes if label not in range(data.num_classes)]
    if wrong or len(set(classes)) != len(classes) or len(classes) < 2:
        raise KitError(
            f"classes={list(classes)}: use at least two different ones of 0 ... "
            f"{data.num_classes - 1}"
        )
    new_label = torch.full((data.num_classes,), -1)
    new_label[list(classes)] = torch.arange(len(classes))
    loaders = {}
    for split, loader in data.dataloaders.items():
        labels, order = new_label[loader.dataset.labels], loader.batch_sampler
        chosen = (labels >= 0).nonzero().flatten()
        selection = Selection(loader.dataset, chosen.tolist(), labels[chosen])
        loaders[split] = make_loader(
            selection, order.batch_size, seed=order.seed, shuffle=order.shuffle
        )
    return dataclasses.replace(
        data,
        class_names=[data.class_names[label] for label in classes],
        fingerprint=fingerprint_of(
            {
                split: zip(loader.dataset.ids, loader.dataset.labels.tolist(), strict=True)
                for split, loader in loaders.items()
            }
        ),
        **loaders,
    )


class Selection(Dataset):
    """Some samples of another data set, by index; `labels` if they get other ones here."""

    def __init__(
        self, samples: Dataset, indices: Sequence[int], labels: torch.Tensor | None = None
    ) -> None:
        self.samples, self.indices = samples, list(indices)
        self.labels = samples.labels[self.indices] if labels is None else labels
        self.ids = [samples.ids[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def store(self) -> PictureStore:
        """That of all pictures, chosen or not."""
        return self.samples.store

    @property
    def paths(self) -> list[Path]:
        """The picture files."""
        return [self.samples.paths[index] for index in self.indices]

    def picture(self, index: int) -> torch.Tensor:
        """One picture before its transform: uint8 of shape (3, height, width)."""
        return self.samples.picture(self.indices[index])

    def plain(self) -> Selection:
        """The same selection of the same pictures without augmentation."""
        return Selection(self.samples.plain(), self.indices, self.labels)

    def __getitems__(self, draws: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        samples, _ = self.samples.__getitems__([(self.indices[i], seed) for i, seed in draws])
        return samples, self.labels[[index for index, _ in draws]]


def fingerprint(listing: Listing) -> str:
    """SHA-256 over the ids, labels and splits of a data set, as 64 hexadecimal digits."""
    return fingerprint_of(
        {
            split: zip(picture_ids(paths, listing.root), labels, strict=True)
            for split, (paths, labels) in listing.splits.items()
        }
    )


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
    return DataSet(listing.name, fingerprint(listing))
