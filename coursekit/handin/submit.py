"""Handing in: the check of a student's work, packed into one file."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from coursekit.handin.package import Manifest, write_handin
from coursekit.handin.work import Work, count
from helpers.lib.cell_log import LOG_NAME
from helpers.lib.folders import show_path
from helpers.lib.identity import kit_version
from helpers.workspace import find_workspace

MOST_BYTES = 50_000_000  # of a hand-in: beyond it learning systems begin to refuse


def submit(*, name: str | None = None, anyway: bool = False, out: Path = Path()) -> int:
    """Check the work of this machine's student, and pack it; say in a line each what is missing.

    Args:
        name: the student's name, for the people who read it.
        anyway: also write an incomplete hand-in, or one on the mini profile; its manifest says so.
        out: the folder for submission-ID.zip.

    Returns:
        0 when a file was written, else 1.

    Raises:
        KitError: when the file cannot be written.
    """
    workspace = find_workspace()
    print(f"student {workspace.student or 'unknown'}, profile {workspace.profile}")
    work = Work(workspace)
    missing = list(work.missing())
    for line in missing:
        print(f"- {line}")
    if work.damaged:  # by a full disk, say; what it should have shown is missed where it matters
        print(f"note: {count(work.damaged, 'line')} of {LOG_NAME} cannot be read")
    if not workspace.student:
        print("Nothing was written: without an id nobody would know whose work it is.")
        return 1
    if missing and not anyway:
        print("Nothing was written. Fix this, or hand in what there is with --anyway.")
        return 1
    manifest = Manifest(
        kit=kit_version(),
        student=workspace.student,
        name=name,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        profile=workspace.profile,
        complete=not missing,
        missing=missing,
        machine={  # nothing that tells whose machine it is
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    )
    files = work.files()
    path = write_handin(Path(out), manifest, files)
    kind = "INCOMPLETE, see above" if missing else "complete"
    print(f"wrote {show_path(path.resolve())}: {len(files)} files, {kind}")
    if (size := path.stat().st_size) > MOST_BYTES:
        largest = max(files, key=lambda name: len(files[name]))
        print(
            f"note: it has {size / 1e6:.0f} MB, and many learning systems take no more than "
            f"{MOST_BYTES / 1e6:.0f}: most is in {largest}; clear what it prints too much of"
        )
    return 0
