"""Picture files: every kind is read as RGB, and a damaged one is named before it is needed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.errors import KitError
from helpers.lib import checked
from helpers.lib.checked import Looked, sort_out
from helpers.lib.pictures import (
    TURNS,
    check_all,
    decode,
    decode_each,
    scaled_size,
)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 80)], axis=2).astype(np.uint8))


def jpeg(width: int = 64, height: int = 48) -> bytes:
    stream = io.BytesIO()
    gradient(width, height).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("L", "png"), ("1", "png"),
        ("LA", "png"), ("RGBA", "png"), ("P", "png"), ("P", "gif"), ("RGB", "bmp"), ("RGB", "tif"),
        ("RGB", "webp"), ("RGB", "ppm"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("width", "height"), [(50, 40), (33, 300)])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode, suffix, width, height):
    path = tmp_path / f"picture.{suffix}"
    gradient(width, height).convert(mode).save(path)
    assert check_all([path], "checking") == [(width, height)]
    picture = decode(path, 16)
    assert picture.dtype == torch.uint8
    assert picture.shape[0] == 3
    assert min(picture.shape[1:]) == 16
    scale = 16 / min(width, height)
    assert abs(picture.shape[1] - height * scale) <= 0.5
    assert abs(picture.shape[2] - width * scale) <= 0.5


def test_sixteen_bit_pictures_keep_their_shades(tmp_path):
    path = tmp_path / "picture.png"
    shades = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(48, axis=0)
    Image.fromarray(shades).save(path)
    picture = decode(path, 16)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 16, 21)
    assert abs(float(picture.float().mean()) - 127.5) < 5
    assert len(picture[0, 8].unique()) == 21


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_sixteen_bit_pictures_that_do_not_fill_their_range_are_not_black(tmp_path, bits):
    shades = np.linspace(0, 2**bits - 1, 64).astype(np.uint16)[None].repeat(48, axis=0)
    paths = [tmp_path / "bright.png", tmp_path / "dark.png"]
    Image.fromarray(shades).save(paths[0])
    Image.fromarray(shades // 4).save(paths[1])
    good, _ = sort_out(paths, "")
    assert good[paths[0]].bits == bits
    bright, dark = (decode(path, 16, bits=bits).float().mean() for path in paths)
    assert abs(float(bright) - 127.5) < 5
    assert abs(float(dark) - 32) < 5  # by the range of the folder, not by its own


def test_a_jpeg_with_a_damaged_middle_is_told_when_it_is_looked_at(tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "rose" / "bad.jpg"
    bad.parent.mkdir()
    whole = bytearray(jpeg(256, 256))
    good.write_bytes(whole)
    place = len(whole) // 2
    whole[place : place + 2] = b"\xff\xd8"  # a beginning in the middle; the end is as it was
    bad.write_bytes(whole)
    sizes = check_all([good, bad], "")  # headers and ends are right
    assert sizes == [(256, 256)] * 2
    found, faults = sort_out([good, bad], "")
    assert list(found) == [good] and list(faults) == [bad]
    with pytest.raises(KitError, match=r"1 of 2 pictures in .*: rose/bad\.jpg \("):
        decode_each([good, bad], 16, lambda index, picture: None, "")


def test_what_was_looked_at_is_not_decoded_again_before_it_changes(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (20 + number, 20)).save(path)
    paths[2].write_bytes(b"nothing")
    memory, looked = tmp_path / "checked.json", []
    monkeypatch.setattr(
        checked, "_look", lambda path, look=checked._look: looked.append(path) or look(path)
    )
    first = sort_out(paths, "", memory=memory)
    assert sort_out(paths, "", memory=memory) == first
    assert sorted(looked) == paths
    Image.new("RGB", (30, 20)).save(paths[2])
    found, faults = sort_out(paths, "", memory=memory)
    assert (found[paths[2]].size, faults) == ((30, 20), {})
    assert sorted(looked) == [*paths, paths[2]]
    memory.write_text("{damaged")
    assert sort_out(paths, "", memory=memory)[0] == found


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_jpeg_is_named_before_it_is_needed(tmp_path, kept):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    whole = jpeg(256, 256)
    good.write_bytes(whole)
    bad.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(KitError, match=r"1 of 2 pictures.*bad\.jpg") as caught:
        check_all([good, bad], "checking")
    assert "good.jpg" not in str(caught.value)


def test_pictures_are_decoded_under_their_own_index(tmp_path):
    paths: list[Path] = []
    for shade in range(20):
        paths.append(tmp_path / f"{shade}.png")
        Image.new("RGB", (20, 20), (shade, 0, 0)).save(paths[-1])
    decoded: dict[int, torch.Tensor] = {}
    decode_each(paths, 16, decoded.__setitem__, "decoding")
    assert {index: int(picture[0, 0, 0]) for index, picture in decoded.items()} == {
        shade: shade for shade in range(20)
    }


# Upright


def turned(orientation: object, suffix: str, folder: Path) -> Path:
    """A picture that a camera has stored with that orientation in its EXIF data."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path = folder / f"picture.{suffix}"
    gradient(60, 40).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [None, 1, *TURNS])
