"""Picture files: every kind is read as RGB, and a damaged one is named before it is needed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.kit.errors import KitError
from helpers.kit.pictures import check_all, decode, decode_each


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
@pytest.mark.parametrize(("width", "height"), [(50, 40), (40, 50), (33, 300), (200, 200)])
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


def test_colours_are_kept(tmp_path):
    for suffix in ("png", "jpg"):
        path = tmp_path / f"picture.{suffix}"
        gradient(64, 64).save(path)
        red, green, blue = decode(path, 32).float()
        assert (red[:, -1] - red[:, 0]).min() > 230
        assert (green[-1] - green[0]).min() > 230
        assert abs(blue.mean() - 80) < 4


def test_sixteen_bit_pictures_keep_their_shades(tmp_path):
    path = tmp_path / "picture.png"
    shades = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(48, axis=0)
    Image.fromarray(shades).save(path)
    picture = decode(path, 16)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 16, 21)
    assert abs(float(picture.float().mean()) - 127.5) < 5
    assert len(picture[0, 8].unique()) == 21


def test_large_jpegs_are_decoded_smaller_but_look_the_same(tmp_path):
    path = tmp_path / "picture.jpg"
    gradient(1200, 800).save(path)
    picture = decode(path, 64)
    plain = gradient(1200, 800).resize((96, 64), Image.Resampling.BILINEAR)
    plain = torch.from_numpy(np.array(plain)).permute(2, 0, 1)
    assert picture.shape == plain.shape == (3, 64, 96)
    assert (picture.float() - plain.float()).abs().mean() < 3


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_jpeg_is_named_before_it_is_needed(tmp_path, kept):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    whole = jpeg(256, 256)
    good.write_bytes(whole)
    bad.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(KitError, match=r"1 of 2 pictures.*bad\.jpg") as caught:
        check_all([good, bad], "checking")
    assert "good.jpg" not in str(caught.value)


def test_truncated_png_is_named_when_it_is_decoded(tmp_path):
    path = tmp_path / "bad.png"
    gradient(64, 64).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(KitError, match=r"bad\.png"):
        decode_each([path], 16, lambda index, picture: None, "decoding")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xd9"])
def test_files_that_are_no_pictures_are_named(tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(KitError, match=r"1 of 1 pictures.*bad\.jpg"):
        check_all([path], "checking")


@pytest.mark.parametrize("extra", [1, 100, 5000])
def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path, extra):
    path = tmp_path / "picture.jpg"
    path.write_bytes(jpeg() + bytes(extra))
    assert check_all([path], "checking") == [(64, 48)]
    assert decode(path, 12).shape == (3, 12, 16)


def test_many_damaged_pictures_are_counted(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(7)]
    for path in paths[:5]:
        path.touch()
    for path in paths[5:]:
        path.write_bytes(jpeg())
    with pytest.raises(KitError) as caught:
        check_all(paths, "checking")
    message = str(caught.value)
    assert message.startswith("5 of 7 pictures")
    assert "0.jpg" in message
    assert "and 2 more" in message
    assert "6.jpg" not in message


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
