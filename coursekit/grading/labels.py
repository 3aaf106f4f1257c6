"""The instructor's own labels, from the label files of Flowers102, real or drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import KitError
from helpers.lib.folders import MINI_FOLDER
from helpers.lib.identity import fingerprint_of
from helpers.lib.label_files import LABEL_FILES, is_whole

SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}  # as setid.mat calls them


@dataclass(frozen=True)
class Labels:
    """What is known of a data set: its label for each test picture, sizes and fingerprint."""

    test: dict[str, int]  # picture id -> label, from 0
    sizes: dict[str, int]  # of train, val and test
    fingerprint: str


def read_labels(folder: Path) -> Labels | None:
    """The labels in a folder of Flowers102; None when it has none.

    Only the two label files are needed, not the pictures. Raises `KitError` when one is damaged.
    """
    from scipy.io import loadmat

    if not all((folder / name).is_file() for name in LABEL_FILES):
        return None
    try:
        contents = [(folder / name).read_bytes() for name in LABEL_FILES]
        if not all(map(is_whole, contents)):
            raise ValueError("its check sum does not fit")
        labels, sets = (loadmat(io.BytesIO(content)) for content in contents)
        known = labels["labels"][0]
        splits = {
            split: [
                (f"image_{number:05d}.jpg", int(known[number - 1]) - 1)
                for number in sets[name][0].tolist()
            ]
            for split, name in SPLITS.items()
        }
    except Exception as error:  # scipy fails in dozens of ways on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KitError(
            f"a label file in {folder} is damaged ({reason:.200}): run `python -m coursekit "
            "download`, or restore data/mini/flowers-102"
        ) from None
    sizes = {split: len(pairs) for split, pairs in splits.items()}
    return Labels(dict(splits["test"]), sizes, fingerprint_of(splits))


def known_labels(data_dir: Path) -> dict[str, Labels]:
    """The labels that the instructor has, by profile: in `data_dir`, and of the drawn flowers."""
    places = {"full": data_dir, "mini": MINI_FOLDER}
    found = {profile: read_labels(place / "flowers-102") for profile, place in places.items()}
    return {profile: labels for profile, labels in found.items() if labels is not None}
