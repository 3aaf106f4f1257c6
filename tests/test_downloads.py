"""Downloads, from a server on this machine: the right file, or one clear line and nothing left."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import pickle
import shutil
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import numpy as np
import pytest
from PIL import Image
from tiny import full_disk, write_picture
from torchvision import datasets

from helpers import load_data
from helpers.errors import KitError, WriteError
from helpers.lib import downloads, flowers
from helpers.lib.downloads import (
    download_flowers102,
    download_small_set,
    download_torchvision_set,
    fetch,
)
from helpers.lib.files import only_writer
from helpers.lib.weights import IMAGENET
from helpers.recipes import SmallAugmentation

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Fault:
    """How the server misbehaves on a name, the first `times` that it is asked for it."""

    times: float = math.inf
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sends: int | None = None  # bytes of the body before `ends`
    ends: str = ""  # "close", "reset" or "stall"
    drip: float = 0.0  # seconds between two bytes
    content: bytes | None = None  # instead of the right one
    ranges: bool = True


class Handler(BaseHTTPRequestHandler):
    """Serves `files` of its server, or parts of them, with the `faults` that it has."""

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        self.server.ranges.append(self.headers.get("Range"))
        fault = self.server.faults.get(name, Fault())
        fault.times -= 1
        if fault.times < 0:
            fault = Fault()
        content = self.server.files.get(name) if fault.content is None else fault.content
        if content is None:
            self.send_error(404)
        elif fault.status != 200:
            self.send_response(fault.status)
            self.send_headers({"Content-Length": "0", **fault.headers})
        else:
            self.send_content(content, fault)

    def send_headers(self, headers: dict[str, str]) -> None:
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def send_content(self, content: bytes, fault: Fault) -> None:
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if fault.ranges else 0
        if begin >= len(content) > 0:
            self.send_response(416)
            self.send_headers({"Content-Length": "0"})
            return
        self.send_response(206 if begin else 200)
        span = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        length = {"Content-Length": str(len(content) - begin)}
        self.send_headers({**length, **(span if begin else {}), **fault.headers})
        body = content[begin:] if fault.sends is None else content[begin : begin + fault.sends]
        for place in range(0, len(body), 1 if fault.drip else len(body)):
            piece = body[place : place + 1] if fault.drip else body
            self.server.sent += len(piece)  # before it is: who has got it may look at once
            try:
                self.wfile.write(piece)
            except OSError:
                return
            if self.server.over.wait(fault.drip):
                return
        if fault.ends == "stall":
            self.server.over.wait(20)
        if fault.ends == "reset":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.wfile = io.BytesIO()

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


def serve() -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.faults, server.asked = {"good.bin": CONTENT}, {}, []
    server.ranges, server.sent, server.over = [], 0, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    server.thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    server.thread.start()
    return server


def stop(server: ThreadingHTTPServer) -> None:
    server.over.set()
    server.shutdown()
    server.server_close()
    server.thread.join()


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = serve()
    yield server
    stop(server)


@pytest.fixture(autouse=True)
def no_mirror_of_the_user(monkeypatch) -> None:
    monkeypatch.delenv("KIT_MIRROR", raising=False)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str, path: Path, **options) -> None:
    """Fetch with hardly any patience."""
    given = {"what": "a file", "sha256_prefix": DIGEST[:8], "timeout": 0.2, "pause": 0.01}
    fetch(url, path, **{**given, **options})


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the locks."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".lock"}


@pytest.mark.parametrize("check", ["sha256", "md5"])
def test_a_good_file_arrives_whole(server, tmp_path, check):
    path = tmp_path / "new" / "file.bin"
    md5 = {"sha256_prefix": "", "md5": hashlib.md5(CONTENT).hexdigest()}
    get(server.url + "good.bin", path, **(md5 if check == "md5" else {}))
    assert files_in(path.parent) == {"file.bin": CONTENT}
    assert server.ranges == [None]


PASSING = {
    "cut": Fault(2, sends=30_000, ends="close"),
    "reset": Fault(2, sends=30_000, ends="reset"),
    "stall": Fault(1, sends=30_000, ends="stall"),
    "nothing but a stall": Fault(1, sends=0, ends="stall"),
    "drip": Fault(1, drip=0.02),
    "500": Fault(2, status=500),
    "503": Fault(2, status=503),
    "503 with a time": Fault(1, status=503, headers={"Retry-After": "0"}),
    "429": Fault(1, status=429, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "408": Fault(1, status=408),
    "no ranges": Fault(2, sends=30_000, ends="close", ranges=False),
    "a range of its own": Fault(1, sends=30_000, headers={"Content-Range": "bytes 7-9/9"}),
}


@pytest.mark.parametrize("name", PASSING)
def test_faults_that_pass_end_in_the_right_file(server, tmp_path, name):
    server.faults["good.bin"] = dataclasses.replace(PASSING[name])
    get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert len(server.asked) > 1


LASTING = {
    "cut": (Fault(sends=100, ends="close"), "it ended .* bytes too early", 4),
    "reset": (Fault(sends=100, ends="reset"), "([Rr]eset|early)", 4),
    "stall": (Fault(sends=100, ends="stall"), "timed out", 4),
    "drip": (Fault(drip=0.02), r"only \d+ bytes came", 4),
    "403": (Fault(status=403), "the server says 403", 1),
    "404": (Fault(status=404), "the server says 404", 1),
    "500": (Fault(status=500), "the server says 500", 4),
    "503": (Fault(status=503), "the server says 503", 4),
    "503, come back tomorrow": (
        Fault(status=503, headers={"Retry-After": "86400"}), "says 503, wait 86,400 s", 1,
    ),
    "a redirection to itself": (
        Fault(status=302, headers={"Location": "/good.bin"}), "redirects in a loop", None,
    ),
    "a redirection to the disk": (
        Fault(status=302, headers={"Location": "file:///etc/passwd"}), "or to nowhere", 1,
    ),
    "a redirection without an address": (Fault(status=301), "or to nowhere", 1),
    "other bytes": (Fault(content=CONTENT[::-1]), "another hash than", 1),
    "a page that asks to log in": (Fault(content=b"<html>log in</html>"), "another hash than", 1),
    "nothing": (Fault(content=b""), "another hash than", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LASTING)
def test_faults_that_last_end_in_one_line_and_soon(server, tmp_path, name):
    server.faults["good.bin"], said, asked = LASTING[name]
    server.faults["good.bin"] = dataclasses.replace(server.faults["good.bin"])
    path, url = tmp_path / "file.bin", server.url + "good.bin"
    path.write_bytes(b"an earlier file")
    started = time.monotonic()
    with pytest.raises(KitError, match=f"^cannot download a file: .*{said}") as caught:
        get(url, path)
    assert time.monotonic() - started < 15
    assert f"from {url} and save it as {path}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert asked is None or len(server.asked) == asked
    left = files_in(tmp_path)
    assert left.pop("file.bin") == b"an earlier file"
    part = left.pop("file.bin.part", b"")
    assert CONTENT.startswith(part)  # what is kept is right
    assert not left


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:{port}/good.bin", "refused"),
        ("http://no-such-host.invalid/good.bin", "cannot download"),
        ("good.bin", "unknown url type"),
        ("http://[/good.bin", "cannot download"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path, url, said):
    with pytest.raises(KitError, match=f"(?i)cannot download a file: .*{said}|{said} a file"):
        get(url.format(port=closed_port()), tmp_path / "file")
    assert files_in(tmp_path) == {}


def test_a_server_that_answers_no_http(tmp_path):
    with socket.socket() as odd:
        odd.bind(("127.0.0.1", 0))
        odd.listen()

        def answer():
            for _ in range(4):
                connection, _ = odd.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(KitError, match="cannot download a file"):
            get(f"http://127.0.0.1:{odd.getsockname()[1]}/file", tmp_path / "file")
        thread.join()
    assert files_in(tmp_path) == {}


# Resuming


def test_resuming_saves_the_bytes_that_are_there(server, tmp_path):
    server.faults["good.bin"] = Fault(1, sends=60_000, ends="close")
    get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert server.ranges == [None, "bytes=60000-"]
    assert server.sent == len(CONTENT)


def test_a_later_run_goes_on_where_an_interrupted_one_stopped(server, tmp_path, monkeypatch):
    server.faults["good.bin"] = Fault(1, sends=60_000, ends="stall")

    def interrupt(self, answer):
        yield answer.read1(50_000)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("helpers.lib.downloads._Download._blocks", interrupt)
        get(server.url + "good.bin", tmp_path / "file.bin")
    (kept,) = files_in(tmp_path).values()
    assert list(files_in(tmp_path)) == ["file.bin.part"]
    assert 0 < len(kept) <= 50_000
    server.sent = 0
    get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert server.ranges == [None, f"bytes={len(kept)}-"]
    assert server.sent == len(CONTENT) - len(kept)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 70_000, len(CONTENT), len(CONTENT) + 5])
@pytest.mark.parametrize("damaged", [False, True])
def test_whatever_is_kept_the_right_file_results(server, tmp_path, kept, ranges, damaged):
    server.faults["good.bin"] = Fault(ranges=ranges)
    part = (CONTENT + b"12345")[:kept]
    (tmp_path / "file.bin.part").write_bytes(bytes(kept) if damaged else part)
    get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    if kept == len(CONTENT) and ranges and not damaged:
        assert server.sent == 0  # all was there, only its name was missing


def test_many_broken_transfers_get_there_while_each_brings_something(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PROGRESS", 5_000)
    server.faults["good.bin"] = Fault(sends=9_000, ends="close")
    get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert len(server.asked) == 12
    assert server.sent == len(CONTENT)


def test_pauses_grow_and_a_server_may_ask_for_longer(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("helpers.lib.downloads.time.sleep", pauses.append)
    server.faults["good.bin"] = Fault(status=503)
    with pytest.raises(KitError):
        get(server.url + "good.bin", tmp_path / "file.bin", pause=1)
    assert pauses == [1, 2, 4]
    pauses.clear()
    server.faults["good.bin"] = Fault(1, status=503, headers={"Retry-After": "7"})
    get(server.url + "good.bin", tmp_path / "file.bin", pause=1)
    assert pauses == [7]


def test_two_downloads_of_one_file_do_not_mix(server, tmp_path):
    with (
        only_writer(tmp_path / ".file.bin.lock", "it"),
        pytest.raises(KitError, match=r"file\.bin is being written by another run"),
    ):
        get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {}


# Mirrors


@pytest.mark.parametrize("fault", ["404", "500", "cut", "other bytes", "a redirection to itself"])
def test_a_mirror_stands_in(server, tmp_path, monkeypatch, fault):
    server.faults["good.bin"] = dataclasses.replace(LASTING[fault][0])
    mirror = serve()
    try:
        monkeypatch.setattr(downloads, "MIRRORS", {server.url: (mirror.url,)})
        get(server.url + "good.bin", tmp_path / "file.bin")
    finally:
        stop(mirror)
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert mirror.asked == ["good.bin"]
    if fault == "cut":
        assert mirror.ranges == ["bytes=100-"]  # it goes on with what the other had sent


def test_when_no_mirror_helps_each_is_named(server, tmp_path, monkeypatch):
    other = f"http://127.0.0.1:{closed_port()}/"
    monkeypatch.setattr(downloads, "MIRRORS", {server.url: (other,)})
    server.files.clear()
    with pytest.raises(KitError, match=r"says 404; .*refused") as caught:
        get(server.url + "good.bin", tmp_path / "file.bin")
    for url in (server.url, other):
        assert url.split("/")[2] in str(caught.value)


def test_a_mirror_of_ones_own_is_asked_first(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_MIRROR", server.url)
    get("http://no-such-host.invalid/deep/good.bin", tmp_path / "file.bin")
    assert server.asked == ["good.bin"]


def test_every_mirror_is_of_something_that_is_published():
    published = [file.url for file in IMAGENET.values()]
    published.append(datasets.Flowers102._download_url_prefix + "setid.mat")
    for beginning, others in downloads.MIRRORS.items():
        assert any(url.startswith(beginning) for url in published)
        for other in others:
            assert other.startswith("https://")
            assert other.endswith("/")


# The disk


def test_a_full_disk_keeps_what_arrived_and_the_earlier_file(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"an earlier file")
    with full_disk(70_000), pytest.raises(WriteError, match=r"^cannot write .*file\.bin: .*mended"):
        get(server.url + "good.bin", path)
    assert path.read_bytes() == b"an earlier file"
    server.sent = 0
    get(server.url + "good.bin", path)
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert server.sent < len(CONTENT)


def test_a_disk_without_room_is_noticed_before_it_is_full(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("helpers.lib.downloads.shutil.disk_usage", lambda place: usage)
    with pytest.raises(WriteError, match="no room for a file: it takes 0 MB"):
        get(server.url + "good.bin", tmp_path / "file.bin")
    assert server.asked == ["good.bin"]
    assert files_in(tmp_path) == {}


def test_a_place_that_is_no_folder_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KitError, match=r"cannot write in .*file"):
        get(server.url + "good.bin", tmp_path / "file" / "deep" / "file.bin")


# Flowers102


@pytest.fixture
def mirror(server, tmp_path, monkeypatch) -> ThreadingHTTPServer:
    """A server of a made-up Flowers102 of 3 pictures, whose hashes the kit takes for the real."""
    for module in (downloads, flowers):
        monkeypatch.setattr(module, "NUM_PICTURES", 3)
    source = tmp_path / "source" / "jpg"
    for number in (1, 2, 3):
        write_picture(source / f"image_{number:05d}.jpg", seed=number)
    monkeypatch.setattr(downloads, "ROUNDS", 1)
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
    """What is below a folder, but the locks."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in found if not name.endswith(".lock"))


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
    picture = folder / "jpg" / "image_00002.jpg"
    whole = picture.read_bytes()
    for damage in (b"", whole[:-200], None):
        mirror.asked.clear()
        picture.unlink() if damage is None else picture.write_bytes(damage)
        download_flowers102(tmp_path / "data", url_prefix=mirror.url)
        assert mirror.asked == ["102flowers.tgz"]
        assert listed(folder) == WHOLE
        assert picture.read_bytes() == whole


