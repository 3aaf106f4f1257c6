"""The command line: help, exit statuses, and one line for bad input."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from tiny import write_class_folders, write_picture

from coursekit import check, notebooks
from helpers import __main__ as cli
from helpers.errors import KitError
from helpers.lib import downloads, flowers, weights


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Folders of our own, with one notebook that is there but never run."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_a.ipynb").touch()
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    for name in ("results", "data"):
        monkeypatch.setenv(f"KIT_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("KIT_PROFILE", "mini")
    return tmp_path


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from coursekit.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*{'torch', 'matplotlib', 'scipy', 'nbformat'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_starting_loads_torch_and_no_figures():
    code = "import sys, helpers; helpers.start(); print(*{'matplotlib', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("command", [[], ["run"], ["download"], ["check"], ["submit"], ["release"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: python -m coursekit" in capsys.readouterr().out


def test_unknown_profile(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--profile", "huge"])
    assert end.value.code == 2
    assert "huge" in capsys.readouterr().err


def test_unknown_profile_in_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("KIT_PROFILE", "huge")
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == "error: unknown profile 'huge': use 'mini' or 'full'\n"


def test_unknown_notebook(capsys):
    assert cli.main(["run", "--notebooks", "77"]) == 2
    assert capsys.readouterr().err == "error: no notebook '77': there are 01_a\n"


def test_interrupted(monkeypatch, capsys):
    def stop(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_check", stop)
    assert cli.main(["check"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_download_goes_on_after_a_failure(monkeypatch, capsys):
    def fail(data_dir):
        raise KitError("no network")

    fetched = []
    monkeypatch.setattr(downloads, "download_flowers102", fail)
    monkeypatch.setattr(weights, "fetch_weights", fetched.append)
    assert cli.main(["download"]) == 1
    assert fetched == ["resnet18", "efficientnet_b5"]
    assert capsys.readouterr().err == "error: Flowers102: no network\n"
    assert cli.main(["download", "--weights-only"]) == 0


def test_download_of_another_data_set(place, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(downloads, "download_torchvision_set", lambda *args: asked.append(args))
    monkeypatch.setattr(weights, "fetch_weights", lambda name: None)
    assert cli.main(["download", "--dataset", "DTD"]) == 0
    assert asked == [("DTD", place / "data")]
    assert cli.main(["download", "--dataset", "Roses"]) == 2
    assert "no data set 'Roses': use one of Flowers102, " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_download_of_the_set_of_an_extension(place, monkeypatch, capsys, name):
    asked = []
    monkeypatch.setattr(downloads, "download_small_set", lambda *args: asked.append(args))
    monkeypatch.setattr(weights, "fetch_weights", lambda name: None)
    assert cli.main(["download", "--dataset", name]) == 0
    assert asked == [(name, place / "data")]
    assert f"{name}: complete" in capsys.readouterr().out


def test_extensions_are_asked_for(capsys):
    assert cli.main(["run", "--extensions"]) == 2
    assert "extensions: fetch the kit again" in capsys.readouterr().err


def test_check_prints_and_returns(capsys):
    assert cli.main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("[ok]", "[missing]", "[problem]")) for line in lines[:-1])
    assert any(line.startswith("[missing] Flowers102") for line in lines)
    assert any(line.startswith("[missing] weights of resnet18") for line in lines)
    assert lines[-1] == "The mini profile can run."


def test_check_finds_what_is_wrong(place, monkeypatch, capsys):
    (place / "data" / "flowers-102").mkdir(parents=True)
    (place / "data" / "flowers-102" / "setid.mat").touch()
    file = weights.IMAGENET["resnet18"].path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not weights")
    (place / "requirements.txt").write_text("torch>=99\nno_such_package_here\n-e .\n# remark\n")
    monkeypatch.setattr(check, "ROOT", place)
    assert cli.main(["check"]) == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if "[problem]" in line]
    assert len(problems) == 4
    for text in (">=99 is wanted", "not installed", "is incomplete", "is not the published file"):
        assert any(text in line for line in problems)


def test_check_goes_on_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"  # as if it were not installed
        "from coursekit.__main__ import main; sys.exit(main(['check']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("cannot look further") == 1  # although several checks need it
    assert "[ok]      Python 3" in done.stdout
    assert "notebooks, in a folder that can be written" in done.stdout


def test_check_tells_of_what_was_interrupted(place, monkeypatch, capsys):
    monkeypatch.setenv("KIT_MIRROR", "https://files.example.edu/kit")
    checkpoints = weights.IMAGENET["resnet18"].path.parent
    for folder in (checkpoints, place / "data" / "decoded", place / "results" / "mini"):
        folder.mkdir(parents=True)
    (checkpoints / "resnet18.pth.part").write_bytes(bytes(1_200_000))
    (place / "results" / "mini" / ".record.json.abc.part").write_bytes(bytes(300_000))
    (place / "data" / "decoded" / "set.pixels").write_bytes(bytes(2_500_000))
    assert cli.main(["check"]) == 0
    said = capsys.readouterr().out
    assert "[ok]      1.2 MB of resnet18.pth are kept of a download" in said
    assert "files that were not finished: 1, 0.3 MB" in said
    assert "2.5 MB of decoded pictures" in said
    assert "downloads ask KIT_MIRROR first: https://files.example.edu/kit" in said


def test_check_finds_damaged_flowers(place, monkeypatch, capsys):
    folder = place / "data" / "flowers-102"
    for number in (1, 2):
        write_picture(folder / "jpg" / f"image_{number:05d}.jpg", seed=number)
    hashes = {}
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        (folder / name).write_bytes(name.encode())
        hashes[key] = (name, hashlib.md5(name.encode()).hexdigest())
    monkeypatch.setattr(flowers, "NUM_PICTURES", 2)
    monkeypatch.setattr("torchvision.datasets.Flowers102._file_dict", hashes)
    cli.main(["check"])
    assert "[ok]      Flowers102: complete" in capsys.readouterr().out
    picture = folder / "jpg" / "image_00002.jpg"
    picture.write_bytes(picture.read_bytes()[:-200])
    cli.main(["check"])
    said = capsys.readouterr().out
    assert "damaged files: 1, such as image_00002.jpg; to replace them, run `python" in said
    (folder / "setid.mat").write_bytes(b"other")
    cli.main(["check"])
    assert "damaged files: 2, such as setid.mat" in capsys.readouterr().out


def test_check_looks_at_a_folder_of_ones_own(place, capsys):
    folder = write_class_folders(place / "data" / "mine", {"a": 5, "b": 5})
    (folder / "a" / "empty.jpg").touch()
    assert cli.main(["check", "--dataset", "mine"]) == 0
    said = capsys.readouterr().out
    assert "[problem] left out of mine: a/empty.jpg (no picture that can be read, or empty)" in said
    assert "[ok]      mine: 10 pictures of 2 classes can be used" in said
    assert cli.main(["check", "--dataset", "yours"]) == 0
    assert "[problem] no data set 'yours': use one of" in capsys.readouterr().out
    assert cli.main(["check", "--dataset", "Flowers102"]) == 0
    assert "[ok]      Flowers102 (drawn): 720 pictures of 12" in capsys.readouterr().out
