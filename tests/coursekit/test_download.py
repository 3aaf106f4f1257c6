"""The command `download`, from a server on this machine: whole data sets, or one clear line."""

from __future__ import annotations

import hashlib
import pickle
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

import coursekit.download
from coursekit.download import damaged_flowers, download, download_flowers102
from helpers.errors import KitError, WriteError
from helpers.lib import flowers, weights
from helpers.lib.sources import list_small_pictures
from helpers.lib.weights import WeightFile
from tools.server import Fault, Server, running_server
from tools.tiny import full_disk, write_picture

WEIGHTS = b"weights of a network"


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """A mirror of one's own that has the weights of both networks; no waiting between attempts."""
    digest = hashlib.sha256(WEIGHTS).hexdigest()[:8]
    with running_server() as server:
        monkeypatch.setenv("KIT_MIRROR", server.url)
        monkeypatch.setenv("KIT_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
        for name in weights.IMAGENET:
            server.files[f"{name}-{digest}.pth"] = WEIGHTS
            file = WeightFile(f"http://no-such-host.invalid/{name}-{digest}.pth", digest, 1)
            monkeypatch.setitem(weights.IMAGENET, name, file)
        yield server


@pytest.fixture
def flowers102(server, tmp_path, monkeypatch) -> Server:
    """The server with a made-up Flowers102 of 3 pictures, whose hashes are the published ones."""
    for module in (coursekit.download, flowers):
        monkeypatch.setattr(module, "NUM_PICTURES", 3)
    for number in (1, 2, 3):
        write_picture(tmp_path / "source" / "jpg" / f"image_{number:05d}.jpg", seed=number)
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        archive.add(tmp_path / "source" / "jpg", "jpg")
    names = {"label": "imagelabels.mat", "setid": "setid.mat", "image": "102flowers.tgz"}
    contents = (b"labels", b"splits", (tmp_path / "made.tgz").read_bytes())
    server.files |= dict(zip(names.values(), contents, strict=True))
    hashes = {
        key: (name, hashlib.md5(server.files[name]).hexdigest()) for key, name in names.items()
    }
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", hashes)
    monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", server.url)
    return server


def listed(folder: Path) -> list[str]:
    """What is below a folder, but the locks."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in found if not name.endswith(".lock"))


WHOLE = ["imagelabels.mat", "jpg", *(f"jpg/image_0000{n}.jpg" for n in (1, 2, 3)), "setid.mat"]


def test_the_command_fetches_the_data_set_and_the_weights_once(flowers102, tmp_path, capsys):
    assert download() == 0
    assert capsys.readouterr().out.splitlines() == [
        "Flowers102: complete", "weights of resnet18: complete",
        "weights of efficientnet_b5: complete",
    ]  # fmt: skip
    assert listed(tmp_path / "data" / "flowers-102") == WHOLE
    assert flowers.flowers102_is_present(tmp_path / "data")
    assert all(file.is_published() for file in weights.IMAGENET.values())
    assert len(flowers102.names) == 5
    assert download() == 0
    assert len(flowers102.names) == 5  # what is there is not fetched again


def test_a_failure_does_not_stop_the_next_item(flowers102, tmp_path, capsys):
    del flowers102.files["imagelabels.mat"]
    (first,) = (name for name in flowers102.files if name.startswith("resnet18"))
    flowers102.files[first] = b"other weights"
    assert download() == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == ["weights of efficientnet_b5: complete"]
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == ["Flowers102", "weights of resnet18"]
    assert "save it as" in errors[0]
    assert "another hash" in errors[1]


def test_the_weights_alone(server, tmp_path, capsys):
    weights.IMAGENET["resnet18"].path.parent.mkdir(parents=True)
    weights.IMAGENET["resnet18"].path.write_bytes(b"not the published ones")
    assert download(weights_only=True) == 0
    assert not (tmp_path / "data").exists()
    assert weights.IMAGENET["resnet18"].path.read_bytes() == WEIGHTS


def test_unknown_sets_are_not_fetched(server):
    with pytest.raises(KitError, match=r"no data set 'Roses'.*OxfordIIITPet.*CIFAR10"):
        download("Roses")
    assert server.names == []


# Flowers102


def test_only_what_is_missing_or_damaged_is_fetched(flowers102, tmp_path):
    folder = tmp_path / "data" / "flowers-102"
    download_flowers102(tmp_path / "data")
    (folder / "setid.mat").write_bytes(b"damaged")
    assert damaged_flowers(folder) == [folder / "setid.mat"]
    flowers102.requests.clear()
    download_flowers102(tmp_path / "data")
    assert flowers102.names == ["setid.mat"]
    picture = folder / "jpg" / "image_00002.jpg"
    whole = picture.read_bytes()
    for damage in (whole[:-200], None):
        flowers102.requests.clear()
        picture.unlink() if damage is None else picture.write_bytes(damage)
        download_flowers102(tmp_path / "data")
        assert flowers102.names == ["102flowers.tgz"]
        assert listed(folder) == WHOLE
        assert picture.read_bytes() == whole


@pytest.mark.parametrize("name", ["102flowers.tgz", "setid.mat"])
@pytest.mark.parametrize("fault", ["cut", "replaced", "absent"])
def test_a_failed_download_can_be_taken_up(flowers102, tmp_path, name, fault):
    data, good = tmp_path / "data", flowers102.files[name]
    if fault == "cut":
        flowers102.faults[name] = Fault(sends=3, ends="close")
    elif fault == "replaced":
        flowers102.files[name] = b"something else"
    else:
        del flowers102.files[name]
    with pytest.raises(KitError, match=flowers102.url + name):
        download_flowers102(data)
    assert not (data / "flowers-102" / name).exists()
    assert not (data / "flowers-102" / "jpg").exists()
    assert not flowers.flowers102_is_present(tmp_path / "nowhere")
    flowers102.faults.clear()
    flowers102.files[name] = good
    download_flowers102(data)
    assert listed(data / "flowers-102") == WHOLE


def test_files_placed_by_hand_are_taken(flowers102, tmp_path):
    folder = tmp_path / "data" / "flowers-102"
    folder.mkdir(parents=True)
    for name in ("102flowers.tgz", "setid.mat", "imagelabels.mat"):
        (folder / name).write_bytes(flowers102.files[name])
    download_flowers102(tmp_path / "data")
    assert listed(folder) == WHOLE
    assert flowers102.names == []


def test_what_a_download_works_with_is_no_data_set(tmp_path):
    folder = tmp_path / "flowers-102"
    folder.mkdir()
    for name in (".setid.mat.lock", "setid.mat.part"):
        (folder / name).touch()
    assert not flowers.flowers102_is_present(tmp_path)


def test_a_disk_too_full_to_unpack_keeps_the_archive_and_the_pictures(flowers102, tmp_path):
    data = tmp_path / "data"
    download_flowers102(data)
    (data / "flowers-102" / "jpg" / "image_00002.jpg").unlink()
    longest = max(path.stat().st_size for path in (tmp_path / "source" / "jpg").iterdir())
    (data / "flowers-102" / "102flowers.tgz").write_bytes(flowers102.files["102flowers.tgz"])
    with full_disk(longest // 2), pytest.raises(WriteError, match="the archive is kept"):
        download_flowers102(data)
    assert listed(data / "flowers-102") == sorted(
        {*WHOLE, "102flowers.tgz"} - {"jpg/image_00002.jpg"}
    )
    download_flowers102(data)
    assert listed(data / "flowers-102") == WHOLE
    assert flowers102.names.count("102flowers.tgz") == 1


# torchvision's sets


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=404), "404"),
        (Fault(sends=10, ends="stall"), "timed out"),
        (Fault(content=b"other"), "corrupt"),
    ],
)
def test_a_torchvision_set_that_cannot_be_had(server, monkeypatch, capsys, fault, said):
    monkeypatch.setattr(datasets.DTD, "_URL", server.url + "dtd.tar.gz")
    monkeypatch.setattr(coursekit.download, "TIMEOUT", 0.2)
    server.files["dtd.tar.gz"] = b"something else"
    server.faults["dtd.tar.gz"] = fault
    assert download("DTD") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: DTD: cannot download DTD: ")
    assert said in error
    assert socket.getdefaulttimeout() is None


def write_batch(folder: Path, name: str, content: dict) -> list[str]:
    """A pickled file as the archive has it; returns its name and its md5."""
    folder.mkdir(parents=True, exist_ok=True)
    data = pickle.dumps(content)
    (folder / name).write_bytes(data)
    return [name, hashlib.md5(data).hexdigest()]


@pytest.fixture
def cifar(server, tmp_path, monkeypatch) -> dict[str, np.ndarray]:
    """A small CIFAR-10 archive in its published layout on the server; returns its pixels."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "made" / "cifar-10-batches-py"
    pixels = {
        name: rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        for name in ("data_batch_1", "test_batch")
    }
    lists = [
        write_batch(folder, name, {"data": rows, "labels": [n % 10 for n in range(20)]})
        for name, rows in pixels.items()
    ]
    names = {"label_names": [f"class{label}" for label in range(10)]}
    meta = write_batch(folder, "batches.meta", names)
    archive = tmp_path / "made" / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    server.files[archive.name] = archive.read_bytes()
    monkeypatch.setattr(datasets.CIFAR10, "url", server.url + archive.name)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.CIFAR10, "train_list", lists[:1])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", lists[1:])
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", meta[1])
    return pixels


