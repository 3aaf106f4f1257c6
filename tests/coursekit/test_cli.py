"""The command line: help, exit statuses, one line for bad input, and what `check` finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coursekit import check, notebooks
from coursekit.__main__ import main
from helpers.lib.folders import ROOT
from helpers.lib.identity import kit_version
from helpers.lib.weights import IMAGENET
from tools.made_up import write_notebook
from tools.tiny import write_class_folders


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of our own, with one notebook that is there but never run."""
    write_notebook(tmp_path / "notebooks", "01_a", "x = 1")
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    for name in ("results", "data"):
        monkeypatch.setenv(f"KIT_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("KIT_PROFILE", "mini")
    return tmp_path


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command where a package is not installed."""
    return python(
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from coursekit.__main__ import main; sys.exit(main({list(arguments)}))"
    )


def test_help_waits_for_nothing() -> None:
    code = (
        "import sys; from coursekit.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'helpers', 'nbformat'} & {*sys.modules}))"
    )
    done = python(code)
    assert done.stdout.startswith("usage: python -m coursekit")
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run --profile huge", "invalid choice: 'huge'"),
        ("grade here --workers 0", "argument --workers: 0: use more than 0"),
        ("grade here --rerun-minutes -1", "argument --rerun-minutes: -1: use more than 0"),
        ("bake", "invalid choice: 'bake'"),
    ],
)
def test_what_no_command_understands(
    command: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        main(command.split())
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run --notebooks 77", "no notebook '77': there are 01_a"),
        ("run --extensions", "extensions: fetch the kit again"),
        ("run", "unknown profile 'huge': use 'mini' or 'full'"),
        ("train --method bake", "'bake'"),
        ("download --dataset Roses", "no data set 'Roses': use one of Flowers102, "),
        ("release --out .", ". is in use: name a new or empty folder"),
        ("grade nowhere", "nowhere"),
    ],
)
def test_bad_input_gets_one_line(
    command: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if command == "run":
        monkeypatch.setenv("KIT_PROFILE", "huge")
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_check_prints_and_returns(capsys: pytest.CaptureFixture) -> None:
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("[ok]", "[missing]", "[problem]")) for line in lines[:-1])
    for beginning in ("[ok]      Python 3", "[missing] Flowers102", "[missing] weights of resnet18",
                      "[ok]      mini profile: 720 drawings", "[ok]      1 notebooks"):  # fmt: skip
        assert any(line.startswith(beginning) for line in lines), beginning
    assert lines[-1] == "The mini profile can run."


def test_check_finds_what_is_wrong(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (place / "data" / "flowers-102").mkdir(parents=True)
    (place / "data" / "flowers-102" / "setid.mat").touch()
    file = IMAGENET["resnet18"].path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not weights")
    (place / "requirements.txt").write_text("torch>=99\nno_such_package_here\n-e .\n# remark\n")
    monkeypatch.setattr(check, "ROOT", place)
    assert main(["check"]) == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if "[problem]" in line]
    assert len(problems) == 4
    for text in (">=99 is wanted", "not installed", "is incomplete", "is not the published file"):
        assert any(text in line for line in problems)


@pytest.mark.parametrize("package", ["torch", "nbformat"])
def test_check_goes_on_without_packages(package: str) -> None:
    done = without(package, "check")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("cannot look further") == 1
    assert "[ok]      Python 3" in done.stdout and "matplotlib" in done.stdout


def test_check_tells_of_what_was_interrupted(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("KIT_MIRROR", "https://files.example.edu/kit")
    checkpoints = IMAGENET["resnet18"].path.parent
    for folder in (checkpoints, place / "data" / "decoded"):
        folder.mkdir(parents=True)
    (checkpoints / "resnet18.pth.part").write_bytes(bytes(1_200_000))
    (place / "data" / "decoded" / "set.pixels").write_bytes(bytes(2_500_000))
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert "[ok]      1.2 MB of resnet18.pth are kept of a download" in said
    assert "2.5 MB of decoded pictures" in said
    assert "downloads ask KIT_MIRROR first: https://files.example.edu/kit" in said


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="it may write everywhere")
def test_check_tells_of_folders_that_cannot_be_written(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    (place / "results").mkdir(mode=0o500)
    assert main(["check"]) == 1
    assert "results cannot be written: set KIT_RESULTS" in capsys.readouterr().out


def test_check_looks_at_a_folder_of_ones_own(place: Path, capsys: pytest.CaptureFixture) -> None:
    folder = write_class_folders(place / "data" / "mine", {"a": 5, "b": 5})
    (folder / "a" / "empty.jpg").touch()
    assert main(["check", "--dataset", "mine"]) == 0
    said = capsys.readouterr().out
    assert "[problem] left out of mine: a/empty.jpg (no picture that can be read, or empty)" in said
    assert "[ok]      mine: 10 pictures of 2 classes can be used" in said
    assert main(["check", "--dataset", "yours"]) == 0
    assert "[problem] no data set 'yours': use one of" in capsys.readouterr().out
    assert main(["check", "--dataset", "Flowers102"]) == 0
    assert "[ok]      Flowers102 (drawn): 720 pictures of 12" in capsys.readouterr().out


def run_command(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own; its output as bytes."""
    environment = os.environ | options.pop("environment", {})
    words = (sys.executable, "-m", "coursekit", *words)
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, **options)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_a_terminal_cannot_show_is_no_error(place: Path, encoding: str) -> None:
    write_class_folders(place / "data" / "photos", {"\N{CJK UNIFIED IDEOGRAPH-82B1}": 5, "b": 0})
    done = run_command(
        "check", "--dataset", str(place / "data" / "photos"),
        environment={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    done = run_command("train", "--method", "\N{CJK UNIFIED IDEOGRAPH-82B1}",
                   environment={"PYTHONIOENCODING": encoding})  # fmt: skip
    assert done.returncode == 2 and rb"unknown method '\u82b1'" in done.stderr


def test_a_reader_that_has_gone_ends_a_command_in_silence() -> None:
    shell = f"{sys.executable} -m coursekit check | head -1; echo status ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
    first, status = done.stdout.splitlines()
    assert first.startswith("[ok]") and status in ("status 141", "status 0")


def test_nothing_is_printed_before_a_refused_argument(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "--method", "resnet18_finetun"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: unknown method 'resnet18_finetun' (did you mean 'resnet18_finet")


def test_the_version_is_printed(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == kit_version()
