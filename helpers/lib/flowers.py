"""Oxford Flowers102 on disk, whole or in part, and the drawn flowers in the same layout."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import Flowers102

from helpers.errors import KitError
from helpers.lib.folders import MINI_FOLDER
from helpers.lib.label_files import DRAWN_MD5, LABEL_FILES

NUM_PICTURES = 8189  # Nilsback and Zisserman, 2008; names image_00001.jpg ... image_08189.jpg
MINI_NOTE = "drawn flowers (mini profile), not photographs"


def flowers102_is_present(data_dir: Path) -> bool:
    """Whether all of Flowers102 is below `data_dir`; raises `KitError` when only a part is."""
    folder = data_dir / "flowers-102"
    inside = folder.iterdir() if folder.is_dir() else ()
    if all(path.name.startswith(".") or path.suffix == ".part" for path in inside):
        return False  # nothing, or what a download works with
    missing = [name for name in LABEL_FILES if not (folder / name).is_file()]
    there = {path.name for path in folder.glob("jpg/*")}
    wanted = (f"image_{number:05d}.jpg" for number in range(1, NUM_PICTURES + 1))
    if absent := [name for name in wanted if name not in there]:
        names = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        missing.append(f"{len(absent):,} of {NUM_PICTURES:,} pictures in jpg/ ({names})")
    if missing:
        raise KitError(
            f"Flowers102 in {folder} is incomplete: missing {' and '.join(missing)}. Run "
            "`python -m coursekit download` to complete it, or set KIT_PROFILE=mini to go without"
        )
    return True


class DrawnFlowers(Flowers102):
    """The mini data set: drawn flowers in Flowers102's own files; `classes` are the species.

    Raises `KitError` when some are missing or a label file is damaged.
    """

    _file_dict = {  # noqa: RUF012 (torchvision's own attribute)
        key: (name, DRAWN_MD5[name])
        for key, name in zip(("label", "setid"), LABEL_FILES, strict=True)
    }

    def __init__(self, root: Path = MINI_FOLDER, split: str = "train") -> None:
        folder = Path(root) / "flowers-102"
        hint = "restore it with `git checkout -- data/mini/flowers-102`, or clone the kit again"
        try:
            super().__init__(root, split=split)
            self.classes = (folder / "class_names.txt").read_text(encoding="utf-8").splitlines()
        except (OSError, RuntimeError, ValueError):
            raise KitError(f"{folder} is incomplete or damaged: {hint}") from None
        if len(self.classes) <= max(self._labels):
            raise KitError(f"{folder} has {len(self.classes)} names of classes, too few: {hint}")
        missing = [path for path in self._image_files if not path.is_file()]
        if missing:
            raise KitError(f"{missing[0]} is missing, {len(missing)} in all: {hint}")
