"""Draw the mini profile's data set: small pictures of invented flowers, in Flowers102's layout.

Run it to write 720 pictures of twelve species beside this script:

    python data/mini/draw_flowers.py

A picture is computed, not photographed, yet it is made hard in the ways photographs are: species
share their colours, and place, scale, tilt, light, background and clutter change every time.
Shapes are soft-edged fields on a grid of twice the final resolution, so that the last digits of
a machine's sine and cosine cannot move a pixel by more than one grey level.
"""

import argparse
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageDraw
from scipy.io import savemat
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

_HERE = Path(__file__).resolve().parent
if str(_HERE) not in sys.path:  # so that loading this file from elsewhere finds its table too
    sys.path.append(str(_HERE))

from species import PALETTES, SOURCE_SPECIES, TARGET_SPECIES, Colour, Species  # noqa: E402

__all__ = ["SOURCE_SPECIES", "TARGET_SPECIES", "Species", "contact_sheet", "draw", "write_dataset"]

SHORT_SIDE = 80  # pixels of the final picture
LONG_SIDES = (80, 88, 96, 104, 112)
FINE = 2  # the picture is drawn this many times as large and averaged down
UNIT = float(SHORT_SIDE * FINE)  # fine pixels in the short side: the unit of all sizes
TAU = 2 * np.pi
Array = np.ndarray


# ---------------------------------------------------------------------------------------------
# Outlines: half-width of a petal or leaf as a function of the position t along its axis
# ---------------------------------------------------------------------------------------------


_STEPS = 4096  # fine enough that the step from one value to the next does not show


def _cap(t: Array, widest: float) -> Array:
    """A rounded end: 1 up to t = `widest`, then a quarter ellipse down to 0 at t = 1."""
    return np.sqrt(np.clip(1 - (np.clip(t - widest, 0, None) / (1 - widest)) ** 2, 0, 1))


def _outlines() -> dict[str, tuple[Array, Array]]:
    """Half-width (at most 1) and slope by outline name, at `_STEPS` + 1 values of t in 0-1."""
    t = np.linspace(0, 1, _STEPS + 1)
    rise = np.sin(np.pi / 2 * np.clip(t / 0.62, 0, 1))
    ovate = t**0.55 * (1 - t) ** 0.75
    teeth = np.abs((t * 9) % 1 - 0.15)
    table = {
        "round": (0.12 + 0.88 * rise**1.2) * _cap(t, 0.62),
        "ellipse": np.sqrt(t * (1 - t)),
        "ovate": t**0.6 * (1 - t) ** 0.5,
        "pointed": t**0.8 * (1 - t) ** 0.8,
        "lily": (0.15 + t**1.1) * (1 - t) ** 0.8,
        "wedge": (0.08 + 0.92 * t) * _cap(t, 0.84),
        "strap": np.minimum(1, 0.45 + 1.6 * t) * _cap(t, 0.86),
        "needle": np.minimum(1, 0.3 + 2 * t) * (1 - t) ** 0.6,
        "spoon": np.maximum(
            0.3 * _cap(t, 0.9), np.sqrt(np.clip(1 - ((t - 0.79) / 0.21) ** 2, 0, 1))
        ),
        "tulip": (0.3 + 0.7 * np.sin(np.pi * np.clip(t, 0, 0.5))) * (1 - t**2.6) ** 0.8,
        "lance": t**0.7 * (1 - t) ** 0.9,
        "blade": np.minimum(1, 0.5 + t) * (1 - t) ** 0.6,
        "heart": (0.1 + t) ** 0.25 * (1 - t) ** 0.85,
        "lobed": ovate * (0.45 + 0.55 * np.abs(np.cos(np.pi * (4.2 * t + 0.2)))),
        "serrate": ovate * (1 - 0.34 * teeth),
    }
    table = {name: (width / width.max()).astype(np.float32) for name, width in table.items()}
    return {name: (width, np.abs(np.gradient(width, 1 / _STEPS))) for name, width in table.items()}


_OUTLINES = _outlines()


@dataclass(frozen=True)
class _Outline:
    """An outline of breadth `half` (axis length 1), ready to be looked up."""

    width: Array
    steep: Array
    half: float

    @classmethod
    def of(cls, name: str, half: float) -> "_Outline":
        """The named outline, its greatest half-width being `half`."""
        width, slope = (np.float32(half) * values for values in _OUTLINES[name])
        steep = 1 / np.sqrt(1 + np.minimum(slope, 6) ** 2)
        return cls(width, steep, half)

    def inside(self, t: Array, across: Array) -> Array:
        """About the distance to the edge, positive inside, in axis lengths; shape as `t`."""
        place = (np.clip(t, 0, 1) * _STEPS).astype(np.intp)
        beyond = np.abs(t - 0.5) - 0.5
        return (self.width[place] - np.abs(across)) * self.steep[place] - np.clip(beyond, 0, None)