def test_cifar_becomes_class_folders_once(server, tmp_path, cifar):
    data_dir = tmp_path / "data"
    assert download("CIFAR10") == 0
    assert [path.name for path in data_dir.iterdir()] == ["cifar-10-folders"]
    for split, rows in (("train", "data_batch_1"), ("test", "test_batch")):
        for number, row in enumerate(cifar[rows]):
            name = f"{split}/class{number % 10}/{number:05d}.png"
            with Image.open(data_dir / "cifar-10-folders" / name) as picture:
                pixels = np.asarray(picture)
            assert np.array_equal(pixels, row.reshape(3, 32, 32).transpose(1, 2, 0))
    listing = list_small_pictures(
        "CIFAR10", profile="full", data_dir=data_dir, seed=0, val_fraction=0.5
    )
    assert {split: len(paths) for split, (paths, _) in listing.splits.items()} == {
        "train": 10, "val": 10, "test": 20,
    }  # fmt: skip
    asked = list(server.names)
    assert download("CIFAR10") == 0
    assert server.names == asked


def test_interrupted_cifar_leaves_no_half_a_set(server, tmp_path, cifar, monkeypatch):
    save, saved = Image.Image.save, []

    def interrupted(picture, path):
        if len(saved) == 25:
            raise KeyboardInterrupt
        saved.append(path)
        save(picture, path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Image.Image, "save", interrupted)
        download("CIFAR10")
    assert not (tmp_path / "data" / "cifar-10-folders").exists()
    del server.files["cifar-10-python.tar.gz"]  # what was fetched is still there
    assert download("CIFAR10") == 0
    assert len(list((tmp_path / "data" / "cifar-10-folders").rglob("*.png"))) == 40


@pytest.mark.parametrize("fault", [Fault(content=b"another file"), Fault(sends=1000, ends="close")])
def test_cifar_that_cannot_be_had_is_one_line(server, tmp_path, cifar, capsys, fault):
    server.faults["cifar-10-python.tar.gz"] = fault
    assert download("CIFAR10") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: CIFAR10: cannot download CIFAR10: ")
    assert "put its archive into" in error
    assert not (tmp_path / "data" / "cifar-10-folders").exists()
