"""The fault laboratory: runs begin alike, and an alarm rings with its fault and only then."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from tiny import vector_data
from torch import nn
from torch.optim import lr_scheduler

from coursekit.handin.release import edition_faults, student_edition
from helpers import FaultLab, count_parameters, plot_faults, train_one_epoch
from helpers.errors import KitError

NAME = "11_fault_laboratory.ipynb"
PATH = Path(__file__).resolve().parents[1] / "notebooks" / "extensions" / NAME


def wrong_by(points: float):
    """An experiment whose fault adds that many points to 50."""
    return lambda faulty: {"accuracy (%)": 50 + points * faulty, "pictures": 1200, "hidden": [1]}


def near_fifty(result):
    assert abs(result["accuracy (%)"] - 50) < 1, f"{result['accuracy (%)']:.0f} is far from 50"


@pytest.fixture
def lab() -> FaultLab:
    return FaultLab(seed=3)


# Both ways


def test_both_runs_are_shown_with_what_the_alarm_said(lab, capsys):
    faulty, right = lab.compare("1 a fault", wrong_by(8.25), near_fifty)
    assert (faulty["accuracy (%)"], right["accuracy (%)"]) == (58.25, 50)
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["1 a fault", "with the fault", "without it"]
    assert re.split(r"\s{2,}", lines[2]) == ["accuracy (%)", "58.25", "50.00"]
    assert re.split(r"\s{2,}", lines[3]) == ["pictures", "1,200", "1,200"]
    assert re.split(r"\s{2,}", lines[4]) == ["the alarm", "RINGS", "is silent"]
    assert lines[5:] == ["it says: 58 is far from 50"]


def test_an_alarm_that_cannot_notice_its_fault_is_refused(lab):
    with pytest.raises(KitError, match="1 a fault: the alarm is silent although the fault is"):
        lab.compare("1 a fault", wrong_by(0.5), near_fifty)
    assert not lab.findings


def test_an_alarm_that_always_rings_is_refused(lab):
    def never(result):
        raise AssertionError

    with pytest.raises(KitError, match=r"goes off without the fault, too \(something is wrong\)"):
        lab.compare("1 a fault", wrong_by(8), never)


def test_an_error_of_the_experiment_or_the_alarm_is_no_alarm(lab):
    with pytest.raises(KeyError, match="loss"):
        lab.compare("1 a fault", wrong_by(8), lambda result: result["loss"])
    with pytest.raises(ZeroDivisionError):
        lab.compare("1 a fault", lambda faulty: {"x": 1 / 0}, near_fifty)


def test_a_result_without_anything_to_show_is_refused(lab):
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


# Bets


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
    lab.summary()
    assert capsys.readouterr().out.splitlines()[-1] == f"1 a fault: {told}"


def test_a_text_can_be_bet_on(lab, capsys):
    lab.compare(
        "7 unit",
        lambda faulty: {"line": "0.91%" if faulty else "91%", "accuracy (%)": 50 + faulty * 8},
        near_fifty,
        bet="0.91%",
    )
    assert capsys.readouterr().out.endswith("you bet 0.91%, it is 0.91%\n")


# All of them


def test_summary_has_each_fault_once_with_its_last_result(lab, capsys):
    lab.compare("1 a fault", wrong_by(20), near_fifty)
    lab.compare("2 another", wrong_by(-7.5), near_fifty)
    lab.compare("1 a fault", wrong_by(30), near_fifty)
    capsys.readouterr()
    lab.summary(note="drawings")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["Fault", "What", "was", "measured", "With", "Without"]
    assert [re.split(r"\s{2,}", lines[place]) for place in (2, 4)] == [
        ["1 a fault", "accuracy (%)", "80", "50"],
        ["2 another", "accuracy (%)", "42.50", "50.00"],
    ]
    assert [lines[place].strip() for place in (3, 5)] == [
        "alarm: 80 is far from 50",
        "alarm: 42 is far from 50",
    ]
    assert lines[6:] == ["(drawings)"]


def test_the_wall_shows_both_numbers_of_each_fault(lab):
    lab.compare("1 a fault", wrong_by(20), near_fifty)
    lab.compare("2 halved", wrong_by(-25), near_fifty)
    lab.compare(
        "3 a unit",
        lambda faulty: {"line": "0.9%" if faulty else "90%", "accuracy (%)": 50 + faulty * 8},
        near_fifty,
    )
    lab.compare(
        "4 from nothing",
        lambda faulty: {"moved": int(faulty), "accuracy (%)": 50 + faulty * 8},
        near_fifty,
    )
    figure = plot_faults(lab.findings, note="drawings")
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.patches}
    assert list(panels) == ["1 a fault", "2 halved", "3 a unit", "4 from nothing"]
    lengths = [[bar.get_width() for bar in axis.patches] for axis in panels.values()]
    assert lengths == [[1, 50 / 70], [0.5, 1], [0, 0], [1, 0]]
    texts = {name: [text.get_text() for text in axis.texts] for name, axis in panels.items()}
    assert texts["1 a fault"] == ["accuracy (%)", "70", "50"]
    assert texts["3 a unit"] == ["line", "0.9%", "90%"]
    assert "drawings" in figure._supxlabel.get_text()


def test_listening_names_the_alarms_that_ring(lab, capsys):
    def any_pictures(result):
        assert result["pictures"], "no pictures"

    result = wrong_by(9)(True)
    assert lab.listen(result, [near_fifty, any_pictures]) == ["near_fifty"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["near_fifty", "RINGS: 59 is far from 50"],
        ["any_pictures", "silent"],
    ]
    assert lab.listen(result, []) == []


# The plain loop


def test_the_plain_loop_learns_and_moves_the_schedule_batch_by_batch():
    data = vector_data()
    model = nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 3)).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = lr_scheduler.StepLR(optimizer, len(data.train), gamma=0.9)
    losses = [train_one_epoch(model, data.train, optimizer, schedule) for _ in range(10)]
    assert losses[-1] < losses[0] / 2
    assert model.training
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**10)


def test_the_mean_loss_is_over_samples():
    """Batches of 6 and 2: the mean of their means would be another number."""
    model, (vectors, labels) = nn.Linear(6, 3), (torch.randn(8, 6), torch.arange(8) % 3)
    batches = [(vectors[:6], labels[:6]), (vectors[6:], labels[6:])]
    loss = train_one_epoch(model, batches, torch.optim.SGD(model.parameters(), lr=0.0))
    wanted = nn.functional.cross_entropy(model(vectors), labels)
    assert loss == pytest.approx(wanted.item(), rel=1e-5)


# The alarms of the notebook


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(PATH, as_version=4)


@pytest.fixture(scope="module")
def alarms(notebook) -> dict:
    """The functions of the notebook by their names, with what the alarms need around them."""
    place = {
        "math": math,
        "re": re,
        "torch": torch,
        "count_parameters": count_parameters,
        "pretrained": nn.Linear(9, 10),
        "data": SimpleNamespace(num_classes=12, sizes={"train": 120}),
    }
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for node in (node for source in sources for node in ast.parse(source).body):
        if isinstance(node, ast.FunctionDef):
            exec(ast.unparse(node), place)
    return place


RATES = {"faulty": {e: 0.1 ** (e // 7) for e in range(25)}, "right": {e: 25 - e for e in range(25)}}
A_SCORE = {"correct": 450, "of": 480}
CASES = {  # alarm: a result with the fault, one without it
    "chosen_by_others": (
        {"chosen by": ["a", "b"], "counted on": ["b"], "pictures counted": 1},
        {"chosen by": ["a", "b"], "counted on": ["c"], "pictures counted": 1},
    ),
    "first_loss_fits": ({"first loss (nats)": 6.29}, {"first loss (nats)": 2.6}),
    "nothing_frozen_moves": ({"moved": ["bn1.running_mean"]}, {"moved": []}),
    "each_picture_once": (
        {"pictures through the network": 1200},
        {"pictures through the network": 120},
    ),
    "within_the_budget": ({"parameters": 101}, {"parameters": 100}),
    "one_answer_each": ({"answers": 480, "pictures": 120}, {"answers": 120, "pictures": 120}),
    "all_epochs_seen": (
        {"epochs run": 9, "epochs asked for": 10, "last epoch evaluated": 9},
        {"epochs run": 10, "epochs asked for": 10, "last epoch evaluated": 10},
    ),
    "percent_of_counts": (
        {"log line": "Accuracy: 0.9375%", **A_SCORE},
        {"log line": "Accuracy: 93.75%", **A_SCORE},
    ),
    "counts_pictures": (
        {"reported accuracy (%)": 93.8, **A_SCORE},
        {"reported accuracy (%)": 93.75, **A_SCORE},
    ),
    "knows_something": (
        {"weights": torch.ones(2), "weights again": torch.zeros(2)},
        {"weights": torch.ones(2), "weights again": torch.ones(2)},
    ),
    "equal_epochs": ({"epochs": {"A": 99, "B": 25}}, {"epochs": {"A": 1, "B": 1}}),
    "rate_lasts": ({"rates": RATES["faulty"]}, {"rates": RATES["right"]}),
    "holds_again": (
        {"runs": [88.0, *range(80, 89)], "claim": (88.0, 0.005)},
        {"runs": [88.0, *range(80, 89)], "claim": (84.4, 6.0)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_alarm_rings_with_its_fault_and_only_then(alarms, name):
    faulty, right = CASES[name]
    alarms[name](right)
    with pytest.raises(AssertionError, match=r"\d|random|frozen"):
        alarms[name](faulty)


def test_an_evaluation_that_ends_too_soon_rings_too(alarms):
    with pytest.raises(AssertionError, match="10 epochs wanted, 10 ran, the last one seen is 6"):
        alarms["all_epochs_seen"](
            {"epochs run": 10, "epochs asked for": 10, "last epoch evaluated": 6}
        )


def test_the_notebook_has_all_eleven_faults_and_the_alarm_of_each(notebook, alarms):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    compared = [
        node.args
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "compare"
    ]
    numbers = [title.value.partition(" ")[0] for title, _, _ in compared]
    assert numbers == ["1", "2", "3", "4", "5", "5b", "6", "7", "7b", "8", "9", "10", "11"]
    used = [alarm.id for _, _, alarm in compared]
    assert used == list(CASES)
    assert set(used) <= alarms.keys()


def test_students_get_it_without_its_answers(notebook):
    edition = student_edition(NAME, notebook)
    assert edition_faults(NAME, notebook, edition) == []
    sources = "\n".join(cell.source for cell in edition.cells)
    assert "def handed_in" in sources
    assert "def mended" not in sources
    assert "Model answer" not in sources