def _ramp(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, straight in between; shape as `value`."""
    return np.clip((value - low) * (1 / (high - low)), 0, 1)


# ---------------------------------------------------------------------------------------------
# The scene: what is true of one picture as a whole
# ---------------------------------------------------------------------------------------------


@dataclass
class _Scene:
    """A canvas (3 x height x width, float32, 0-1) with the light that falls on it."""

    canvas: Array
    rng: np.random.Generator
    light: float  # direction the light comes from, radians, 0 = right, clockwise

    def window(self, x: float, y: float, reach: float) -> tuple | None:
        """The square around (x, y): its two slices, and x and y offsets from the centre."""
        height, width = self.canvas.shape[1:]
        top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 1)
        left, right = max(0, int(x - reach)), min(width, int(x + reach) + 1)
        if top >= bottom or left >= right:
            return None
        down = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
        along = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
        return (slice(top, bottom), slice(left, right)), along, down

    def paint(self, where: tuple, alpha: Array, colour: Array) -> None:
        """Lay `colour` (3 x h x w or 3 x 1 x 1) over the canvas, with opacity `alpha` (h x w)."""
        patch = self.canvas[(slice(None), *where)]
        patch += alpha * (colour - patch)

    def coin(self, chance: float) -> bool:
        """True with probability `chance`."""
        return self.rng.random() < chance


def _rgb(red: float, green: float, blue: float) -> Array:
    """A colour to paint with; 3 x 1 x 1."""
    return np.array([[[red]], [[green]], [[blue]]], dtype=np.float32)


def _vary(rng: np.random.Generator, colour: Array | Colour, spread: float) -> Array:
    """`colour` with its brightness and each channel moved by up to `spread`; 3 x 1 x 1."""
    factor = 1 + spread * (rng.random(3) * 2 - 1) + spread * (rng.random() * 2 - 1)
    return (np.ravel(colour) * factor).astype(np.float32)[:, None, None]


# ---------------------------------------------------------------------------------------------
# Surroundings: background, leaves, stems
# ---------------------------------------------------------------------------------------------

_BACKDROPS = {  # name: (dark colour, light colour, third colour, grid cells in the short side)
    "foliage": ((0.05, 0.13, 0.05), (0.30, 0.46, 0.18), (0.42, 0.52, 0.20), 7),
    "lawn": ((0.20, 0.35, 0.10), (0.48, 0.62, 0.24), (0.60, 0.66, 0.32), 14),
    "sky": ((0.40, 0.60, 0.86), (0.72, 0.83, 0.95), (0.96, 0.97, 0.99), 3),
    "soil": ((0.16, 0.11, 0.08), (0.42, 0.31, 0.22), (0.56, 0.47, 0.37), 18),
    "dusk": ((0.05, 0.05, 0.09), (0.20, 0.16, 0.25), (0.34, 0.24, 0.24), 4),
    "wall": ((0.62, 0.57, 0.50), (0.80, 0.76, 0.70), (0.88, 0.80, 0.66), 5),
    "garden": ((0.10, 0.20, 0.09), (0.36, 0.48, 0.22), None, 5),
}


def _clouds(rng: np.random.Generator, height: int, width: int, cells: int) -> Array:
    """Smooth noise in 0-1 with about `cells` bumps in the short side; height x width."""
    coarse = 2 if cells > 9 else 4
    shape = height // coarse + 2, width // coarse + 2
    sigma = 0.3 * min(shape) / cells
    grid = gaussian_filter(rng.random(shape, dtype=np.float32) - 0.5, sigma, mode="wrap")
    grid = 0.5 + grid * np.float32(2.4 * sigma)  # averaging took away most of the contrast
    picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(picture), 0, 1)


def _backdrop(rng: np.random.Generator, height: int, width: int) -> Array:
    """A background without objects; 3 x height x width, 0-1."""
    dark, light, third, cells = list(_BACKDROPS.values())[int(rng.random() * len(_BACKDROPS))]
    if third is None:  # far-off blooms of any colour
        third = list(PALETTES.values())[int(rng.random() * len(PALETTES))][1]
    dark, light, third = (_vary(rng, colour, 0.12) for colour in (dark, light, third))
    mix = 0.65 * _clouds(rng, height, width, cells) + 0.35 * _clouds(rng, height, width, 2 * cells)
    patch = _ramp(_clouds(rng, height, width, cells), 0.62, 0.95)
    picture = dark + _ramp(mix, 0.2, 0.85) * (light - dark)
    picture += patch * (third - picture)
    slope = np.linspace(rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), height, dtype=np.float32)
    return picture * (1 + slope)[:, None]


def _bokeh(scene: _Scene, scale: float) -> None:
    """Discs of out-of-focus light."""
    rng = scene.rng
    height, width = scene.canvas.shape[1:]
    for _ in range(2 + int(rng.random() * 5)):
        radius = scale * rng.uniform(0.04, 0.12)
        x, y, strength = rng.random() * width, rng.random() * height, rng.uniform(0.08, 0.3)
        colour = _vary(rng, (0.9, 0.95, 0.7), 0.15)
        window = scene.window(x, y, radius + 2)
        if window:
            where, dx, dy = window
            disc = np.clip(radius - np.sqrt(dx**2 + dy**2), 0, 1)
            scene.paint(where, disc * np.float32(strength), colour)


def _leaf(
    scene: _Scene, kind: str, x: float, y: float, angle: float, length: float, colour: Array
) -> None:
    """A leaf from its base (x, y) towards `angle`; position and length in canvas pixels."""
    rng = scene.rng
    narrow = {"lance": 0.15, "blade": 0.06, "heart": 0.42}.get(kind, 0.3)
    outline = _Outline.of(kind, narrow * rng.uniform(0.85, 1.15))
    bend = rng.uniform(-0.25, 0.25)
    lit = 1 + 0.18 * np.cos(angle - scene.light)
    rib = rng.uniform(0.1, 0.25)
    middle = x + np.cos(angle) * length / 2, y + np.sin(angle) * length / 2
    window = scene.window(*middle, length * (0.5 + 0.35 * abs(bend) + 0.2))
    if not window:
        return
    where, dx, dy = window
    cos, sin = np.float32(np.cos(angle) / length), np.float32(np.sin(angle) / length)
    t = dx * cos + dy * sin + np.float32(0.5)
    v = dy * cos - dx * sin + np.float32(bend) * t * (1 - t)
    inside = outline.inside(t, v) * np.float32(length)
    side = v * np.float32(1 / outline.half)
    veins = np.cos((t - np.abs(v) * 0.7) * np.float32(TAU * 8))
    middle_rib = np.clip(1 - np.abs(v) * np.float32(length / 2.2), 0, 1)
    shade = np.float32(lit) * (
        0.82 + 0.25 * t + 0.12 * np.float32(np.sin(angle - scene.light)) * side
    )
    shade += 0.05 * veins + np.float32(rib) * middle_rib
    scene.paint(where, np.clip(inside + 0.5, 0, 1), shade * colour)


def _stem(scene: _Scene, x: float, y: float, foot: float, breadth: float, colour: Array) -> None:
    """A curved stem from (x, y) down to the picture's lower edge at x = `foot`, in pixels."""
    height, width = scene.canvas.shape[1:]
    top = max(0, int(y))
    if top >= height:
        return
    t = ((np.arange(top, height, dtype=np.float32) - top) / max(1, height - top))[:, None]
    line = x + (foot - x) * t**2
    left = max(0, int(min(x, foot) - breadth - 2))
    right = int(max(x, foot) + breadth + 3)
    across = np.arange(left, min(right, width), dtype=np.float32)[None, :] - line
    across = across.astype(np.float32)
    shade = 0.92 + 0.25 * np.clip(across / breadth, -1, 1) * np.float32(np.cos(scene.light))
    where = slice(top, height), slice(left, left + across.shape[1])
    scene.paint(where, np.clip(breadth + 0.5 - np.abs(across), 0, 1), shade * colour)


_LEAVES = ("ovate", "lance", "heart", "lobed", "serrate", "blade")


def _clutter(scene: _Scene, count: int, scale: float, *, near: bool = False) -> None:
    """`count` leaves and grass blades of no particular species; `scale`: the short side.

    Leaves may float anywhere in the blurred distance; `near` ones grow in from the border.
    """
    rng = scene.rng
    height, width = scene.canvas.shape[1:]
    tone = _vary(rng, (0.28, 0.44, 0.18), 0.2)
    for _ in range(count):
        kind = _LEAVES[int(rng.random() * len(_LEAVES))]
        x, y = rng.uniform(-0.1, 1.1) * width, rng.uniform(0.1, 1.3) * height
        angle = rng.uniform(-np.pi, 0) if kind == "blade" else rng.uniform(-np.pi, np.pi)
        length = scale * (rng.uniform(0.5, 1.1) if kind == "blade" else rng.uniform(0.25, 0.6))
        if near:
            x, y = ((-0.03, 0.5, 1.03)[int(rng.random() * 3)], rng.uniform(0.55, 1.03))
            x, y = (x * width, y * height) if x != 0.5 else (rng.random() * width, 1.03 * height)
            angle = np.arctan2(rng.uniform(0.1, 0.9) * height - y, 0.5 * width - x)
            angle += rng.uniform(-0.5, 0.5)
            length = max(length, 0.4 * scale)
        _leaf(scene, kind, x, y, angle, length, _vary(rng, tone, 0.15))


# ---------------------------------------------------------------------------------------------
# Blooms
# ---------------------------------------------------------------------------------------------


class _Bloom:
    """A bloom being laid down petal by petal: opacity and four fields, all h x w.

    tip: share of the tip colour against the base colour.  mark: share of the marking colour.
    shade: brightness.  `pixels` is the length of one field unit in canvas pixels.
    """

    def __init__(self, like: Array, pixels: float) -> None:
        """An empty bloom over a window shaped as `like`."""
        self.pixels = np.float32(pixels)
        self.alpha = np.zeros_like(like)
        self.tip, self.mark = self.alpha.copy(), self.alpha.copy()
        self.shade = np.ones_like(like)

    def lay(self, inside: Array, tip: Array, mark: Array, shade: Array) -> None:
        """Put a petal on top; `inside` is the distance to its edge in field units."""
        distance = inside * self.pixels
        alpha = np.clip(distance + 0.5, 0, 1)
        below = 1 - 0.34 * np.clip(1 + distance * np.float32(0.16), 0, 1)
        self.shade *= below
        self.alpha += alpha * (1 - self.alpha)
        self.tip += alpha * (tip - self.tip)
        self.mark += alpha * (mark - self.mark)
        self.shade += alpha * (shade - self.shade)

    def colour(self, palette: Array) -> Array:
        """The 3 x h x w colours, from a palette of 3 x 3 x 1 x 1: base, tip, marking."""
        base, tip, mark = palette
        colour = base + self.tip * (tip - base)
        colour += self.mark * (mark - colour)
        # weak channels darken more than strong ones: shadows are deeper in colour, not grey
        return colour * (1 - (1 - self.shade) * (1.4 - 0.75 * colour))


def _marking(pattern: str, t: Array, s: Array, edge: Array) -> Array | np.float32:
    """Strength of a marking in 0-1 from place along (t) and across (s) a petal, and its edge."""
    if pattern == "stripe":
        return np.clip(1 - np.abs(s) * 3.6, 0, 1) * np.clip(1.5 - 1.5 * t, 0, 1)
    if pattern == "spots":
        return _spots(t, s) * np.clip(2.8 - 3.2 * t, 0, 1) * 0.9
    if pattern == "edge":
        return 0.85 * np.clip(1 - edge * 9, 0, 1)
    if pattern == "eye":
        return _ramp(t, 0.48, 0.34)
    if pattern == "veins":
        lines = np.abs(np.sin(s * np.float32(8.5)))
        return np.clip(1 - 2.6 * lines, 0, 1) * np.clip(1.25 - 1.25 * t, 0, 1)
    if pattern == "blotch":
        return _ramp(t + 0.25 * s * s, 0.66, 0.5)
    if pattern == "tip":
        return _ramp(t, 0.7, 0.88)
    return np.float32(0)


# Where the spot of each cell lies, and how large it is: x, y in -0.2 to 0.2, radius 0.18 to 0.34.
_SPOTS = np.random.default_rng(7).random((3, 8, 5)).astype(np.float32)
_SPOTS = _SPOTS * np.float32([[[0.4]], [[0.4]], [[0.16]]]) + np.float32(
    [[[-0.2]], [[-0.2]], [[0.18]]]
)


def _spots(t: Array, s: Array) -> Array:
    """Round spots strewn over a petal, one to a cell, rows staggered like bricks; 0-1."""
    down = np.clip(t, 0, 0.999) * np.float32(8)
    row = np.floor(down).astype(np.intp)
    along = np.clip(s * np.float32(0.5) + np.float32(0.5), 0, 0.999) * np.float32(4)
    along = along + (row % 2).astype(np.float32) * np.float32(0.5)
    column = np.floor(along).astype(np.intp)
    x, y, radius = _SPOTS[:, row, column]
    away = np.hypot(along - column - np.float32(0.5) - x, down - row - np.float32(0.5) - y)
    return _ramp(radius - away, -0.12, 0.08)


def _petal(
    species: Species, outline: _Outline, u: Array, v: Array
) -> tuple[Array, Array, Array, Array]:
    """A petal along u (length 1): distance to the edge, tip share, marking, and place across."""
    s = v * np.float32(1 / outline.half)
    if species.notch or species.fringe:
        cut = species.notch * np.exp(-(s**2) * 9) if species.notch else np.float32(0)
        if species.fringe:
            cut = cut + species.fringe * np.abs(np.sin(s * np.float32(8)))
        t = u / (1 - cut)
    else:
        t = u
    inside = outline.inside(t, v)
    mark = _marking(species.pattern, t, s, inside)
    return inside, _ramp(t, 0.15, 0.85), mark, s


def _ring(
    bloom: _Bloom, species: Species, scene: _Scene, r: Array, theta: Array, layer: int, spin: float
) -> None:
    """One ring of petals in polar coordinates, each overlapping its neighbours or overlapped.

    A pixel can lie on the two petals on either side of it only, so two fields do for any number.
    """
    n, rng = species.petals, scene.rng
    breadth = min(species.width * 0.64 * np.tan(np.pi / max(n, 4)), 0.62)
    outline = _Outline.of(species.shape, breadth)
    scale = species.shrink**layer
    facing = TAU * np.arange(n) / n + layer * np.pi / n + spin
    lengths = 1 + 0.07 * (rng.random(n) * 2 - 1) + species.lip * (np.sin(facing) - 0.3)
    inverse = (1 / (scale * lengths)).astype(np.float32)
    bold = np.clip(0.3 + np.sin(facing), 0, 1) if species.lip else np.ones(n)
    rank = np.sin(facing) if species.lip else rng.random(n)
    if species.twist:
        rank = np.arange(n)
    turn = (0.22 / n * TAU * (rng.random(n) - 0.5)).astype(np.float32)
    lit = 1 + 0.13 * np.cos(facing - scene.light) + 0.08 * (rng.random(n) - 0.5)
    lit = (lit * (0.9 + 0.06 * layer)).astype(np.float32)
    bold = bold.astype(np.float32)
    slant = (0.14 * np.sin(facing - scene.light)).astype(np.float32)
    sector = (theta - np.float32(facing[0])) * np.float32(n / TAU)
    lower = np.floor(sector)
    part = sector - lower
    first = lower.astype(np.intp) % n
    swapped = (rank > np.roll(rank, -1))[first]  # is the first petal above the second?
    for step in (swapped, ~swapped):
        index = (first + step) % n
        phi = (part - step.astype(np.float32)) * np.float32(TAU / n) - turn[index]
        reach = r * inverse[index]
        u, v = reach * np.cos(phi), reach * np.sin(phi)
        inside, tip, mark, s = _petal(species, outline, u, v)
        shade = lit[index] * (0.8 + 0.24 * np.clip(u * 1.6, 0, 1)) + slant[index] * s
        shade += 0.035 * np.cos(s * np.float32(14)) - 0.06 * s * s
        bloom.lay(inside * np.float32(scale), tip, mark * bold[index], shade)


def _cup(bloom: _Bloom, species: Species, scene: _Scene, x: Array, y: Array) -> None:
    """A cup seen from the side: petals fan out of a common base, those at the back first."""
    rng, n = scene.rng, species.petals
    outline = _Outline.of(species.shape, 0.36 * species.width)
    back = np.linspace(-0.34, 0.34, n - n // 2)
    front = np.linspace(-0.42, 0.42, max(2, n // 2))
    fan = [(a, 0.78, 1.0) for a in back] + [(a, 1.0, 0.94) for a in front]
    if n % 2:
        fan.append((0.0, 1.06, 0.88))
    for angle, bright, length in fan:
        angle = angle + rng.uniform(-0.05, 0.05)
        length = np.float32(1.75 * length * rng.uniform(0.95, 1.05))
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u = (x * sin + (0.85 - y) * cos) / length
        v = (x * cos - (0.85 - y) * sin) / length
        # petals bulge outwards and close again: bend their axes towards the middle
        v = v + np.float32(np.sign(angle) * -0.14) * (1 - (2 * u - 1) ** 2) * (abs(angle) > 0.1)
        inside, tip, mark, s = _petal(species, outline, u, v)
        shade = np.float32(bright) * (0.82 + 0.22 * np.clip(u * 1.4, 0, 1))
        shade += 0.14 * np.float32(np.cos(scene.light)) * s - 0.07 * s * s
        bloom.lay(inside * length, tip, mark, shade.astype(np.float32))


def _centre(
    species: Species, scene: _Scene, r: Array, theta: Array, pixels: float
) -> Iterator[tuple[Array, Array]]:
    """The heart of a bloom as (opacity h x w, colour 3 x h x w) coats, lowest first."""
    size = np.float32(species.centre_size * scene.rng.uniform(0.9, 1.1))
    colour = _vary(scene.rng, species.centre_colour, 0.08)
    pixels = np.float32(pixels)
    dome = np.clip(r / size, 0, 1)
    disc = np.clip((size - r) * pixels + 0.5, 0, 1)
    light = 1 + 0.22 * dome * np.cos(theta - np.float32(scene.light))
    if species.centre == "button":
        yield disc, (light - 0.3 * dome**3) * colour
    elif species.centre == "disc":
        seeds = np.cos(theta * 13 + r * np.float32(16 / size)) * np.cos(
            theta * 8 - r * np.float32(13 / size)
        )
        shade = light * (0.72 + 0.3 * seeds * np.clip(dome * 2, 0, 1)) + 0.25 * dome**2
        yield disc, shade * colour
    elif species.centre == "tube":
        yield np.clip(1.6 - r / size, 0, 1) * 0.75, colour
        yield np.clip((size * 0.62 - r) * pixels + 0.5, 0, 1), _rgb(0.16, 0.10, 0.06)
    elif species.centre == "corona":
        frill = size * (1 + 0.07 * np.cos(theta * 12))
        depth = np.clip(r / frill, 0, 1)
        rim = np.clip((frill - r) * pixels + 0.5, 0, 1)
        shade = 0.35 + 0.75 * depth**1.5 - 0.22 * depth * np.cos(theta - np.float32(scene.light))
        shade += 0.06 * np.cos(theta * 24)
        yield np.clip(1 + (frill - r) * pixels * 0.16, 0, 1) * 0.35, _rgb(0.1, 0.06, 0.04)
        yield rim, shade * colour
    elif species.centre == "stamens":
        yield from _stamens(scene, r, theta, size, pixels, colour)


def _stamens(
    scene: _Scene, r: Array, theta: Array, size: float, pixels: float, colour: Array
) -> Iterator[tuple[Array, Array]]:
    """Thread-like stamens with a knob each, around a small green pistil."""
    count = 6
    sector = (theta + np.float32(scene.rng.uniform(0, TAU))) * np.float32(count / TAU)
    phi = (sector - np.floor(sector) - 0.5) * np.float32(TAU / count)
    u, v = r * np.cos(phi), r * np.sin(phi)
    knob = 0.055 + 0.1 * size
    thread = np.clip((0.018 - np.abs(v)) * pixels + 0.7, 0, 1) * (u < size)
    dot = np.clip((knob - np.hypot((u - size) * 1.3, v * 0.8)) * pixels + 0.5, 0, 1)
    yield thread * 0.85, _rgb(0.86, 0.88, 0.62)
    yield dot, (1 - 0.5 * np.clip((u - size) / knob, -0.4, 1)) * colour
    yield np.clip((0.3 * size - r) * pixels + 0.5, 0, 1), _rgb(0.66, 0.72, 0.28)


def _florets(
    species: Species, scene: _Scene, x: Array, y: Array
) -> tuple[Array, Array, Array, float]:
    """Split a cluster into florets: local x and y, a brightness (all h x w), floret radius.

    Every pixel belongs to the floret nearest to it, so one pass draws them all.
    """
    rng = scene.rng
    if species.form == "umbel":
        k = np.arange(13)
        ring = np.sqrt((k + 0.3) / 13) * 0.86
        px, py = ring * np.cos(k * 2.39996), ring * np.sin(k * 2.39996) * 0.85
        radius = 0.29
    else:
        k = np.arange(17)
        height = k / 16
        px = (k % 3 - 1) * (0.36 - 0.3 * height) + 0.04 * np.sin(k * 2.4)
        py, radius = 1.0 - 2.0 * height, 0.3
    px = (px + 0.04 * (rng.random(len(k)) - 0.5)).astype(np.float32)
    py = (py + 0.04 * (rng.random(len(k)) - 0.5)).astype(np.float32)
    distance = (x - px[:, None, None]) ** 2 + (y - py[:, None, None]) ** 2
    owner = np.argmin(distance, axis=0)
    size = np.full(len(k), radius, np.float32)
    if species.form == "spike":
        size = (radius * (1 - 0.55 * height)).astype(np.float32)
    lit = 1 + 0.16 * (px * np.cos(scene.light) + py * np.sin(scene.light))
    lit = lit.astype(np.float32)
    return (x - px[owner]) / size[owner], (y - py[owner]) / size[owner], lit[owner], radius


def _bloom(
    scene: _Scene, species: Species, palette: Array, x: float, y: float, radius: float
) -> None:
    """One bloom (or cluster) centred on (x, y) with the given radius, in canvas pixels."""
    rng = scene.rng
    upright = species.form != "face" or species.lip > 0
    spin = rng.uniform(-0.3, 0.3) if upright else rng.uniform(0, TAU)
    tilt = rng.uniform(0.62, 1.0) if species.form == "face" else 1.0
    towards = rng.uniform(0, TAU)
    window = scene.window(
        x, y, radius * (1.35 if species.form in ("cup", "spike") else 1.15 + species.lip)
    )
    if not window:
        return
    where, dx, dy = window
    dx, dy = dx / np.float32(radius), dy / np.float32(radius)
    cos, sin = np.float32(np.cos(towards)), np.float32(np.sin(towards))
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / np.float32(tilt)
    lean = 1 + np.float32(0.35 * (1 - tilt)) * across  # the far half looks smaller
    along, across = along * lean, across * lean
    dx, dy = along * cos - across * sin, across * cos + along * sin
    cos, sin = np.float32(np.cos(spin)), np.float32(np.sin(spin))
    dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
    _fill_bloom(scene, species, palette, where, dx, dy, radius, upright)


def _fill_bloom(
    scene: _Scene,
    species: Species,
    palette: Array,
    where: tuple,
    dx: Array,
    dy: Array,
    radius: float,
    upright: bool,
) -> None:
    """Lay petals and heart into the window `where`, given flower-plane coordinates dx, dy."""
    rng = scene.rng
    lit, pixels = np.float32(1), radius
    if species.form in ("umbel", "spike"):
        dx, dy, lit, part = _florets(species, scene, dx, dy)
        pixels = radius * part
    r = np.sqrt(dx * dx + dy * dy)
    bloom = _Bloom(r, pixels)
    theta = np.arctan2(dy, dx)
    if species.form == "cup":
        _cup(bloom, species, scene, dx, dy)
    else:
        shadow = np.clip(1.1 - r, 0, 0.4) * 0.5
        scene.paint(where, shadow, _rgb(0.02, 0.05, 0.02))
        turned = theta + np.float32(species.twist) * r if species.twist else theta
        offset = np.pi / 2 if upright else rng.uniform(0, TAU)
        for layer in range(species.layers):
            _ring(bloom, species, scene, r, turned, layer, offset)
    scene.paint(where, bloom.alpha, bloom.colour(palette) * lit)
    if species.form != "cup":
        for alpha, colour in _centre(species, scene, r, theta, pixels):
            scene.paint(where, alpha.astype(np.float32), colour)


# ---------------------------------------------------------------------------------------------
# Whole pictures
# ---------------------------------------------------------------------------------------------


def _palette(species: Species, rng: np.random.Generator) -> Array:
    """The colours of one plant, 3 x 3 x 1 x 1: a morph of the species, slightly changed."""
    morph = np.array(species.morphs[int(rng.random() * len(species.morphs))], np.float32)
    tint = _vary(rng, (1, 1, 1), 0.07)
    return np.clip(morph[..., None, None] * tint, 0, 1)


def _plant(
    scene: _Scene, species: Species, palette: Array, x: float, y: float, size: float
) -> None:
    """Stem, leaves and bloom of one plant; bloom centre and size in canvas pixels."""
    rng = scene.rng
    green = _vary(rng, species.leaf_colour, 0.14)
    radius = species.size * size
    foot = x + rng.uniform(-0.25, 0.25) * size
    start = y + radius * {"cup": 0.8, "spike": -0.9}.get(species.form, 0)
    _stem(scene, x, start, foot, species.stem * size * 0.5 + 0.5, green * np.float32(1.1))
    for side in (-1, 1):
        if scene.coin(0.75):
            base = y + radius * rng.uniform(0.5, 1.3)
            angle = -np.pi / 2 + side * rng.uniform(0.5, 1.9)
            length = size * rng.uniform(0.32, 0.55) * (1.5 if species.leaf == "blade" else 1)
            near = x + (foot - x) * np.clip((base - y) / (scene.canvas.shape[1] - y), 0, 1) ** 2
            _leaf(scene, species.leaf, near, base, angle, length, _vary(rng, green, 0.08))
    _bloom(scene, species, palette, x, y, radius)


def _plants(scene: _Scene, species: Species) -> None:
    """One to three blooms of the species, the main one last and near the middle."""
    rng = scene.rng
    height, width = scene.canvas.shape[1:]
    palette = _palette(species, rng)
    count = 1 + int(rng.random() < 0.35) + int(rng.random() < 0.12)
    scale = UNIT * rng.uniform(0.78, 1.2) * (1 if count == 1 else 0.85)
    x, y = width * rng.uniform(0.34, 0.66), height * rng.uniform(0.34, 0.6)
    for _ in range(count - 1):
        way = rng.uniform(0, TAU)
        far = species.size * scale * rng.uniform(1.4, 2.1)
        size = scale * rng.uniform(0.5, 0.8)
        _plant(scene, species, palette, x + far * np.cos(way), y + far * np.sin(way), size)
    _plant(scene, species, palette, x, y, scale)


def _strangers(scene: _Scene) -> None:
    """Small blooms of no particular species, in any colour, in the corners of the picture."""
    rng = scene.rng
    height, width = scene.canvas.shape[1:]
    names = list(PALETTES)
    for _ in range(int(rng.random() * 3)):
        weed = Species("weed", petals=4 + int(rng.random() * 9), shape="ellipse")
        morph = np.array(PALETTES[names[int(rng.random() * len(names))]], np.float32)
        x, y = rng.uniform(0, width), height * rng.uniform(0.05, 1.0)
        _bloom(scene, weed, morph[..., None, None], x, y, 0.5 * UNIT * rng.uniform(0.05, 0.16))


def _finish(scene: _Scene) -> Array:
    """Light colour, exposure, blur and grain; the finished picture, H x W x 3, uint8."""
    rng, fine = scene.rng, scene.canvas
    picture = (
        fine[:, ::2, ::2] + fine[:, 1::2, ::2] + fine[:, ::2, 1::2] + fine[:, 1::2, 1::2]
    ) / 4
    warm = rng.uniform(-1, 1)
    picture *= _rgb(1 + 0.1 * warm, 1.0, 1 - 0.14 * warm) * np.float32(rng.uniform(0.82, 1.12))
    if rng.random() < 0.3:
        sigma = rng.uniform(0.3, 0.8)
        picture = gaussian_filter(picture, (0, sigma, sigma), truncate=2.5)
    grain = rng.uniform(0.01, 0.06)
    picture += (rng.random(picture.shape, dtype=np.float32) - 0.5) * np.float32(grain)
    picture = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


def draw(species: Species, index: int, *, seed: int = 0) -> np.ndarray:
    """Draw picture number `index` of a species.

    The picture depends on the seed, the species' name and the index only.
    Returns H x W x 3, uint8, RGB; the short side is 80 pixels, the long one 80 to 112.
    """
    rng = np.random.default_rng([seed, zlib.crc32(species.name.encode()), index])
    long = LONG_SIDES[int(rng.random() * len(LONG_SIDES))]
    height, width = (SHORT_SIDE, long) if rng.random() < 0.6 else (long, SHORT_SIDE)
    scene = _Scene(_backdrop(rng, height, width), rng, light=rng.uniform(-2.6, -0.5))
    _clutter(scene, int(rng.random() * 6), SHORT_SIDE)
    _strangers(scene)
    if scene.coin(0.35):
        _bokeh(scene, SHORT_SIDE)
    sigma = rng.uniform(0.8, 3)
    scene.canvas = gaussian_filter(scene.canvas, (0, sigma, sigma), truncate=2.5)
    scene.canvas = scene.canvas.repeat(FINE, axis=1).repeat(FINE, axis=2)
    _clutter(scene, int(rng.random() * 3), UNIT, near=True)
    _plants(scene, species)
    if scene.coin(0.3):
        _clutter(scene, 1, UNIT, near=True)
    return _finish(scene)


# ---------------------------------------------------------------------------------------------
# The data set on disk
# ---------------------------------------------------------------------------------------------


def _save_mat(path: Path, arrays: dict[str, Array]) -> None:
    """Write a MATLAB file whose bytes depend on the arrays only."""
    savemat(path, arrays)
    with path.open("r+b") as file:  # savemat puts the date of writing into the first 116 bytes
        file.write(b"MATLAB 5.0 MAT-file, drawn flowers".ljust(116))


def _write_pictures(root: Path, counts: tuple[int, int, int], seed: int, progress: bool) -> None:
    """Write pictures, labels, splits and names below `root`; counts are those of a class."""
    (root / "jpg").mkdir(parents=True)
    each = sum(counts)
    total = each * len(TARGET_SPECIES)
    order = np.random.default_rng([seed, total]).permutation(total)
    ids = range(1, total + 1)
    for image_id in tqdm(ids, desc="drawing flowers", unit="", disable=not progress):
        label, index = divmod(int(order[image_id - 1]), each)
        picture = Image.fromarray(draw(TARGET_SPECIES[label], index, seed=seed))
        picture.save(root / "jpg" / f"image_{image_id:05d}.jpg", quality=90)
    split = np.searchsorted(np.cumsum(counts), order % each, side="right")
    members = [(np.flatnonzero(split == k) + 1).astype(np.uint16)[None, :] for k in range(3)]
    _save_mat(root / "imagelabels.mat", {"labels": (order // each + 1).astype(np.uint8)[None, :]})
    _save_mat(root / "setid.mat", dict(zip(("trnid", "valid", "tstid"), members, strict=True)))
    names = "".join(f"{species.name}\n" for species in TARGET_SPECIES)
    (root / "class_names.txt").write_text(names, encoding="utf-8", newline="\n")


def write_dataset(
    folder: Path,
    *,
    train: int = 10,
    val: int = 10,
    test: int = 40,
    seed: int = 0,
    progress: bool = True,
) -> None:
    """Write the mini data set to `folder`/flowers-102, in the file layout of Flowers102.

    `train`, `val` and `test` count pictures of a class.  A folder that is there already is left
    alone.  The work is done in a temporary folder beside it that is renamed at the end, so that
    an interrupted run leaves nothing half-written and two runs at once do not disturb each other.
    """
    if min(train, val, test) < 0 or train + val + test < 1:
        raise ValueError(f"cannot draw {train} + {val} + {test} pictures of a class")
    folder = Path(folder)
    final = folder / "flowers-102"
    if final.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drawing-", dir=folder) as scratch:
        root = Path(scratch) / "flowers-102"
        _write_pictures(root, (train, val, test), seed, progress)
        try:
            root.rename(final)
        except OSError:  # another run was faster; its pictures are the same
            if not final.is_dir():
                raise


def contact_sheet(*, seed: int = 0) -> Image.Image:
    """A page of the target species: the middle of six pictures of each, under its name."""
    columns, rows, cell, title, gap = 3, 2, SHORT_SIDE + 4, 18, 14
    width, height = columns * cell + gap, rows * cell + title + gap
    sheet = Image.new("RGB", (4 * width + gap, 3 * height + gap + title), "white")
    pen = ImageDraw.Draw(sheet)
    for number, species in enumerate(TARGET_SPECIES):
        left, top = gap + number % 4 * width, gap + number // 4 * height
        pen.text((left, top), species.name, fill="black")
        for index in range(columns * rows):
            picture = Image.fromarray(draw(species, index, seed=seed))
            x, y = ((side - SHORT_SIDE) // 2 for side in picture.size)
            middle = picture.crop((x, y, x + SHORT_SIDE, y + SHORT_SIDE))
            sheet.paste(
                middle, (left + index % columns * cell, top + title + index // columns * cell)
            )
    pen.text((gap, sheet.height - title), "drawn flowers, not photographs", fill="black")
    return sheet


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print `message` and leave with exit status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _seed(text: str) -> int:
    """A seed from the command line: a whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 up, not {text!r}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Write the data set, or the contact sheet if one is asked for; returns the exit status."""
    parser = _Parser(
        description="Draw the mini data set: 720 small pictures of twelve invented flower species, "
        "written as flowers-102/ in the file layout of Oxford Flowers102 (about ten seconds).",
    )
    parser.add_argument(
        "--out", type=Path, default=_HERE, help="folder to write flowers-102/ into (default: here)"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="another seed, other pictures")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="write a page of the species instead"
    )
    options = parser.parse_args(arguments)
    try:
        if options.sheet:
            contact_sheet(seed=options.seed).save(options.sheet)
            print(f"wrote {options.sheet}")
        else:
            final = options.out / "flowers-102"
            known = final.exists()
            write_dataset(options.out, seed=options.seed)
            print(f"{final} is there already, nothing drawn" if known else f"wrote {final}")
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
