"""A headless Chromium for tests of pages, driven over its DevTools protocol.

In tests/, `python -m tools.browser PAGE PICTURE` takes a picture of a page, as those in docs/.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
START = 120  # seconds that a browser may take to start, on a busy machine
ANSWER = 60  # seconds for one answer
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0", "--hide-scrollbars", "about:blank",
)  # fmt: skip


def find_browser() -> str | None:
    """A Chromium on this machine, None when there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab, without a network unless `offline` is False. Use it as a context manager.

    After `open`, `faults` holds what the page did that it must not: errors and warnings of its
    console, exceptions, dialogs, and addresses that it asked for besides its own file.
    """

    def __init__(self, program: str, profile: Path, *, offline: bool = True) -> None:
        import websocket

        self.faults: list[str] = []
        self.number = 0
        self.process = subprocess.Popen(
            [program, f"--user-data-dir={profile}", *OPTIONS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = self._port(profile / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                (page,) = (one for one in json.load(answer) if one["type"] == "page")
            address = page["webSocketDebuggerUrl"]
            self.socket = websocket.create_connection(
                address, timeout=ANSWER, suppress_origin=True, max_size=None
            )
        except BaseException:
            self.process.kill()
            raise
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # a window in front
        if offline:
            no_network = dict.fromkeys(("latency", "downloadThroughput", "uploadThroughput"), 0)
            self.call("Network.emulateNetworkConditions", offline=True, **no_network)

    def _port(self, path: Path) -> int:
        """The port that the browser has chosen, as soon as it tells."""
        ends = time.monotonic() + START
        while time.monotonic() < ends and self.process.poll() is None:
            if path.exists() and (lines := path.read_text(encoding="utf-8").splitlines()):
                return int(lines[0])
            time.sleep(0.1)
        raise RuntimeError("the browser did not start")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(ANSWER)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; returns its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self._notice(answer)

    def _notice(self, event: dict[str, Any]) -> None:
        name, what = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            self.faults.append(f"an exception: {what['exceptionDetails'].get('text')}")
        elif name == "Runtime.consoleAPICalled":
            self.faults.append(f"it wrote to the console: {what['args']}")
        elif name == "Log.entryAdded":
            self.faults.append(f"{what['entry']['level']}: {what['entry']['text']}")
        elif name == "Page.javascriptDialogOpening":
            self.faults.append(f"a dialog: {what['message']}")
        elif name == "Network.requestWillBeSent":
            address = what["request"]["url"]
            if address != self.address and not address.startswith("data:"):
                self.faults.append(f"it asked for {address}")
        elif name == "Page.loadEventFired":
            self.loaded = True

    def open(self, page: Path | str, *, width: int, height: int = 800) -> None:
        """Show a file, or an address, in a window of that size in CSS pixels; waits for it."""
        self.address = page if isinstance(page, str) else page.resolve().as_uri()
        self.faults, self.loaded = [], False
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=self.address)
        while not self.loaded:
            self._notice(json.loads(self.socket.recv()))

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives on the page, at last if it is a promise."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float) -> Any:
        """The first value of an expression that is not false; fails after so many seconds."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if found := self.value(expression):
                return found
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds:.0f} s: {expression}")

    def press_tab(self) -> None:
        """Press the Tab key as a person does."""
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def picture(self) -> bytes:
        """What the window shows, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def pdf(self) -> bytes:
        """The page as it would be printed, on the paper that its sheet asks for."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(printed["data"])


def save_picture(png: bytes, path: Path) -> None:
    """Write a picture of a page as a small PNG of 256 colours."""
    from PIL import Image

    method = Image.Quantize.FASTOCTREE  # it keeps colours that are rare
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, method=method, dither=Image.Dither.NONE).save(path, optimize=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Take a picture of a page, in 256 colours.")
    parser.add_argument("page", type=Path, help="an HTML file")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--width", type=int, default=1000, help="of the window, in CSS pixels")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--at", default="body", help="CSS selector of what is to stand on top")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as profile, Browser(find_browser(), Path(profile)) as one:
        one.open(options.page, width=options.width, height=options.height)
        one.value("document.documentElement.style.scrollBehavior = 'auto'")
        one.value(f"document.querySelector({options.at!r}).scrollIntoView()")
        save_picture(one.picture(), options.picture)


if __name__ == "__main__":
    main()