@pytest.mark.parametrize("name", ["102flowers.tgz", "setid.mat"])
@pytest.mark.parametrize("fault", ["cut", "replaced", "absent"])
def test_a_failed_download_of_flowers102_can_be_taken_up(mirror, tmp_path, name, fault):
    data, good = tmp_path / "data", mirror.files[name]
    if fault == "cut":
        mirror.faults[name] = Fault(sends=3, ends="close")
    elif fault == "replaced":
        mirror.files[name] = b"something else"
    else:
        del mirror.files[name]
    with pytest.raises(KitError, match=mirror.url + name):
        download_flowers102(data, url_prefix=mirror.url)
    assert not (data / "flowers-102" / name).exists()
    assert not (data / "flowers-102" / "jpg").exists()
    kept = [path for path in listed(data) if path.endswith(".part")]
    assert kept == ([f"flowers-102/{name}.part"] if fault == "cut" else [])
    mirror.faults.clear()
    mirror.files[name] = good
    download_flowers102(data, url_prefix=mirror.url)
    assert listed(data / "flowers-102") == WHOLE


def test_files_placed_by_hand_are_taken(mirror, tmp_path):
    folder = tmp_path / "data" / "flowers-102"
    folder.mkdir(parents=True)
    for name, content in mirror.files.items():
        if name != "good.bin":
            (folder / name).write_bytes(content)
    download_flowers102(tmp_path / "data", url_prefix=mirror.url)
    assert listed(folder) == WHOLE
    assert mirror.asked == []


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


