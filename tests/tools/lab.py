"""JupyterLab on a copy of the kit, in a headless Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.lib.folders import ROOT
from tools.browser import Browser, find_browser

PARTS = ("helpers", "notebooks", "data/mini", "pyproject.toml")
START = 180  # seconds that the server, and then the page, may take on a busy machine
LONGEST = 600  # seconds for all cells of a notebook
QUIET = {"@jupyterlab/apputils-extension": {"notification": {"fetchNews": "false"}}}

READY = """
(() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  return panel?.context?.isReady && panel.sessionContext.session?.kernel?.status === "idle";
})()
"""
# From now on, keep the first cell that trains in view, and each text that its outputs show, with
# its height.
WATCH = """
(() => {
  const notebook = jupyterapp.shell.currentWidget.content;
  const place = notebook.widgets.findIndex(one => one.model.type === "code"
    && one.model.sharedModel.getSource().includes("train_model("));
  const area = notebook.widgets[place].outputArea;
  const look = () => {
    const outputs = area.model.toJSON();
    const text = outputs.flatMap(one => one.text ?? one.data?.["text/plain"] ?? "").join("");
    if (text !== window.shown.at(-1)?.text)
      window.shown.push({text, height: area.node.offsetHeight});
  };
  window.shown = [];
  setInterval(look, 50);
  setInterval(() => area.node.scrollIntoView({block: "end"}), 500);
  return place;
})()
"""
RUN_ALL = """
window.ended = "";
jupyterapp.commands.execute("notebook:restart-run-all").then(
  () => { window.ended = "well"; }, error => { window.ended = String(error); });
0
"""
ACCEPT = "document.querySelector('.jp-Dialog .jp-mod-accept')"
SAVE = "jupyterapp.commands.execute('docmanager:save').then(() => true)"


def copy_kit(folder: Path) -> Path:
    """What of the kit a student's session needs, in a folder of its own; returns that."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    return folder


class Lab:
    """A server of JupyterLab with one notebook open in a browser. Use it as a context manager.

    The kit is `folder` / "kit", a copy whose results are its own; all else that Jupyter writes is
    in `folder`, too.
    """

    def __init__(
        self, folder: Path, notebook: str, *, width: int = 1200, height: int = 900
    ) -> None:
        self.kit = copy_kit(folder / "kit")
        self.path = self.kit / "notebooks" / notebook
        self.folder, self.width, self.height = folder, width, height
        self.port, self.token = _free_port(), secrets.token_hex(16)

    def __enter__(self) -> Lab:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._server())
            one = Browser(find_browser(), self.folder / "browser", offline=False)
            self.browser = stack.enter_context(one)
            address = self._address(f"lab/tree/notebooks/{self.path.name}")
            self.browser.open(address, width=self.width, height=self.height)
            self.browser.wait_for(READY, START)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @contextlib.contextmanager
    def _server(self) -> Iterator[None]:
        """The server, which is asked to end, and its kernels with it, when the block does."""
        log = self.folder / "server.log"
        options = ("--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                   f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0",
                   f"--ServerApp.root_dir={self.kit}", f"--IdentityProvider.token={self.token}",
                   "--LabApp.expose_app_in_browser=True")  # fmt: skip
        command, environment = [sys.executable, "-m", "jupyterlab"], self._environment()
        with log.open("wb") as stream:
            server = subprocess.Popen(
                [*command, *options], env=environment, stdout=stream, stderr=stream
            )
        try:
            self._wait_for(server, log)
            yield
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()

    def _environment(self) -> dict[str, str]:
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
                 "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
        for extension, settings in QUIET.items():
            for name, values in settings.items():
                folder = self.folder / "JUPYTERLAB_SETTINGS_DIR" / extension
                path = folder / f"{name}.jupyterlab-settings"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(values), encoding="utf-8")
        outer = {key: value for key, value in os.environ.items() if not key.startswith("KIT_")}
        own = {name: str(self.folder / name) for name in names}
        return {**outer, **own, "PYTHONPATH": str(self.kit), "KIT_PROFILE": "mini"}

    def _address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def _wait_for(self, server: subprocess.Popen, log: Path) -> None:
        ends = time.monotonic() + START
        while time.monotonic() < ends and server.poll() is None:
            try:
                with urllib.request.urlopen(self._address("api/status"), timeout=START):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start: {log.read_text(errors='replace')[-2000:]}")

    def start_run(self) -> None:
        """Restart the kernel and run all cells; does not wait. The first training is in view."""
        assert self.browser.value(WATCH) >= 0
        self.browser.value(RUN_ALL)
        self.browser.wait_for(f"!!{ACCEPT}", START)
        self.browser.value(f"{ACCEPT}.click()")

    def wait_for_end(self) -> str:
        """Wait until all cells have run and save; returns "well", or what went wrong."""
        ended = self.browser.wait_for("window.ended", LONGEST)
        assert self.browser.value(SAVE)
        return ended

    def shown(self) -> list[dict[str, Any]]:
        """The texts that the first training has shown so far, each with its height in pixels."""
        return self.browser.value("window.shown")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
