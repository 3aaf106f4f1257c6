"""A server on this machine, for downloads: it has files, and misbehaves as it is told to."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET


@dataclass
class Fault:
    """How the server misbehaves on a name, the first `times` that it is asked for it."""

    times: float = math.inf
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sends: int | None = None  # bytes of the body before `ends`
    ends: str = ""  # "close", "reset" or "stall"
    content: bytes | None = None  # instead of the right one
    ranges: bool = True


class Server(ThreadingHTTPServer):
    """Serves `files`, with `faults` by name; `requests` are the names and ranges it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    @property
    def names(self) -> list[str]:
        """What it was asked for."""
        return [name for name, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.requests.append((name, self.headers.get("Range")))
        fault = self.server.faults.get(name, Fault())
        fault.times -= 1
        if fault.times < 0:
            fault = Fault()
        content = self.server.files.get(name) if fault.content is None else fault.content
        if content is None:
            self._answer(404, {"Content-Length": "0"})
        elif fault.status != 200:
            self._answer(fault.status, {"Content-Length": "0", **fault.headers})
        else:
            self._send(content, fault)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _send(self, content: bytes, fault: Fault) -> None:
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if fault.ranges else 0
        if begin >= len(content) > 0:
            self._answer(416, {"Content-Length": "0"})
            return
        self._answer(206 if begin else 200, {"Content-Length": str(len(content) - begin)})
        with contextlib.suppress(OSError):  # the other side may have had enough
            self.wfile.write(content[begin:][: fault.sends])
        if fault.ends == "stall":
            self.server.over.wait(20)
        if fault.ends == "reset":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.wfile = io.BytesIO()

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A server that runs during the block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