def test_what_a_download_works_with_is_no_data_set(tmp_path):
    folder = tmp_path / "flowers-102"
    folder.mkdir()
    for name in (".setid.mat.lock", "setid.mat.part"):
        (folder / name).touch()
    assert not flowers.flowers102_is_present(tmp_path)


def test_no_room_to_unpack_keeps_the_archive_and_the_earlier_pictures(mirror, tmp_path):
    data = tmp_path / "data"
    download_flowers102(data, url_prefix=mirror.url)
    (data / "flowers-102" / "jpg" / "image_00002.jpg").unlink()
    longest = max(path.stat().st_size for path in (tmp_path / "source" / "jpg").iterdir())
    mirror.files["102flowers.tgz"] = (tmp_path / "made.tgz").read_bytes()
    (data / "flowers-102" / "102flowers.tgz").write_bytes(mirror.files["102flowers.tgz"])
    with full_disk(longest // 2), pytest.raises(WriteError, match="the archive is kept"):
        download_flowers102(data, url_prefix=mirror.url)
    assert listed(data / "flowers-102") == sorted(
        {*WHOLE, "102flowers.tgz"} - {"jpg/image_00002.jpg"}
    )
    download_flowers102(data, url_prefix=mirror.url)
    assert listed(data / "flowers-102") == WHOLE


# Other sets


def test_unknown_sets_are_not_fetched(tmp_path):
    with pytest.raises(KitError, match=r"no data set 'Roses'.*OxfordIIITPet"):
        download_torchvision_set("Roses", tmp_path)


@pytest.mark.parametrize("error", [OSError("refused"), EOFError(), tarfile.ReadError("cut short")])
def test_a_torchvision_set_that_cannot_be_had(tmp_path, monkeypatch, error):
    def refuse(*args, **options):
        raise error

    monkeypatch.setattr("torchvision.datasets.dtd.download_and_extract_archive", refuse)
    said = str(error) or "EOFError"
    with pytest.raises(KitError, match=f"cannot download DTD: {said}"):
        download_torchvision_set("DTD", tmp_path)


def test_torchvisions_downloads_do_not_wait_for_ever(server, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.DTD, "_URL", server.url + "good.bin")
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    server.faults["good.bin"] = Fault(sends=10, ends="stall")
    with pytest.raises(KitError, match=r"cannot download DTD: .*timed out"):
        download_torchvision_set("DTD", tmp_path)
    assert socket.getdefaulttimeout() is None


# The sets of the extensions


def write_batch(folder: Path, name: str, content: dict) -> list[str]:
    """A pickled file as the archive has it; returns its name and its md5."""
    folder.mkdir(parents=True, exist_ok=True)
    data = pickle.dumps(content)
    (folder / name).write_bytes(data)
    return [name, hashlib.md5(data).hexdigest()]


@pytest.fixture
def small_cifar(server, tmp_path, monkeypatch) -> dict[str, np.ndarray]:
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


def test_cifar_becomes_class_folders_once(server, tmp_path, workspace, small_cifar):
    data_dir = tmp_path / "data"
    download_small_set("CIFAR10", data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["cifar-10-folders"]
    for split, rows in (("train", "data_batch_1"), ("test", "test_batch")):
        for number, row in enumerate(small_cifar[rows]):
            name = f"{split}/class{number % 10}/{number:05d}.png"
            with Image.open(data_dir / "cifar-10-folders" / name) as picture:
                assert np.array_equal(
                    np.asarray(picture), row.reshape(3, 32, 32).transpose(1, 2, 0)
                )
    full = dataclasses.replace(workspace, profile="full", data_dir=data_dir)
    data = load_data(
        full, size=32, batch_size=8, augment=SmallAugmentation(), dataset="CIFAR10",
        extension=True, val_share=0.5,
    )  # fmt: skip
    assert data.sizes == {"train": 10, "val": 10, "test": 20}
    asked = list(server.asked)
    download_small_set("CIFAR10", data_dir)  # nothing is fetched again
    assert server.asked == asked


def test_interrupted_cifar_leaves_no_half_a_set(server, tmp_path, small_cifar, monkeypatch):
    save, saved = Image.Image.save, []

    def interrupted(picture, path):
        if len(saved) == 25:
            raise KeyboardInterrupt
        saved.append(path)
        save(picture, path)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download_small_set("CIFAR10", tmp_path / "data")
    assert not (tmp_path / "data" / "cifar-10-folders").exists()
    monkeypatch.setattr(Image.Image, "save", save)
    server.files.clear()  # what was fetched is still there
    download_small_set("CIFAR10", tmp_path / "data")
    pictures = (tmp_path / "data" / "cifar-10-folders").rglob("*.png")
    assert len(list(pictures)) == 40


@pytest.mark.parametrize("fault", ["another file", "cut short", "not there"])
def test_cifar_that_cannot_be_had_is_one_line(server, tmp_path, small_cifar, fault):
    name = "cifar-10-python.tar.gz"
    if fault == "another file":
        server.files[name] = CONTENT
    elif fault == "cut short":
        server.faults[name] = Fault(sends=1000, ends="close")
    else:
        server.files.clear()
    with pytest.raises(KitError, match=r"cannot download CIFAR10: .* if it stays so, put its"):
        download_small_set("CIFAR10", tmp_path / "data")
    assert not (tmp_path / "data" / "cifar-10-folders").exists()
