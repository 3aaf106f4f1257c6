"""Draw the small pictures of the extensions: ten species of the drawn world, 32 pixels wide.

Run it to write 1,600 pictures in class folders beside this script, the way CIFAR is kept here:

    python data/mini/draw_small.py

They are drawn anew, with another seed than flowers-102/, cut to their middle square and scaled
down: none of them is a smaller copy of a picture there.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from draw_flowers import SHORT_SIDE, TARGET_SPECIES, draw
from PIL import Image
from tqdm import tqdm

SEED = 32  # flowers-102/ has 0, the pictures of the source species have 1
SIDE = 32  # pixels
SPECIES = TARGET_SPECIES[:10]
COUNTS = {"train": 120, "test": 40}  # of each species; val is taken from train
FOLDER = "flowers-32"


def draw_small(label: int, index: int) -> Image.Image:
    """Picture number `index` of a species, 32 x 32 pixels, RGB."""
    picture = draw(SPECIES[label], index, seed=SEED)
    top, left = ((side - SHORT_SIDE) // 2 for side in picture.shape[:2])
    square = picture[top : top + SHORT_SIDE, left : left + SHORT_SIDE]
    return Image.fromarray(np.ascontiguousarray(square)).resize((SIDE, SIDE), Image.Resampling.BOX)


def picture_names() -> list[tuple[str, int, int]]:
    """For each picture its path below the folder, the number of its species, and its index."""
    names = []
    for label, species in enumerate(SPECIES):
        index = 0
        for split, count in COUNTS.items():
            for _ in range(count):
                names.append(
                    (f"{split}/{species.name.replace(' ', '_')}/{index:03d}.jpg", label, index)
                )
                index += 1
    return names


def write_pictures(folder: Path) -> Path:
    """Write all pictures to `folder`/flowers-32, unless it is there; returns that folder.

    They are drawn into a temporary folder that is renamed at the end: nothing is half-written.
    """
    final = folder / FOLDER
    if final.exists():
        return final
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drawing-", dir=folder) as scratch:
        root = Path(scratch) / FOLDER
        for name, label, index in tqdm(picture_names(), "drawing", unit=""):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_small(label, index).save(path, quality=90, optimize=True)
        root.rename(final)
    return final


def main() -> None:
    """Write the pictures where the command line says."""
    parser = argparse.ArgumentParser(description="Draw the 1,600 small pictures of the extensions.")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent,
        help=f"folder to write {FOLDER}/ into (default: here); one that is there is left alone",
    )
    print(write_pictures(parser.parse_args().out))


if __name__ == "__main__":
    main()
