"""Downloads with pooch: they end in the right file or in one line, and go on where they stopped."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from helpers.errors import KitError, WriteError
from helpers.lib.files import hash_of, only_writer

# Other hosts of the same files, by how the publisher's addresses begin. The hash decides whether a
# file is taken, so a mirror need not be trusted. ResNet18's weights have no other host.
MIRRORS = {
    "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/": (
        "https://paddlemodels.bj.bcebos.com/flowers/",
    ),
    "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/": (
        "https://publicmodels.blob.core.windows.net/container/aa/",
    ),
}
OWN_MIRROR = "KIT_MIRROR"  # the variable that names a folder on a server of one's own, asked first

TIMEOUT = 30.0  # seconds without a byte
RETRIES = 3  # of each address; pooch waits 1, 2 and 3 seconds before them
BLOCK = 1 << 16
PASSING = (408, 425, 429)  # of the statuses below 500, those that may be another one soon


class _Refused(Exception):  # noqa: N818 (pooch tries again after ValueError and network errors)
    """The same address would fail in the same way again."""


class _Resuming:
    """pooch's own downloader, which keeps what arrives in `part` and goes on from there."""

    def __init__(self, part: Path, what: str, method: str, digest: str, timeout: float) -> None:
        self.part, self.what, self.method, self.digest = part, what, method, digest
        self.timeout = timeout

    def __call__(self, url: str, output_file: str, pooch_: Any) -> None:
        import requests
        from pooch import HTTPDownloader

        kept = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity", "User-Agent": "transfer-learning-kit"}
        if kept:
            headers["Range"] = f"bytes={kept}-"
        bar = tqdm(desc=self.what, unit="B", unit_scale=True, total=1)  # pooch sets the total
        with self.part.open("ab") as stream, bar:

            def begin_anew(answer: requests.Response, **_: Any) -> None:
                if answer.status_code == 200:  # all of it comes again, not only what is missing
                    stream.truncate(0)

            download = HTTPDownloader(
                bar, BLOCK, timeout=self.timeout, headers=headers, hooks={"response": begin_anew}
            )
            try:
                download(url, stream, pooch_)
            except requests.HTTPError as error:
                code = getattr(error.response, "status_code", 0)
                if code == 416:  # more is kept than there is
                    stream.truncate(0)
                elif code < 500 and code not in PASSING:
                    raise _Refused(_reason(error)) from None
                raise
        if not hash_of(self.part, self.method).startswith(self.digest):
            self.part.unlink()
            text = f"what arrived has another hash than {self.digest}... and was not kept"
            raise ValueError(text) if kept else _Refused(text)
        self.part.replace(output_file)


def fetch(
    url: str,
    path: Path,
    *,
    what: str,
    sha256_prefix: str = "",
    md5: str = "",
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
) -> None:
    """Download `url`, or the same file from a mirror, to `path`, with a progress bar.

    What arrives stands in `path`.part: an interrupted download goes on from there, also a day
    later. Only the file with the right hash gets its name; `what` it is stands in messages.
    Raises `KitError` when it cannot be had; an earlier `path` is then untouched.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    part = path.with_name(f"{path.name}.part")
    method, digest = ("sha256", sha256_prefix) if sha256_prefix else ("md5", md5)
    downloader = _Resuming(part, what, method, digest.lower(), timeout)
    faults = []
    with only_writer(path.with_name(f".{path.name}.lock"), path.name, "stop that one"):
        for address in addresses(url):
            try:
                with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
                    # pooch checks whole hashes, and of weights only the first digits are known:
                    # the downloader does it, for both kinds.
                    cache = pooch.create(
                        folder, "", registry={path.name: None}, urls={path.name: address},
                        retry_if_failed=retries,
                    )  # fmt: skip
                    fetched = Path(cache.fetch(path.name, downloader=downloader))
                    fetched.chmod(0o644)
                    fetched.replace(path)
                return
            except (requests.RequestException, ValueError, _Refused) as error:
                host = address.partition("://")[2].partition("/")[0] or address
                faults.append(f"{host}: {_reason(error)}")
            except OSError as error:
                raise WriteError(
                    f"cannot write {path}: {error.strerror or error}; when that is fixed, run this "
                    "again: it goes on where it stopped"
                ) from error
    if part.exists() and not part.stat().st_size:
        part.unlink()
    raise KitError(
        f"cannot download {what}: {'; '.join(faults)}. Try again"
        f"{' (what has arrived is kept)' if part.exists() else ''}, or fetch it with a browser "
        f"from {url} and save it as {path}, then run this again"
    )


def addresses(url: str) -> list[str]:
    """Where a file can be had, in the order in which they are tried."""
    own = os.environ.get(OWN_MIRROR, "").strip()
    found = [f"{own.rstrip('/')}/{url.rpartition('/')[2]}"] if own else []
    found.append(url)
    for beginning, others in MIRRORS.items():
        if url.startswith(beginning):
            found += [other + url.removeprefix(beginning) for other in others]
    return found


def _reason(error: BaseException) -> str:
    """A network error in few words: requests and urllib3 wrap the one that tells."""
    if (answer := getattr(error, "response", None)) is not None:
        return f"the server says {answer.status_code}"
    while error.__context__ is not None and not isinstance(error, _Refused):
        error = error.__context__
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
