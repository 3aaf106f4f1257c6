"""Downloads, from a server on this machine: the right file, or one clear line and nothing left."""

from __future__ import annotations

import hashlib
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision import datasets

from helpers.kit import downloads, flowers
from helpers.kit.downloads import download_flowers102, download_torchvision_set, fetch
from helpers.kit.errors import KitError

CONTENT = b"weights of a network " * 5000


class Handler(BaseHTTPRequestHandler):
    """Serves `files` of its server; a name in `cut` loses its end, though its length is said."""

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name in self.server.cut else content)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.cut, server.asked = {"good.bin": CONTENT}, set(), []
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("check", ["", "sha256", "md5"])
def test_a_good_file_arrives_whole(server, tmp_path, check):
    path = tmp_path / "new" / "file.bin"
    digests = {"sha256": hashlib.sha256(CONTENT), "md5": hashlib.md5(CONTENT)}
    hashes = {
        "sha256": {"sha256_prefix": digests["sha256"].hexdigest()[:8]},
        "md5": {"md5": digests["md5"].hexdigest()},
    }
    fetch(server.url + "good.bin", path, what="a file", **hashes.get(check, {}))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("earlier", [None, b"an earlier file"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("sha256", "another hash than 00000000"),
        ("md5", "another hash than 00000000"),
        ("cut", "cannot download a file"),
        ("absent", "the server says 404"),
        ("refused", "cannot download a file: .*refused"),
    ],
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(
    server, tmp_path, earlier, fault, said
):
    path, url, hashes = tmp_path / "file.bin", server.url + "good.bin", {}
    if earlier is not None:
        path.write_bytes(earlier)
    if fault == "cut":
        server.cut.add("good.bin")
    elif fault == "absent":
        server.files.clear()
    elif fault == "refused":
        url = f"http://127.0.0.1:{closed_port()}/good.bin"
    else:
        hashes = {"sha256_prefix" if fault == "sha256" else "md5": "00000000"}
    with pytest.raises(KitError, match=said) as caught:
        fetch(url, path, what="a file", timeout=5, **hashes)
    assert url in str(caught.value)
    assert f"save it as {path}" in str(caught.value)
    assert "\n" not in str(caught.value)
    left = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert left == ({} if earlier is None else {"file.bin": earlier})


def test_a_server_that_falls_silent_is_given_up(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(KitError, match=r"cannot download a file: .*timed out"):
            fetch(url, tmp_path / "file", what="a file", timeout=0.3)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(*args):
        args[1].write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "_stream", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url + "good.bin", tmp_path / "file", what="a file")
    assert list(tmp_path.iterdir()) == []


# Flowers102


@pytest.fixture
def mirror(server, tmp_path, monkeypatch) -> ThreadingHTTPServer:
    """A server of a made-up Flowers102 of 3 pictures, whose hashes the kit takes for the real."""
    for module in (downloads, flowers):
        monkeypatch.setattr(module, "NUM_PICTURES", 3)
    source = tmp_path / "source" / "jpg"
    source.mkdir(parents=True)
    for number in (1, 2, 3):
        (source / f"image_{number:05d}.jpg").write_bytes(b"picture %d" % number)
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        archive.add(source, "jpg")
    names = {"label": "imagelabels.mat", "setid": "setid.mat", "image": "102flowers.tgz"}
    server.files = {
        names["label"]: b"labels",
        names["setid"]: b"splits",
        names["image"]: (tmp_path / "made.tgz").read_bytes(),
    }
    hashes = {
        key: (name, hashlib.md5(server.files[name]).hexdigest()) for key, name in names.items()
    }
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", hashes)
    return server


def listed(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


WHOLE = ["imagelabels.mat", "jpg", *(f"jpg/image_0000{n}.jpg" for n in (1, 2, 3)), "setid.mat"]


def test_flowers102_is_fetched_checked_and_unpacked(mirror, tmp_path):
    data = tmp_path / "data"
    download_flowers102(data, url_prefix=mirror.url)
    assert flowers.flowers102_is_present(data)
    assert listed(data / "flowers-102") == WHOLE
    assert sorted(mirror.asked) == ["102flowers.tgz", "imagelabels.mat", "setid.mat"]
    download_flowers102(data, url_prefix=mirror.url)
    assert len(mirror.asked) == 3  # what is there is not fetched again


def test_only_what_is_missing_or_damaged_is_fetched(mirror, tmp_path):
    folder = tmp_path / "data" / "flowers-102"
    download_flowers102(tmp_path / "data", url_prefix=mirror.url)
    mirror.asked.clear()
    (folder / "setid.mat").write_bytes(b"damaged")
    download_flowers102(tmp_path / "data", url_prefix=mirror.url)
    assert mirror.asked == ["setid.mat"]
    mirror.asked.clear()
    (folder / "jpg" / "image_00002.jpg").unlink()
    download_flowers102(tmp_path / "data", url_prefix=mirror.url)
    assert mirror.asked == ["102flowers.tgz"]
    assert listed(folder) == WHOLE


@pytest.mark.parametrize("name", ["102flowers.tgz", "setid.mat"])
@pytest.mark.parametrize("fault", ["cut", "replaced", "absent"])
def test_a_failed_download_of_flowers102_can_be_taken_up(mirror, tmp_path, name, fault):
    data, good = tmp_path / "data", mirror.files[name]
    if fault == "cut":
        mirror.cut.add(name)
    elif fault == "replaced":
        mirror.files[name] = b"something else"
    else:
        del mirror.files[name]
    with pytest.raises(KitError, match=mirror.url + name):
        download_flowers102(data, url_prefix=mirror.url)
    assert not (data / "flowers-102" / name).exists()
    assert not (data / "flowers-102" / "jpg").exists()
    assert not [path for path in listed(data) if path.endswith(".part")]
    mirror.cut.clear()
    mirror.files[name] = good
    download_flowers102(data, url_prefix=mirror.url)
    assert listed(data / "flowers-102") == WHOLE


def test_unpacking_that_was_interrupted_is_done_again(mirror, tmp_path, monkeypatch):
    data = tmp_path / "data"

    def interrupt(archive, folder, **options):
        (folder / "jpg").mkdir(parents=True)
        (folder / "jpg" / "image_00001.jpg").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.unpack_archive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download_flowers102(data, url_prefix=mirror.url)
    assert not (data / "flowers-102" / "jpg").exists()
    download_flowers102(data, url_prefix=mirror.url)
    assert listed(data / "flowers-102") == WHOLE
    assert mirror.asked.count("102flowers.tgz") == 1  # the archive was there and whole


# Other sets


def test_unknown_sets_are_not_fetched(tmp_path):
    with pytest.raises(KitError, match=r"no data set 'Roses'.*OxfordIIITPet"):
        download_torchvision_set("Roses", tmp_path)


def test_a_torchvision_set_that_cannot_be_had(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError("connection refused")

    monkeypatch.setattr("torchvision.datasets.dtd.download_and_extract_archive", refuse)
    with pytest.raises(KitError, match="cannot download DTD: connection refused"):
        download_torchvision_set("DTD", tmp_path)
