"""Downloads, from a server on this machine: the right file, or one clear line and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.errors import KitError, WriteError
from helpers.lib import fetch as fetching
from helpers.lib.fetch import fetch
from helpers.lib.files import only_writer
from tools.server import Fault, Server, running_server
from tools.tiny import full_disk

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """A server with one file, and no waiting between two attempts."""
    monkeypatch.delenv("KIT_MIRROR", raising=False)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with running_server() as server:
        server.files["good.bin"] = CONTENT
        yield server


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str, path: Path, **options) -> None:
    """Fetch with hardly any patience."""
    given = {"what": "a file", "sha256_prefix": DIGEST[:8], "timeout": 0.2, "retries": 1}
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
    assert server.requests == [("good.bin", None)]


# A fault, and whether the next attempt goes on with what came: blocks of 64 KiB are kept.
PASSING = {
    "cut": (Fault(1, sends=90_000, ends="close"), True),
    "stall": (Fault(1, sends=90_000, ends="stall"), True),
    "reset": (Fault(1, sends=0, ends="reset"), False),
    "503": (Fault(1, status=503), False),
    "429": (Fault(1, status=429), False),
    "no ranges": (Fault(2, sends=90_000, ends="close", ranges=False), True),
}


@pytest.mark.parametrize("name", PASSING)
def test_faults_that_pass_end_in_the_right_file(server, tmp_path, name):
    fault, goes_on = PASSING[name]
    server.faults["good.bin"] = dataclasses.replace(fault)
    get(server.url + "good.bin", tmp_path / "file.bin", retries=2)
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert server.requests[1] == ("good.bin", "bytes=65536-" if goes_on else None)


LASTING = {
    "cut": (Fault(sends=100, ends="close"), "100 bytes read", 2),
    "stall": (Fault(sends=100, ends="stall"), "timed out", 2),
    "403": (Fault(status=403), "the server says 403", 1),
    "404": (Fault(status=404), "the server says 404", 1),
    "503": (Fault(status=503), "the server says 503", 2),
    "other bytes": (Fault(content=CONTENT[::-1]), "another hash than", 1),
    "a page that asks to log in": (Fault(content=b"<html>log in</html>"), "another hash than", 1),
    "nothing": (Fault(content=b""), "another hash than", 1),
}


@pytest.mark.parametrize("name", LASTING)
def test_faults_that_last_end_in_one_line_and_soon(server, tmp_path, name):
    fault, said, requests = LASTING[name]
    server.faults["good.bin"] = dataclasses.replace(fault)
    path, url = tmp_path / "file.bin", server.url + "good.bin"
    path.write_bytes(b"an earlier file")
    started = time.monotonic()
    with pytest.raises(KitError, match=f"^cannot download a file: .*{said}") as caught:
        get(url, path)
    assert time.monotonic() - started < 15
    assert f"from {url} and save it as {path}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == requests
    left = files_in(tmp_path)
    assert left.pop("file.bin") == b"an earlier file"
    assert CONTENT.startswith(left.pop("file.bin.part", b""))  # what is kept is right
    assert not left


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:{port}/good.bin", "Connection refused"),
        ("http://no-such-host.invalid/good.bin", "cannot download"),
        ("good.bin", "Invalid URL"),
        ("http://[/good.bin", "cannot download"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path, url, said):
    with pytest.raises(KitError, match="cannot download a file: ") as caught:
        get(url.format(port=closed_port()), tmp_path / "file", retries=0)
    assert said in str(caught.value)
    assert files_in(tmp_path) == {}


# Resuming

KILLED = """
import sys
from pathlib import Path
from helpers.lib.fetch import fetch
fetch(sys.argv[1], Path(sys.argv[2]), what="a file", sha256_prefix=sys.argv[3])
"""


def test_a_later_run_goes_on_where_a_killed_one_stopped(server, tmp_path):
    server.faults["good.bin"] = Fault(1, sends=70_000, ends="stall")
    path, part = tmp_path / "file.bin", tmp_path / "file.bin.part"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, server.url + "good.bin", str(path), DIGEST[:8]]
    )
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert 0 < kept <= 70_000
    get(server.url + "good.bin", path)
    assert path.read_bytes() == CONTENT
    assert not part.exists()
    assert server.requests == [("good.bin", None), ("good.bin", f"bytes={kept}-")]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kept", [1, 70_000, len(CONTENT), len(CONTENT) + 5])
@pytest.mark.parametrize("damaged", [False, True])
def test_whatever_is_kept_the_right_file_results(server, tmp_path, kept, ranges, damaged):
    server.faults["good.bin"] = Fault(ranges=ranges)
    part = (CONTENT + b"12345")[:kept]
    (tmp_path / "file.bin.part").write_bytes(bytes(kept) if damaged else part)
    get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {"file.bin": CONTENT}


def test_two_downloads_of_one_file_do_not_mix(server, tmp_path):
    with (
        only_writer(tmp_path / ".file.bin.lock", "it"),
        pytest.raises(KitError, match=r"file\.bin is being written by another run"),
    ):
        get(server.url + "good.bin", tmp_path / "file.bin")
    assert files_in(tmp_path) == {}


# Mirrors


@pytest.mark.parametrize("fault", ["404", "cut", "other bytes"])
def test_a_mirror_stands_in(server, tmp_path, monkeypatch, fault):
    cut = Fault(sends=90_000, ends="close")
    server.faults["good.bin"] = cut if fault == "cut" else dataclasses.replace(LASTING[fault][0])
    with running_server() as mirror:
        mirror.files["good.bin"] = CONTENT
        monkeypatch.setattr(fetching, "MIRRORS", {server.url: (mirror.url,)})
        get(server.url + "good.bin", tmp_path / "file.bin", retries=0)
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    # it goes on with what the other had sent
    assert mirror.requests == [("good.bin", "bytes=65536-" if fault == "cut" else None)]


def test_a_mirror_of_ones_own_is_asked_first(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_MIRROR", server.url)
    get("http://no-such-host.invalid/deep/good.bin", tmp_path / "file.bin")
    assert server.names == ["good.bin"]
    assert files_in(tmp_path) == {"file.bin": CONTENT}


# The disk


def test_a_full_disk_keeps_what_arrived_and_the_earlier_file(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"an earlier file")
    with full_disk(70_000), pytest.raises(WriteError, match=r"^cannot write .*file\.bin: .*fixed"):
        get(server.url + "good.bin", path)
    assert path.read_bytes() == b"an earlier file"
    get(server.url + "good.bin", path)
    assert files_in(tmp_path) == {"file.bin": CONTENT}
    assert server.requests[-1][1] is not None  # it went on
