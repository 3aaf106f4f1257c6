"""The benchmarks: they count, take turns and report rightly. Their speed is not tested."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import models

import benchmarks.__main__ as cli
from benchmarks import cases, kit_way, measure, plan, report, rows, sides, tutorial_way
from benchmarks.cases import CASES
from benchmarks.plan import Bench, Plan
from benchmarks.report import Report, Row, markdown, plot_ratios, read_report
from coursekit.train.networks import bn_cnn
from helpers.errors import KitError
from helpers.lib import picture_store
from helpers.training import TrainingRun

CPU = torch.device("cpu")
MACHINE = {
    "processor": "Abacus 9", "cores": 2, "threads": 2, "memory_gb": 8.0, "busy_percent": 1.0,
    "device": "cpu", "device_name": "abacus", "system": "Linux", "python": "3.11", "torch": "2.7",
    "torchvision": "0.22", "precision": "bfloat16", "seed": 0, "date": "2026-01-02T03:04:05+00:00",
}  # fmt: skip
FASTER = Row("extractor", "to the end", "the tutorial way", 1234.5, 12.3, "s", 100.4, "run", aim=30)
SLOWER = Row("start", "import", "torch", 1.5, 3.0, "s", 2.0, "timed", aim=1.5, lower_is_better=True)


@pytest.fixture
def bench(workspace, picture_folder, monkeypatch) -> Bench:
    """A quick bench on three class folders of tiny pictures, without loader workers."""
    monkeypatch.setattr(tutorial_way, "NUM_WORKERS", 0)
    return Bench(workspace, Plan("mini", dataset=str(picture_folder), quick=True, rounds=1))


def made_report(*rows: Row, **plan_options) -> Report:
    return Report(dict(MACHINE), dataclasses.asdict(Plan("full", **plan_options)), list(rows))


def made_run(*val_accuracies: float) -> TrainingRun:
    """A run whose epochs take 10 s each."""
    seconds = {"training_seconds": 6.0, "loading_seconds": 1.0, "evaluation_seconds": 3.0}
    history = [{"val_accuracy": accuracy, **seconds} for accuracy in val_accuracies]
    best = max(val_accuracies)
    return TrainingRun(history, 4.6, val_accuracies.index(best) + 1, best, len(history), {})


# Measuring


def test_training_is_six_operations_for_each_multiply_accumulate():
    with torch.device("meta"):  # shapes alone: nothing is computed
        resnet = models.resnet18()
    assert measure.training_flops(resnet, 224) == 6 * 1_814_073_344


def test_sides_take_turns_and_the_first_round_warms_up(capsys):
    now, order = [0.0], []

    def side(name: str, seconds: float):
        def run() -> str:
            print("noise of a side")
            order.append(name)
            now[0] += seconds * len(order)
            return f"{name}{len(order)}"

        return run

    laps = measure.in_turn({"a": side("a", 1), "b": side("b", 10)}, rounds=2, clock=lambda: now[0])
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [lap.seconds for lap in laps["a"]] == [4, 5]
    assert [lap.value for lap in laps["b"]] == ["b3", "b6"]
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 6
    assert "noise" not in printed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not keep this number")
def test_peak_memory_is_that_of_the_largest_process():
    small = measure.peak_memory_of([sys.executable, "-c", "pass"])
    start = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', os.environ['IT']])"
    large = measure.peak_memory_of([sys.executable, "-c", start], IT="block = b'x' * 400_000_000")
    assert small < 100_000_000
    assert 390_000_000 < large - small < 500_000_000


@pytest.mark.parametrize("code", ["raise ValueError('bad luck')", "import sys; sys.exit(3)", ""])
def test_a_process_that_fails_is_one_line(code):
    with pytest.raises(KitError, match=r"a process of the benchmark failed: .+") as error:
        measure.fresh_process(code)
    assert len(str(error.value).splitlines()) == 1


def test_the_machine_is_named(workspace):
    facts = measure.machine_facts(workspace)
    assert set(facts) == set(MACHINE)
    assert facts["processor"]
    assert facts["cores"] >= 1


# The report


def test_the_table():
    text = markdown(made_report(FASTER, SLOWER))
    line = "| extractor: to the end | the tutorial way | 1,234 s | 12.3 s | **100** | at least 30 |"
    assert line in text
    assert "| start: import | torch | 1.50 s | 3.00 s | **2.00** | at most 1.5: missed |" in text
    assert "Abacus 9 (2 cores" in text
    assert "- extractor: run\n" in text
    assert "BUSY" not in text
    assert "QUICK" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {7}


def test_what_spoils_a_measurement_is_said():
    busy = made_report(FASTER, quick=True)
    busy.machine["busy_percent"] = 60.0
    busy.failures["b5"] = "no memory"
    text = markdown(busy)
    assert "60 % BUSY" in text
    assert "QUICK RUN" in text
    assert "b5: NOT MEASURED: no memory" in text
    assert busy.stem.startswith("quick-")


def test_results_are_read_as_they_were_written(tmp_path):
    row = dataclasses.replace(FASTER, details={"epochs": [1.5, 2.5], "text": "é"})
    written = made_report(row, SLOWER)
    written.failures["b5"] = "no memory"
    path = written.write(tmp_path / "new" / "folder")
    assert read_report(path) == written
    with pytest.raises(KitError, match="NaN"):
        made_report(dataclasses.replace(FASTER, ratio=math.nan)).write(path.parent)
    assert read_report(path) == written


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 9}', '{"schema": 1}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "some.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KitError, match=r"some\.json holds no results of this benchmark"):
        read_report(path)


def test_the_figure_has_a_bar_a_row(tmp_path):
    fraction = dataclasses.replace(FASTER, case="rate", ratio=0.5, aim=0.7)
    made = made_report(FASTER, fraction, SLOWER)
    axis = plot_ratios(made).axes[0]
    assert axis.get_xscale() == "log"
    ends = [bar.get_x() + bar.get_width() for bar in axis.patches]
    assert sorted(ends) == pytest.approx([0.5, 2.0, 100.4])
    assert {bar.get_x() for bar in axis.patches} == {1}
    assert made.write_figure(tmp_path).read_bytes().startswith(b"\x89PNG")


@given(st.floats(1e-6, 1e9))
def test_numbers_keep_three_digits(value):
    text = report.number(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)


# The two ways


def test_the_tutorial_way_trains_as_published(bench, data, cnn):
    before = {name: value.clone() for name, value in cnn.named_parameters()}
    train = tutorial_way.prepare(cnn, data, CPU, size=16)
    _, _, optimizer, scheduler, dataloaders, _ = train.args
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.001, 0.9)
    assert (scheduler.step_size, scheduler.gamma) == (7, 0.1)
    assert {loader.batch_size for loader in dataloaders.values()} == {4}
    assert tutorial_way.NUM_EPOCHS == 25
    history = train(2)
    assert [row["epoch"] for row in history] == [1, 2]
    assert all(math.isfinite(value) for row in history for value in row.values())
    assert not any(torch.equal(before[name], p) for name, p in cnn.named_parameters())


def test_both_sides_see_the_same_pictures(bench, data):
    loaders = tutorial_way.make_dataloaders(data, 16)
    for phase, loader in loaders.items():
        samples = data.dataloaders[phase].dataset
        assert loader.dataset.paths == samples.paths
        assert loader.dataset.labels == samples.targets.tolist()
    image, label = loaders["val"].dataset[5]
    expected, expected_label = data.val.dataset[5]
    assert label == expected_label
    assert (image - expected).abs().mean() < 0.2  # scaled by two roundings


def test_frozen_is_frozen_as_in_the_tutorial():
    weights = models.resnet18(num_classes=7).state_dict()
    model = tutorial_way.resnet18(weights, 5, frozen=True)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable == ["fc.weight", "fc.bias"]
    assert torch.equal(model.conv1.weight, weights["conv1.weight"])
    moving = model.bn1.running_mean.clone()
    model.train()(torch.rand(4, 3, 32, 32))
    assert not torch.equal(model.bn1.running_mean, moving)  # the fault that is kept


def test_seconds_until_an_accuracy():
    run = made_run(0.2, 0.5, 0.5, 0.9)  # 40 s of epochs, and 7 s before them
    reached = [kit_way.seconds_until(run, accuracy, 47.0) for accuracy in (0.2, 0.5, 0.9, 0.91)]
    assert reached == [17.0, 27.0, 47.0, None]


def test_nothing_is_decoded_beforehand(bench, monkeypatch):
    monkeypatch.setattr(picture_store, "IN_MEMORY", 0)
    monkeypatch.setattr(picture_store, "SPARE_DISK", 0)
    usual = bench.workspace.decoded_dir

    def first_picture(fresh: Bench) -> list[Path]:
        data = fresh.data(fresh.recipe("resnet18_finetune"))
        before = list(usual.rglob("*.pixels"))
        next(iter(data.train))
        return [path for path in usual.rglob("*.pixels") if path not in before]

    for _ in range(2):  # each time anew, and nothing stays
        assert len(sides.from_files(first_picture, bench)()) == 1
        assert not list(usual.rglob("*.pixels"))


# The cases


def test_each_case_is_described(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    readme = (Path(cases.__file__).parent / "README.md").read_text(encoding="utf-8")
    for name, case in CASES.items():
        assert case.__doc__ in shown
        assert f"| `{name}` |" in readme


def test_the_extractor_is_compared_with_25_epochs(bench):
    one, two = cases.extractor(bench)
    for row in (one, two):
        assert row.theirs == pytest.approx(25 * row.details["tutorial_epoch_seconds"])
        assert row.ratio == pytest.approx(row.theirs / row.kit)
        assert "TIMES 25" in row.how


def test_fine_tuning_is_compared_by_pictures_a_second(bench):
    (row,) = cases.finetune(bench)
    assert row.ratio == pytest.approx(row.kit / row.theirs)
    (theirs,) = row.details["tutorial_epochs"]
    assert row.theirs == pytest.approx(36 / theirs["train_seconds"])


def test_an_accuracy_that_is_not_reached_is_said():
    arguments = ("x", "y", "z", 100.0, made_run(0.2, 0.3), 25.0)
    row = rows.time_row(*arguments, accuracy=0.2, aim=1, how="w")
    assert (row.kit, row.ratio) == pytest.approx((15.0, 100 / 15))
    with pytest.raises(KitError, match=r"did not reach 35.6% val: its best was 30.0%"):
        rows.time_row(*arguments, accuracy=0.356, aim=1, how="w")


def test_the_curve_of_the_tutorial_is_recorded_and_read(bench, data, cnn, tmp_path, monkeypatch):
    monkeypatch.setattr(sides, "CURVES", tmp_path)
    history = [
        {"epoch": number, "val_accuracy": accuracy, "train_seconds": 6.0, "val_seconds": 4.0}
        for number, accuracy in enumerate((0.1, 0.7, 0.7), start=1)
    ]
    monkeypatch.setattr(sides, "tutorial_resnet18", lambda *_, **__: lambda: history)

    def curve(**options) -> dict | None:
        plan = dataclasses.replace(bench.plan, quick=False, **options)
        return sides.tutorial_curve(Bench(bench.workspace, plan), "finetune", data, cnn)

    monkeypatch.setattr(Bench, "weights", "these")
    assert curve() is None
    assert curve(in_full=True)["seconds"] == 30
    read = curve()
    assert rows.best(read) == {"epoch": 2, "val_accuracy": 0.7}
    assert rows.tutorial_seconds(bench, read, 4.0, 2)[0] == 8.0
    monkeypatch.setattr(Bench, "weights", "others")
    assert curve() is None


def test_outputs_must_agree(bench, cnn):
    images = torch.rand(2, 3, 16, 16)
    torch.manual_seed(1)
    other = bn_cnn(3, widths=(8, 16))
    assert sides.largest_difference(bench, cnn, cnn, images) < 1e-4
    with pytest.raises(KitError, match="the two ways to run B5 differ"):
        sides.largest_difference(bench, cnn, other, images)


# The command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "speed"], "no case 'speed': use one or more of extractor, finetune, "),
        (["--rounds", "0"], "--rounds 0: use at least 1"),
        (["--quick", "--in-full"], "--quick and --in-full exclude each other"),
        (["--data", "nowhere"], "--data nowhere is no folder"),
        ([], "the benchmark needs Flowers102, and the profile is mini (set by KIT_PROFILE)"),
        (["--show", "nowhere.json"], "nowhere.json holds no results of this benchmark"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KIT_PROFILE", "mini")
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_a_failing_case_does_not_stop_the_others(picture_folder, tmp_path, capsys, monkeypatch):
    def fails(bench):
        """one row, then no more"""
        yield FASTER
        raise KitError("out of flowers")

    def works(bench):
        """a row"""
        yield SLOWER

    monkeypatch.setattr(plan, "few_pictures", lambda *_, **__: picture_folder)
    monkeypatch.setattr(cli, "CASES", {"fails": fails, "works": works})
    assert cli.main(["--quick", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.err == "error: fails: out of flowers\n"
    assert "NOT MEASURED: out of flowers" in shown.out
    (path,) = tmp_path.glob("*.json")
    written = read_report(path)
    assert [row.case for row in written.rows] == ["extractor", "start"]
    assert {row.aim for row in written.rows} == {None}  # quick
    assert written.plan["rounds"] == plan.QUICK_ROUNDS < plan.ROUNDS
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert cli.main(["--show", str(path), "--out", str(tmp_path)]) == 0
    assert markdown(written) in capsys.readouterr().out
