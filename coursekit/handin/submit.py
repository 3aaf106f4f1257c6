"""Handing in: the check of a student's work, packed into one file."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from coursekit.handin.package import Manifest, write_handin
from coursekit.handin.work import Work
from helpers.lib.folders import show_path
from helpers.lib.identity import kit_version
from helpers.workspace import find_workspace


def submit(*, name: str | None = None, anyway: bool = False, out: Path = Path()) -> int:
    """Check the work of this machine's student, and pack it; say in a line each what is missing.

    Args:
        name: The student's name, for the people who read it.
        anyway: Also write an incomplete hand-in, or one on the mini profile; its manifest says so.
        out: The folder for submission-ID.zip.

    Returns:
        0 when a file was written, else 1.

    Raises:
        KitError: The file cannot be written.
    """
    workspace = find_workspace()
    print(f"student {workspace.student or 'unknown'}, profile {workspace.profile}")
    work = Work(workspace)
    missing = list(work.missing())
    for line in missing:
        print(f"- {line}")
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
    path = write_handin(out, manifest, files)
    kind = "INCOMPLETE, see above" if missing else "complete"
    print(f"wrote {show_path(path.resolve())}: {len(files)} files, {kind}")
    return 0