def test_a_picture_is_upright_in_its_size_and_its_pixels(tmp_path, suffix, orientation):
    path = turned(orientation, suffix, tmp_path)
    upright = gradient(60, 40)
    if orientation in TURNS:
        upright = upright.transpose(TURNS[orientation])
    assert upright.size == ((40, 60) if orientation in (5, 6, 7, 8) else (60, 40))
    assert check_all([path], "") == [upright.size]
    assert sort_out([path], "") == ({path: Looked(upright.size, 0)}, {})
    picture = decode(path, 20)
    width, height = scaled_size(upright.size, 20)
    assert picture.shape == (3, height, width)
    plain = torch.from_numpy(np.array(upright.resize((width, height)))).permute(2, 0, 1)
    assert (picture.float() - plain.float()).abs().mean() < 4


# Odd pictures that are used rightly


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    path = tmp_path / "picture.png"
    if mode in ("RGBA", "LA"):
        image = Image.new("RGBA", (30, 20), (0, 0, 0, 0)).convert(mode)
        image.paste(Image.new("RGBA", (15, 20), (0, 0, 0, 255)).convert(mode), (0, 0))
        image.save(path)
    else:  # one of its colours is the transparent one
        image = Image.new("P" if mode == "P" else "L", (30, 20), 1 if mode == "P" else 9)
        image.paste(0, (0, 0, 15, 20))
        if mode == "P":
            image.putpalette([0, 0, 0, 10, 10, 10])
        if mode == "1":
            image = image.point(lambda shade: 255 * (shade > 5)).convert("1")
        image.save(path, transparency={"P": 1, "L": 9, "1": 255}[mode])
    picture = decode(path, 20).float()
    assert picture[:, :, :12].max() < 30
    assert picture[:, :, 18:].min() > 225


# Those that cannot be used


def png_of_size(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it has that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def whole_file(suffix: str, folder: Path) -> bytes:
    rng = np.random.default_rng(0)
    path = folder / f"whole.{suffix}"
    Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif", "ppm", "gif"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_file_cut_short_is_sorted_out_before_it_is_needed(tmp_path, suffix, kept):
    whole = whole_file(suffix, tmp_path)
    bad = tmp_path / f"bad.{suffix}"
    bad.write_bytes(whole[: int(kept * len(whole))])
    good, faults = sort_out([tmp_path / f"whole.{suffix}", bad], "")
    assert list(good) == [tmp_path / f"whole.{suffix}"]
    assert list(faults) == [bad]
    assert faults[bad]
    assert str(tmp_path) not in faults[bad]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no picture that can be read, or empty"),
        (b"<svg></svg>", "no picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that can be read"),
        (png_of_size(20_000, 10), "20,000 x 10 pixels, too long and narrow"),
        (png_of_size(20_000, 20_000), "more than 178 million pixels: save it smaller"),
        (png_of_size(0, 10), "."),
    ],
)
def test_what_is_no_picture_is_named_with_its_reason(tmp_path, content, reason):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(KitError, match=rf"bad\.png \(.*{reason}.*\)\. Repair"):
        check_all([path], "")
    assert list(sort_out([path], "")[1]) == [path]
