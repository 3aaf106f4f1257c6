"""What conftest.py promises: results of its own, an order, no hanging, no silent omission."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tools.nested import run_pytest

NOT_RUN = "notebooks were not run: use `pytest --nbval-lax`"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A run over three notebooks, one of which kills its kernel."""
    folder = tmp_path_factory.mktemp("kit")
    (folder / "students").mkdir()
    environment_cell = (
        "import os, pathlib\n"
        "results = pathlib.Path(os.environ['KIT_RESULTS'])\n"
        "assert os.environ['KIT_PROFILE'] == 'mini'\n"
        "assert os.environ['KIT_DATA'] == 'where my data is'\n"
        "assert 'inline' in os.environ['MPLBACKEND']\n"
        "(results / 'written').touch()\n"
        f"pathlib.Path({str(folder / 'place')!r}).write_text(str(results))"
    )
    notebooks = {
        "01_environment": [environment_cell],
        "06_comparison": ["x = 1", "x + 1"],
        "10_dead": ["x = 1", "import os; os._exit(1)", "x", "x"],
    }
    inherited = {
        "KIT_RESULTS": str(folder / "students"),
        "KIT_PROFILE": "full",
        "KIT_DATA": "where my data is",
    }
    started = time.monotonic()
    done = run_pytest(folder, notebooks, "-v", "--nbval-lax", "notebooks", "tests", **inherited)
    return folder, done.stdout + done.stderr, time.monotonic() - started


def test_kernels_get_the_mini_profile_and_results_of_their_own(session):
    folder, printed, _ = session
    assert re.search(r"01_environment\S*::Cell 0 PASSED", printed)
    assert list((folder / "students").iterdir()) == []
    place = Path((folder / "place").read_text())
    assert place.is_absolute() and place != folder / "students"
    assert not place.exists()  # removed at the end


def test_a_dead_kernel_is_noticed_at_once(session):
    _, printed, seconds = session
    assert seconds < 60  # the time-out of a single cell is 180
    outcomes = re.findall(r"10_dead\S*::Cell (\d) ([A-Z]+)", printed)
    assert outcomes[:4] == [("0", "PASSED"), ("1", "FAILED"), ("2", "FAILED"), ("3", "FAILED")]
    assert "the kernel died" in printed


def test_the_comparison_is_last_and_notebooks_are_whole(session):
    _, printed, _ = session
    order = re.findall(r"^\w+/(\w+)\S*::(Cell \d|test_one) [A-Z]+", printed, re.MULTILINE)
    assert order == [
        ("01_environment", "Cell 0"),
        *[("10_dead", f"Cell {number}") for number in range(4)],
        ("test_one", "test_one"),
        ("06_comparison", "Cell 0"),
        ("06_comparison", "Cell 1"),
    ]
    assert NOT_RUN not in printed


def test_a_run_without_notebooks_says_so(tmp_path):
    done = run_pytest(tmp_path, {"01_a": ["1 / 0"]}, "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines().count(NOT_RUN) == 1


def test_files_side_by_side_share_results_and_stay_whole(tmp_path):
    """Each notebook in one process, with one thread; what one writes, the others find."""
    note = f"open({str(tmp_path)!r} + '/' + NAME, 'w').write(' '.join(map(os.environ.get, WHAT)))"
    setup = "import os\nNAME, WHAT = {!r}, ('OMP_NUM_THREADS', 'KIT_RESULTS')"
    notebooks = {name: [setup.format(name), note] for name in ("01_a", "02_b")}
    options = ("--nbval-lax", "-n", "2", "notebooks")
    done = run_pytest(tmp_path, notebooks, *options, OMP_NUM_THREADS="7")
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = ((tmp_path / name).read_text().split() for name in notebooks)
    assert one == other and one[0] == "1"
    assert not Path(one[1]).exists()  # removed at the end
