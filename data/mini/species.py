"""The flower species of the mini profile: what stays the same from picture to picture.

Nothing here draws.  A `Species` is a bundle of fixed parameters; `draw_flowers.py` turns it into
pictures.  Twelve target species are written by hand, the source species follow from a fixed rule.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Colour = tuple[float, float, float]
Morph = tuple[Colour, Colour, Colour]

# Every palette is (colour at the petal's base, colour at its tip, colour of its markings).
# Species draw on the same few palettes, so that colour alone does not name a species.
PALETTES: dict[str, Morph] = {
    "rose": ((0.98, 0.74, 0.83), (0.90, 0.33, 0.58), (0.60, 0.06, 0.30)),
    "violet": ((0.80, 0.70, 0.95), (0.50, 0.30, 0.78), (0.27, 0.09, 0.47)),
    "gold": ((0.99, 0.74, 0.13), (0.99, 0.88, 0.25), (0.80, 0.30, 0.06)),
    "cream": ((0.95, 0.94, 0.76), (0.98, 0.97, 0.94), (0.82, 0.34, 0.52)),
    "coral": ((0.98, 0.62, 0.30), (0.94, 0.36, 0.22), (0.58, 0.08, 0.10)),
    "sky": ((0.86, 0.91, 0.98), (0.38, 0.52, 0.90), (0.16, 0.17, 0.55)),
    "crimson": ((0.82, 0.10, 0.18), (0.76, 0.06, 0.16), (0.26, 0.02, 0.08)),
    "blush": ((0.99, 0.93, 0.84), (0.97, 0.74, 0.70), (0.76, 0.20, 0.34)),
    "plum": ((0.62, 0.20, 0.48), (0.40, 0.10, 0.34), (0.93, 0.74, 0.86)),
    "lemon": ((0.90, 0.92, 0.50), (0.98, 0.95, 0.60), (0.55, 0.16, 0.28)),
}

YELLOW: Colour = (0.95, 0.75, 0.14)
BROWN: Colour = (0.36, 0.20, 0.10)
LIME: Colour = (0.68, 0.76, 0.26)
DARK: Colour = (0.20, 0.08, 0.17)
PALE: Colour = (0.95, 0.92, 0.72)


@dataclass(frozen=True)
class Species:
    """One drawn flower species; lengths are fractions of the bloom's radius unless noted.

    name: what the species is called.  form: how petals are arranged (`face`, `cup`, `umbel`,
    `spike`).  petals: number in a layer.  layers: rings of petals.  shape: petal outline.
    width: petal breadth (1: neighbours just touch).  shrink: radius of a layer over the one below.
    notch, fringe: depth of the cut in the tip and of the fringe along it.  twist: turn of the
    petals from centre to tip in radians.  lip: how much longer the lowest petals are.
    pattern: markings.  morphs: palettes, one of which each picture takes.  centre,
    centre_size, centre_colour: the heart of the bloom.  leaf, leaf_colour: foliage.
    stem: breadth in fractions of the picture's short side.  size: bloom radius in the same unit.
    """

    name: str
    form: str = "face"
    petals: int = 5
    layers: int = 1
    shape: str = "round"
    width: float = 1.0
    shrink: float = 0.7
    notch: float = 0.0
    fringe: float = 0.0
    twist: float = 0.0
    lip: float = 0.0
    pattern: str = "plain"
    morphs: tuple[Morph, ...] = (PALETTES["rose"],)
    centre: str = "button"
    centre_size: float = 0.2
    centre_colour: Colour = YELLOW
    leaf: str = "ovate"
    leaf_colour: Colour = (0.24, 0.46, 0.18)
    stem: float = 0.02
    size: float = 0.36


def morphs(*names: str) -> tuple[Morph, ...]:
    """The palettes of the given names, in order."""
    return tuple(PALETTES[name] for name in names)


GREEN: Colour = (0.24, 0.46, 0.18)
OLIVE: Colour = (0.36, 0.46, 0.17)
BLUISH: Colour = (0.25, 0.45, 0.30)

TARGET_SPECIES: tuple[Species, ...] = (
    Species(
        "meadow star",
        petals=5,
        shape="pointed",
        width=0.78,
        pattern="stripe",
        morphs=morphs("rose", "violet", "cream"),
        centre="stamens",
        centre_size=0.26,
        leaf="lance",
        leaf_colour=GREEN,
    ),
    Species(
        "heartwort",
        petals=5,
        shape="wedge",
        width=1.15,
        notch=0.24,
        pattern="eye",
        morphs=morphs("rose", "gold"),
        centre="tube",
        centre_size=0.13,
        leaf="heart",
        leaf_colour=GREEN,
    ),
    Species(
        "ray button",
        petals=17,
        layers=2,
        shape="strap",
        width=1.0,
        shrink=0.86,
        morphs=morphs("cream", "gold"),
        centre="disc",
        centre_size=0.3,
        leaf="lobed",
        leaf_colour=OLIVE,
    ),
    Species(
        "spoonwheel",
        petals=12,
        shape="spoon",
        width=1.25,
        morphs=morphs("violet", "rose"),
        centre="disc",
        centre_size=0.24,
        leaf="serrate",
        leaf_colour=GREEN,
    ),
    Species(
        "goblet lily",
        form="cup",
        petals=5,
        shape="tulip",
        width=1.0,
        morphs=morphs("rose", "gold"),
        centre="none",
        pattern="edge",
        leaf="blade",
        leaf_colour=BLUISH,
        stem=0.028,
        size=0.3,
    ),
    Species(
        "ragged Kate",
        petals=5,
        shape="wedge",
        width=1.1,
        fringe=0.34,
        pattern="eye",
        morphs=morphs("rose", "cream"),
        centre="button",
        centre_size=0.1,
        centre_colour=PALE,
        leaf="blade",
        leaf_colour=BLUISH,
    ),
    Species(
        "hermit rosette",
        petals=8,
        layers=4,
        shape="round",
        width=1.35,
        shrink=0.74,
        morphs=morphs("rose", "cream", "gold"),
        centre="none",
        leaf="serrate",
        leaf_colour=GREEN,
    ),
    Species(
        "tinder lily",
        petals=3,
        layers=2,
        shape="lily",
        width=0.56,
        shrink=0.96,
        pattern="spots",
        morphs=morphs("gold", "cream"),
        centre="stamens",
        centre_size=0.42,
        centre_colour=BROWN,
        leaf="lance",
        leaf_colour=GREEN,
        size=0.4,
    ),
    Species(
        "whirling Nan",
        petals=5,
        shape="round",
        width=1.2,
        twist=1.2,
        morphs=morphs("violet", "rose"),
        centre="tube",
        centre_size=0.15,
        leaf="ovate",
        leaf_colour=GREEN,
    ),
    Species(
        "trumpet maid",
        petals=6,
        shape="ovate",
        width=1.05,
        morphs=morphs("gold", "cream"),
        centre="corona",
        centre_size=0.4,
        leaf="blade",
        leaf_colour=BLUISH,
    ),
    Species(
        "jester's face",
        petals=5,
        shape="round",
        width=1.3,
        lip=0.25,
        pattern="blotch",
        morphs=morphs("violet", "gold", "cream"),
        centre="button",
        centre_size=0.12,
        leaf="lobed",
        leaf_colour=GREEN,
    ),
    Species(
        "posy parasol",
        form="umbel",
        petals=5,
        shape="round",
        width=1.0,
        morphs=morphs("violet", "rose", "cream"),
        centre="button",
        centre_size=0.22,
        leaf="ovate",
        leaf_colour=OLIVE,
        size=0.4,
    ),
)

_FIRST = (
    "amber", "bishop's", "candle", "copper", "dawn", "ember", "fairy", "fen", "ghost", "harvest",
    "heath", "hollow", "lantern", "marsh", "moor", "night", "old man's", "parish", "pebble",
    "river", "sand", "shepherd's", "silver", "thunder", "twilight", "velvet", "widow's", "winter",
)  # fmt: skip
_SECOND = (
    "bell", "bonnet", "bright", "crown", "cup", "eye", "fan", "glory", "lace", "mallow-wort",
    "paint", "pinwheel", "plume", "ruff", "slipper-wort", "spark", "thimble", "torch", "wheel",
)  # fmt: skip
_SHAPES = (
    "round", "pointed", "wedge", "strap", "spoon", "ovate", "lily", "needle", "ellipse",
)  # fmt: skip


_PATTERNS = ("stripe", "spots", "edge", "eye", "veins", "tip", "blotch")


class _Dice:
    """Random choices that depend on nothing but the generator's stream of numbers in [0, 1)."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Choices that consume the numbers of `rng`."""
        self.rng = rng

    def pick(self, *options: Any) -> Any:
        """One of the options, all equally likely."""
        return options[int(self.rng.random() * len(options))]

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`, three decimals."""
        return round(low + (high - low) * self.rng.random(), 3)

    def maybe(self, chance: float, low: float, high: float) -> float:
        """Like `between` with probability `chance`, else 0."""
        value = self.between(low, high)
        return value if self.rng.random() < chance else 0.0


def _petals(dice: _Dice) -> dict[str, Any]:
    """Random form, petal number, layers and shape that suit each other, as `Species` fields."""
    form = dice.pick(*["face"] * 6, "cup", "umbel", "spike")
    shape = dice.pick(*(("tulip", "ovate", "lily", "pointed") if form == "cup" else _SHAPES))
    if form != "face":
        petals = dice.pick(4, 5, 6)
    elif shape in ("strap", "spoon", "needle"):
        petals = dice.pick(8, 9, 11, 13, 15, 19, 21)
    else:
        petals = dice.pick(3, 4, 4, 5, 5, 6, 6, 7, 8, 10)
    layers = dice.pick(1, 1, 1, 2, 3, 4)
    if form != "face":
        layers = 1
    elif petals == 3:  # three petals alone leave gaps
        layers = 2
    return {"form": form, "petals": petals, "layers": layers, "shape": shape}


def _source(rng: np.random.Generator, name: str) -> Species:
    """A random species named `name`, its parameters drawn so that they suit each other."""
    dice = _Dice(rng)
    petals = _petals(dice)
    broad = petals["shape"] in ("round", "wedge", "ovate")
    face = petals["form"] == "face"
    centre = dice.pick("stamens", "disc", "tube", "button", "corona", "none")
    order = np.argsort(rng.random(len(PALETTES)))[: dice.pick(1, 2, 2, 3)]
    return Species(
        name,
        **petals,
        width=dice.between(0.8, 1.4) if broad else dice.between(0.75, 1.15),
        shrink=dice.between(0.7, 0.9),
        notch=dice.maybe(0.3 * broad, 0.1, 0.3),
        fringe=dice.maybe(0.25 * broad, 0.12, 0.35),
        twist=dice.maybe(0.2 * face, -1.0, 1.0),
        lip=dice.maybe(0.15 * (face and petals["layers"] == 1), 0.15, 0.35),
        pattern=dice.pick("plain", "plain", *_PATTERNS),
        morphs=morphs(*(list(PALETTES)[int(i)] for i in order)),
        centre=centre,
        centre_size=dice.between(0.3, 0.45) if centre == "corona" else dice.between(0.12, 0.36),
        centre_colour=dice.pick(YELLOW, YELLOW, BROWN, LIME, DARK, PALE),
        leaf=dice.pick("ovate", "lance", "heart", "lobed", "serrate", "blade"),
        leaf_colour=dice.pick(GREEN, OLIVE, BLUISH),
        stem=dice.between(0.012, 0.03),
        size=dice.between(0.28, 0.4) if face else dice.between(0.31, 0.41),
    )


def _signature(species: Species) -> tuple:
    """What tells species apart at a glance; no two species share it."""
    return (species.form, species.petals, species.layers, species.shape, species.centre)


def _sources(count: int, seed: int) -> tuple[Species, ...]:
    """`count` source species from `seed`, unlike each other and unlike every target species."""
    rng = np.random.default_rng(seed)
    names = [f"{first} {second}" for first in _FIRST for second in _SECOND]
    names = [names[int(i)] for i in np.argsort(rng.random(len(names)))]
    taken = {_signature(species) for species in TARGET_SPECIES}
    sources: list[Species] = []
    while len(sources) < count:
        species = _source(rng, names[len(sources)])
        if _signature(species) not in taken:
            taken.add(_signature(species))
            sources.append(species)
    return tuple(sources)


SOURCE_SPECIES: tuple[Species, ...] = _sources(72, seed=102)
