"""The fault laboratory: runs begin alike, and an alarm rings with its fault and only then."""

from __future__ import annotations

import ast
import re

import nbformat
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from coursekit.handin.release import edition_faults, student_edition
from coursekit.notebooks import extension_paths
from helpers import KitError
from lib import FaultLab, plot_claims, plot_faults, train_one_epoch
from tools.tiny import vector_data

PATH = extension_paths()["11_fault_laboratory"]


def wrong_by(points: float):
    """An experiment whose fault adds that many points to 50."""
    return lambda faulty: {"accuracy (%)": 50 + points * faulty, "pictures": 1200, "hidden": [1]}


def near_fifty(result):
    assert abs(result["accuracy (%)"] - 50) < 1, f"{result['accuracy (%)']:.0f} is far from 50"


def always(result):
    raise AssertionError


@pytest.fixture
def lab() -> FaultLab:
    return FaultLab(seed=3)


def test_both_runs_are_shown_with_what_the_alarm_said(lab, capsys):
    faulty, right = lab.compare("1 a fault", wrong_by(8.25), near_fifty)
    assert (faulty["accuracy (%)"], right["accuracy (%)"]) == (58.25, 50)
    *table, said = capsys.readouterr().out.splitlines()
    assert [re.split(r"\s{2,}", line) for line in table if "---" not in line] == [
        ["1 a fault", "with the fault", "without it"],
        ["accuracy (%)", "58.25", "50.00"],
        ["pictures", "1,200", "1,200"],
        ["the alarm", "RINGS", "is silent"],
    ]
    assert said == "it says: 58 is far from 50"


@pytest.mark.parametrize(
    ("points", "alarm", "said"),
    [
        (0.5, near_fifty, "1 a fault: the alarm is silent although the fault is there"),
        (8, always, r"goes off without the fault, too \(something is wrong\)"),
    ],
)
def test_alarms_that_do_not_tell_the_two_apart_are_refused(lab, points, alarm, said):
    with pytest.raises(KitError, match=said):
        lab.compare("1 a fault", wrong_by(points), alarm)
    assert not lab.findings


def test_errors_are_no_alarms_and_something_must_be_measured(lab):
    with pytest.raises(KeyError, match="loss"):
        lab.compare("1 a fault", wrong_by(8), lambda result: result["loss"])
    with pytest.raises(KitError, match="nothing that can be shown: rows, scores"):
        lab.compare("1 a fault", lambda faulty: {"rows": [faulty], "scores": ()}, near_fifty)


def test_both_runs_begin_alike(lab):
    data, other, seen = lab.add(vector_data()), lab.add(vector_data()), []

    def experiment(faulty):
        batches = [labels for loader in (data.train, other.train) for _, labels in loader]
        seen.append((torch.rand(4), nn.Linear(3, 2).weight, *batches))
        return {"accuracy (%)": 90 if faulty else 50}

    torch.rand(7)
    list(data.train)  # somebody has drawn before
    lab.compare("1 a fault", experiment, near_fifty)
    assert len(seen[0]) > 10
    assert all(torch.equal(one, two) for one, two in zip(*seen, strict=True))


@pytest.mark.parametrize(
    ("bet", "told"),
    [
        (60, "you bet 60, it is 58.25: 1.75 off"),
        (0, "you bet 0, it is 58.25: 58.2 off"),
        ("much more", "you bet much more, it is 58.25"),
    ],
)
def test_bets_are_told(lab, capsys, bet, told):
    lab.compare("1 a fault", wrong_by(8.25), near_fifty, bet=bet)
    assert capsys.readouterr().out.splitlines()[-1] == told


def test_the_wall_has_each_fault_once_with_its_last_result(lab):
    lab.compare("1 a fault", wrong_by(20), near_fifty)
    lab.compare("2 halved", wrong_by(-25), near_fifty)
    lab.compare(
        "3 a unit",
        lambda faulty: {"line": "0.9%" if faulty else "90%", "accuracy (%)": 50 + faulty * 8},
        near_fifty,
    )
    lab.compare("1 a fault", wrong_by(30), near_fifty)
    figure = plot_faults(lab.findings, note="drawings")
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.patches}
    lengths = {name: [bar.get_width() for bar in axis.patches] for name, axis in panels.items()}
    assert lengths == {"1 a fault": [1, 50 / 80], "2 halved": [0.5, 1], "3 a unit": [0, 0]}
    assert [text.get_text() for text in panels["3 a unit"].texts] == ["line", "0.9%", "90%"]


def test_claims_of_an_accuracy_are_bars_below_the_runs():
    claims = {"two decimals": (80.0, 0.01), "two deviations": (79.0, 3.0)}
    axis = plot_claims([78, 82, 80], claims, name="fresh runs", xlabel="accuracy (%)").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["fresh runs", *claims]
    runs, *bars = (line.get_xdata() for line in axis.lines)
    assert list(runs) == [78, 82, 80]
    assert [[*bar] for bar in bars[::2]] == [[79.99, 80.01], [76.0, 82.0]]


def test_listening_names_the_alarms_that_ring(lab, capsys):
    def any_pictures(result):
        assert result["pictures"], "no pictures"

    assert lab.listen(wrong_by(9)(True), [near_fifty, any_pictures]) == ["near_fifty"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["near_fifty", "RINGS: 59 is far from 50"],
        ["any_pictures", "silent"],
    ]


def test_the_plain_loop_learns_and_moves_the_schedule_batch_by_batch():
    data = vector_data()
    model = nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 3)).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = lr_scheduler.StepLR(optimizer, len(data.train), gamma=0.9)
    losses = [train_one_epoch(model, data.train, optimizer, schedule) for _ in range(10)]
    assert losses[-1] < losses[0] / 2
    assert model.training
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**10)


# The notebook


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(PATH, as_version=4)


def code_of(notebook: nbformat.NotebookNode) -> ast.Module:
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return ast.parse("\n".join(cells))


def test_the_notebook_has_all_eleven_faults_and_an_alarm_of_its_own_for_each(notebook):
    """That each rings with its fault, and only then, `lab.compare` sees to when they run."""
    compared = [
        node.args
        for node in ast.walk(code_of(notebook))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "compare"
    ]
    numbers = {title.value.partition(" ")[0] for title, _, _ in compared}
    assert numbers == {*map(str, range(1, 12)), "5b"}
    assert len({alarm.id for _, _, alarm in compared}) == len(compared) == 12


def test_students_get_it_without_its_answers(notebook):
    edition = student_edition(PATH.name, notebook)
    assert edition_faults(PATH.name, notebook, edition) == []
    sources = "\n".join(cell.source for cell in edition.cells)
    assert "def handed_in" in sources
    assert "def fixed" not in sources
    assert "Model answer" not in sources
