"""The benchmarks: they count, take turns and report rightly. Their speed is not tested."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import models

import benchmarks.__main__ as cli
import helpers
from benchmarks import cases, kit_way, measure, plan, report, tutorial_way
from benchmarks.cases import CASES
from benchmarks.plan import Bench, Plan
from benchmarks.report import Report, Row, markdown, plot_ratios, read_report
from helpers.errors import KitError
from helpers.lib import picture_store
from helpers.models import count_macs
from helpers.training import TrainingRun

CPU = torch.device("cpu")
MACHINE = {
    "processor": "Abacus 9",
    "cores": 2,
    "threads": 2,
    "memory_gb": 8.0,
    "busy_percent": 1.0,
    "device": "cpu",
    "device_name": "abacus",
    "system": "Linux",
    "python": "3.11",
    "torch": "2.7",
    "torchvision": "0.22",
    "precision": "bfloat16",
    "seed": 0,
    "date": "2026-01-02T03:04:05+00:00",
}
FASTER = Row("extractor", "to the end", "the tutorial way", 1234.5, 12.3, "s", 100.4, "run", aim=30)
SLOWER = Row("start", "import", "torch", 1.5, 3.0, "s", 2.0, "timed", aim=1.5, lower_is_better=True)


@pytest.fixture
def bench(workspace, picture_folder) -> Bench:
    """A quick bench on three class folders of tiny pictures."""
    return Bench(workspace, Plan("mini", dataset=str(picture_folder), quick=True, rounds=1))


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """No loader workers: a test has a few pictures."""
    monkeypatch.setattr(tutorial_way, "NUM_WORKERS", 0)


def made_report(*rows: Row, **plan_options) -> Report:
    return Report(dict(MACHINE), dataclasses.asdict(Plan("full", **plan_options)), list(rows))


def made_run(*val_accuracies: float, seconds: float = 10.0) -> TrainingRun:
    """A run whose epochs take `seconds` each."""
    history = [
        {
            "epoch": number,
            "val_accuracy": accuracy,
            "training_seconds": 0.6 * seconds,
            "loading_seconds": 0.1 * seconds,
            "evaluation_seconds": 0.3 * seconds,
        }
        for number, accuracy in enumerate(val_accuracies, start=1)
    ]
    best = max(val_accuracies)
    return TrainingRun(history, 4.6, val_accuracies.index(best) + 1, best, len(history), {})


def made_curve(*val_accuracies: float, **subject) -> dict:
    history = [
        {"epoch": number, "val_accuracy": accuracy, "train_seconds": 6.0, "val_seconds": 4.0}
        for number, accuracy in enumerate(val_accuracies, start=1)
    ]
    return {**subject, "machine": MACHINE, "seconds": 10.0 * len(history), "history": history}


class TestCounting:
    def test_training_is_six_operations_for_each_multiply_accumulate(self):
        with torch.device("meta"):  # shapes alone: nothing is computed
            resnet = models.resnet18()
        assert measure.training_flops(resnet, 224) == 6 * 1_814_073_344


class TestInTurn:
    def test_order_seconds_and_values(self, capsys):
        now, order = [0.0], []

        def side(name: str, seconds: float):
            def run() -> str:
                print("noise of a side")
                order.append(name)
                now[0] += seconds * len(order)
                return f"{name}{len(order)}"

            return run

        laps = measure.in_turn(
            {"a": side("a", 1), "b": side("b", 10)}, rounds=2, clock=lambda: now[0]
        )
        assert order == ["a", "b", "b", "a", "a", "b"]  # the first two warm up
        assert [lap.seconds for lap in laps["a"]] == [4, 5]
        assert [lap.seconds for lap in laps["b"]] == [30, 60]
        assert [lap.value for lap in laps["b"]] == ["b3", "b6"]
        printed = capsys.readouterr().out
        assert len(printed.splitlines()) == 6
        assert "noise" not in printed

    def test_matrix_rate_is_a_rate(self):
        for precision in (torch.float32, torch.bfloat16):
            rate = measure.matrix_rate(CPU, precision, side=32, least_seconds=0.01)
            assert 0 < rate < math.inf


class TestProcesses:
    @pytest.mark.parametrize(("everything", "other"), [(60.0, 10.0), (45.0, 0.0)])
    def test_own_work_is_no_other_work(self, everything, other, monkeypatch):
        used = iter([(1.0, 0.5, 0.0), (1.75, 0.75, 0.0)])  # a second, on one of two processors

        class OneOfTwo:
            cpu_times = staticmethod(lambda: next(used))

        monkeypatch.setattr(measure.psutil, "Process", OneOfTwo)
        monkeypatch.setattr(measure.psutil, "cpu_count", lambda: 2)
        monkeypatch.setattr(measure.psutil, "cpu_percent", lambda interval: everything)
        assert measure.busy_with_other_work() == other

    def test_peak_memory_sees_what_was_held_and_freed(self):
        grown = measure.fresh_process(
            "from benchmarks.measure import peak_memory\n"
            "before = peak_memory()\n"
            "block = b'x' * 400_000_000\n"
            "del block\n"
            "print(peak_memory() - before)"
        )
        assert 300_000_000 < int(grown) < 800_000_000

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows does not keep this number")
    def test_peak_memory_of_a_command_is_that_of_its_largest_process(self):
        small = measure.peak_memory_of([sys.executable, "-c", "pass"])
        start = (
            "import os, subprocess, sys; subprocess.run([sys.executable, '-c', os.environ['IT']])"
        )
        large = measure.peak_memory_of(
            [sys.executable, "-c", start], IT="block = b'x' * 400_000_000"
        )
        assert small < 100_000_000
        assert 390_000_000 < large - small < 500_000_000
        with pytest.raises(KitError, match="failed: what a pity"):
            measure.peak_memory_of([sys.executable, "-c", "raise SystemExit('what a pity')"])

    def test_the_last_line_counts(self):
        assert measure.fresh_process("import sys; print(1); print(sys.argv[1])", "é") == "é"

    @pytest.mark.parametrize("code", ["raise ValueError('bad luck')", "import sys; sys.exit(3)"])
    def test_failure_is_one_line(self, code):
        with pytest.raises(KitError, match=r"a process of the benchmark failed: .+") as error:
            measure.fresh_process(code)
        assert len(str(error.value).splitlines()) == 1

    def test_silence_is_a_failure(self):
        with pytest.raises(KitError, match="no message"):
            measure.fresh_process("pass")

    def test_answers_are_the_last_line(self, capsys, monkeypatch):
        monkeypatch.setitem(cases.TASKS, "echo", lambda plan: [plan.profile, plan.rounds])
        cases.answer("echo", json.dumps(dataclasses.asdict(Plan("mini", rounds=7))))
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == ["mini", 7]

    def test_the_machine_is_named(self, workspace):
        facts = measure.machine_facts(workspace)
        assert set(facts) == set(MACHINE)
        assert facts["processor"]
        assert facts["cores"] >= 1
        json.dumps(facts, allow_nan=False)


class TestReport:
    def test_table(self):
        text = markdown(made_report(FASTER, SLOWER))
        assert (
            "| extractor: to the end | the tutorial way | 1,234 s | 12.3 s | **100** "
            "| at least 30 |\n"
        ) in text
        assert (
            "| start: import | torch | 1.50 s | 3.00 s | **2.00** | at most 1.5: missed |" in text
        )
        assert "Abacus 9 (2 cores" in text
        assert "- extractor: run\n" in text
        assert "BUSY" not in text
        assert "QUICK" not in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {line.count("|") for line in rows} == {7}

    def test_what_spoils_a_measurement_is_said(self):
        busy = made_report(FASTER, quick=True)
        busy.machine["busy_percent"] = 60.0
        busy.failures["b5"] = "no memory"
        text = markdown(busy)
        assert "60 % BUSY" in text
        assert "QUICK RUN" in text
        assert "b5: NOT MEASURED: no memory" in text
        assert busy.stem.startswith("quick-")

    def test_json_round_trip(self, tmp_path):
        row = dataclasses.replace(FASTER, details={"epochs": [1.5, 2.5], "text": "é"})
        written = made_report(row, SLOWER)
        written.failures["b5"] = "no memory"
        path = written.write(tmp_path / "new" / "folder")
        assert read_report(path) == written
        assert [file.name for file in path.parent.iterdir()] == ["2026-01-02T030405.json"]

    def test_numbers_that_are_none_are_refused(self, tmp_path):
        good = made_report(FASTER)
        path = good.write(tmp_path)
        bad = made_report(dataclasses.replace(FASTER, ratio=math.nan))
        with pytest.raises(KitError, match="NaN"):
            bad.write(tmp_path)
        assert read_report(path) == good

    @pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"schema": 9}', '{"schema": 1}'])
    def test_other_files_are_refused(self, tmp_path, text):
        path = tmp_path / "some.json"
        if text is not None:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(KitError, match=r"some\.json holds no results of this benchmark"):
            read_report(path)

    def test_aims(self):
        assert FASTER.reaches_aim
        assert not SLOWER.reaches_aim
        assert not dataclasses.replace(FASTER, ratio=29.9).reaches_aim
        assert dataclasses.replace(SLOWER, ratio=1.5).reaches_aim
        assert dataclasses.replace(SLOWER, aim=None).reaches_aim

    def test_figure(self, tmp_path):
        share = dataclasses.replace(FASTER, case="rate", ratio=0.5, aim=0.7)
        made = made_report(FASTER, share, SLOWER)
        axis = plot_ratios(made).axes[0]
        assert axis.get_xscale() == "log"
        ends = [bar.get_x() + bar.get_width() for bar in axis.patches]
        assert sorted(ends) == pytest.approx([0.5, 2.0, 100.4])
        starts = {bar.get_x() for bar in axis.patches}
        assert starts == {1}
        assert {label.get_text().partition(":")[0] for label in axis.get_yticklabels()} == {
            "extractor", "rate", "start",
        }  # fmt: skip
        low, high = axis.get_xlim()
        assert low < 0.5
        assert high > 100.4
        png = made.write_figure(tmp_path)
        assert png.read_bytes().startswith(b"\x89PNG")

    @given(st.floats(1e-6, 1e9))
    def test_numbers_keep_three_digits(self, value):
        text = report.number(value)
        assert "e" not in text
        assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)

    def test_number_as_people_write_it(self):
        assert [report.number(value) for value in (0, 1234.5, 43.21, 2.5, 0.7941)] == [
            "0", "1,234", "43.2", "2.50", "0.794",
        ]  # fmt: skip


class TestTutorialWay:
    def test_it_trains(self, data, cnn):
        before = {name: value.clone() for name, value in cnn.named_parameters()}
        train = tutorial_way.prepare(cnn, data, CPU, size=16)
        history = train(2)
        assert [row["epoch"] for row in history] == [1, 2]
        for row in history:
            for phase in ("train", "val"):
                assert 0 <= row[f"{phase}_accuracy"] <= 1
                assert math.isfinite(row[f"{phase}_loss"])
                assert row[f"{phase}_seconds"] > 0
        assert not any(torch.equal(before[name], p) for name, p in cnn.named_parameters())

    def test_its_settings_are_the_published_ones(self, data, cnn):
        train = tutorial_way.prepare(cnn, data, CPU, size=16)
        _, criterion, optimizer, scheduler, dataloaders, _ = train.args
        assert isinstance(criterion, nn.CrossEntropyLoss)
        assert optimizer.defaults["lr"] == 0.001
        assert optimizer.defaults["momentum"] == 0.9
        assert (scheduler.step_size, scheduler.gamma) == (7, 0.1)
        assert {loader.batch_size for loader in dataloaders.values()} == {4}
        assert tutorial_way.NUM_EPOCHS == 25

    def test_both_sides_see_the_same_pictures(self, data):
        loaders = tutorial_way.make_dataloaders(data, 16)
        for phase, loader in loaders.items():
            samples = data.dataloaders[phase].dataset
            assert loader.dataset.paths == samples.paths
            assert loader.dataset.labels == samples.labels.tolist()
        image, label = loaders["val"].dataset[5]
        assert image.shape == (3, 16, 16)
        assert image.dtype == torch.float32
        expected = data.val.dataset.__getitems__([(5, 0)])
        assert label == int(expected[1])
        assert (image - expected[0][0]).abs().mean() < 0.2  # scaled by two roundings

    def test_loader_workers_can_be_sent_the_pictures(self, data):
        files = tutorial_way.make_dataloaders(data, 16)["train"].dataset
        again = pickle.loads(pickle.dumps(files))  # as on Windows and macOS
        assert len(again) == len(files)
        assert again[0][0].shape == (3, 16, 16)

    def test_frozen_is_frozen_as_in_the_tutorial(self):
        weights = models.resnet18(num_classes=7).state_dict()
        model = tutorial_way.resnet18(weights, 5, frozen=True)
        trainable = [name for name, p in model.named_parameters() if p.requires_grad]
        assert trainable == ["fc.weight", "fc.bias"]
        assert model.fc.out_features == 5
        assert torch.equal(model.conv1.weight, weights["conv1.weight"])
        moving = model.bn1.running_mean.clone()
        model.train()(torch.rand(4, 3, 32, 32))
        assert not torch.equal(model.bn1.running_mean, moving)  # the fault that is kept

    def test_it_is_never_given_weights_that_do_not_fit(self):
        with pytest.raises(RuntimeError):
            tutorial_way.resnet18(
                models.resnet34().state_dict() | {"conv1.weight": torch.ones(1)}, 5
            )


class TestKitWay:
    def test_test_is_out_of_the_way(self, data):
        few = kit_way.without_test(data, seed=0)
        assert few.sizes == {"train": 36, "val": 12, "test": 3}
        assert set(few.test.dataset.ids) <= set(data.val.dataset.ids)

    def test_seconds_until_an_accuracy(self):
        run = made_run(0.2, 0.5, 0.5, 0.9)  # 40 s of epochs, and 7 s before them
        assert kit_way.seconds_until(run, 0.2, 47.0) == 17.0
        assert kit_way.seconds_until(run, 0.5, 47.0) == 27.0
        assert kit_way.seconds_until(run, 0.9, 47.0) == 47.0
        assert kit_way.seconds_until(run, 0.91, 47.0) is None


class TestCases:
    def test_each_is_described(self, capsys):
        with pytest.raises(SystemExit) as end:
            cli.main(["--help"])
        assert end.value.code == 0
        shown = capsys.readouterr().out
        readme = (Path(cases.__file__).parent / "README.md").read_text(encoding="utf-8")
        for name, case in CASES.items():
            assert case.__doc__ in shown
            assert f"| `{name}` |" in readme

    def test_extractor(self, bench):
        one, four = cases.extractor(bench)
        for row in (one, four):
            assert row.theirs == pytest.approx(25 * row.details["tutorial_epoch_seconds"])
            assert row.ratio == pytest.approx(row.theirs / row.kit)
            assert "TIMES 25" in row.how
            assert row.details["val_accuracy"] is None

    def test_finetune(self, bench):
        (row,) = cases.finetune(bench)
        assert row.ratio == pytest.approx(row.kit / row.theirs)
        (theirs,) = row.details["tutorial_epochs"]
        assert row.theirs == pytest.approx(36 / theirs["train_seconds"])
        assert len(row.details["kit_epoch_seconds"]) == bench.plan.rounds

    def test_rate(self, bench, cnn, monkeypatch):
        monkeypatch.setattr(cases, "matrix_rate", lambda *_, **__: 1e9)
        monkeypatch.setattr(cases, "one_epoch", lambda *_, **__: lambda: made_run(0.5))
        monkeypatch.setattr(kit_way, "resnet18", lambda *_: cnn)
        (row,) = cases.rate(bench)
        flops = 6 * count_macs(cnn, 224)
        assert row.kit == pytest.approx(flops * 36 / 7 / 1e9)  # 7 of 10 s train and load
        assert row.ratio == pytest.approx(row.kit / row.theirs)

    def test_bn_cnn(self, bench, monkeypatch):
        small = helpers.bn_cnn(3, widths=(2, 2))
        monkeypatch.setattr(helpers, "newnet", lambda classes, device: small)
        (row,) = cases.bn_cnn(bench)
        (theirs,) = row.details["tutorial_epochs"]
        assert "val_seconds" not in theirs
        assert row.theirs == pytest.approx(36 / theirs["train_seconds"])

    def test_b5(self, bench, monkeypatch):
        def small(*_, **__) -> nn.Module:
            model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            model.add_module("_fc", nn.Linear(4, 3))
            return model

        def same(weights, num_classes) -> nn.Module:
            model = small()
            model.load_state_dict(weights)
            return model

        # In batches of 8, an epoch of these 36 pictures is too short for a rate to rise in.
        recipe = dataclasses.replace(bench.recipe("efficientnet_b5_finetune"), batch_size=16)
        monkeypatch.setattr(Bench, "recipe", lambda self, method: recipe)
        monkeypatch.setattr(tutorial_way, "efficientnet_b5", same)
        monkeypatch.setattr(helpers, "efficientnet_b5", small)
        (row,) = cases.b5(bench)
        assert row.details["largest_difference"] < cases.TOLERANCE
        assert row.ratio == pytest.approx(row.kit / row.theirs)
        assert "outputs of both ways differ by" in row.how

    def test_start(self, bench, monkeypatch):
        seconds = {"import torch, torchvision": 2.0, "import helpers; helpers.start()": 3.0}
        monkeypatch.setattr(cases, "seconds_of", seconds.__getitem__)
        (row,) = cases.start(bench)
        assert (row.theirs, row.kit, row.ratio, row.lower_is_better) == (2.0, 3.0, 1.5, True)

    def test_costs_asked_of_other_processes(self, bench, monkeypatch):
        answers = {"first_epochs": [6.0, 2.0, 3.0, 4.0], "tutorial_memory": 2e9, "kit_memory": 1e9}
        assert set(cases.TASKS) == set(answers)
        monkeypatch.setattr(cases, "ask", lambda bench, task: answers[task])
        (first,) = cases.first_epoch(bench)
        assert (first.theirs, first.kit, first.ratio) == (3.0, 6.0, 2.0)
        (memory,) = cases.memory(bench)
        assert (memory.theirs, memory.kit, memory.ratio) == (2.0, 1.0, 0.5)

    def test_the_largest_notebook_counts(self, bench, monkeypatch):
        asked = []

        def peak(command: list[str], **variables: str) -> int:
            asked.append(command[command.index("run") :])
            assert Path(variables["KIT_RESULTS"]).is_dir()  # not that of the student
            return {"05": 1.9e9}.get(command[-1], 1e9)

        monkeypatch.setattr(cases, "peak_memory_of", peak)
        plan = dataclasses.replace(bench.plan, quick=False)
        (row,) = cases.notebooks(Bench(bench.workspace, plan))
        assert asked[4] == ["run", "--profile", "mini", "--notebooks", "05"]
        assert len(row.details["peak_gb"]) == len(asked) == 6
        assert (row.theirs, row.kit, row.aim) == (2.0, 1.9, 1)
        assert "(05)" in row.what
        assert row.reaches_aim
        (quick,) = cases.notebooks(bench)
        assert set(quick.details["peak_gb"]) == {"01"}

    def test_speed_counts_training_and_loading(self, data):
        theirs = [{"train_seconds": 36.0, "val_seconds": 99.0}] * 3
        row = cases.speed_row("x", "y", data, theirs, [made_run(0.5)] * 3)
        assert (row.theirs, row.kit) == pytest.approx((1.0, 36 / 7))
        assert row.ratio == pytest.approx(36 / 7)

    def test_an_accuracy_that_is_not_reached_is_said(self):
        arguments = ("x", "y", "z", 100.0, made_run(0.2, 0.3), 25.0)
        row = cases.time_row(*arguments, accuracy=0.2, aim=1, how="w")
        assert (row.kit, row.ratio) == pytest.approx((15.0, 100 / 15))
        with pytest.raises(KitError, match=r"did not reach 35.6% val: its best was 30.0%"):
            cases.time_row(*arguments, accuracy=0.356, aim=1, how="w")

    def test_the_curve_is_recorded_and_read(self, bench, data, cnn, tmp_path, monkeypatch):
        monkeypatch.setattr(cases, "CURVES", tmp_path)
        history = made_curve(0.1, 0.7, 0.7)["history"]
        monkeypatch.setattr(cases, "tutorial_resnet18", lambda *_, **__: lambda: history)

        def curve(**options) -> dict | None:
            plan = dataclasses.replace(bench.plan, quick=False, **options)
            return cases.tutorial_curve(Bench(bench.workspace, plan), "finetune", data, cnn)

        assert curve() is None
        recorded = curve(in_full=True)
        assert recorded["seconds"] == 30
        read = curve()
        assert [set(row) for row in read["history"]] == [{"epoch", "val_accuracy"}] * 3
        assert cases.best(read) == {"epoch": 2, "val_accuracy": 0.7}
        cnn.weights_source = "others"
        assert curve() is None
        assert cases.tutorial_curve(bench, "finetune", data, cnn) is None  # a quick run

    def test_seconds_of_the_tutorial(self, bench):
        curve = made_curve(0.1, 0.7, 0.7)
        assert cases.best(curve)["epoch"] == 2
        seconds, how = cases.tutorial_seconds(bench, curve, 4.0, 2)
        assert seconds == 8.0
        assert "TIMES 2;" in how
        whole = Bench(bench.workspace, dataclasses.replace(bench.plan, in_full=True))
        assert cases.tutorial_seconds(whole, curve, 4.0, 2)[0] == 20.0
        assert cases.tutorial_seconds(whole, curve, 4.0, 3)[0] == 30.0

    def test_finetune_to_the_best_of_the_tutorial(self, bench, data, cnn, monkeypatch):
        monkeypatch.setattr(cases, "tutorial_curve", lambda *_, **__: made_curve(0.1, 0.3, 0.2))
        monkeypatch.setattr(kit_way, "finetune", lambda *_: made_run(0.2, 0.3))
        monkeypatch.setattr(kit_way, "resnet18", lambda *_: cnn)
        row = {"train_seconds": 3.0, "val_seconds": 1.0}
        monkeypatch.setattr(cases, "epochs_in_turn", lambda *_: ([row], [made_run(0.2)]))
        monkeypatch.setattr(cases, "tutorial_resnet18", lambda *_, **__: None)
        plan = dataclasses.replace(bench.plan, quick=False)
        _, whole, best = cases.finetune(Bench(bench.workspace, plan))
        assert (whole.theirs, best.theirs) == (12.0, 8.0)
        assert (whole.aim, best.aim) == (20, None)
        assert whole.kit == best.kit
        assert "3 epochs" in whole.against and "2 epochs to its best" in best.against

    def test_outputs_must_agree(self, bench, cnn):
        images = torch.rand(2, 3, 16, 16)
        torch.manual_seed(1)
        other = helpers.bn_cnn(3, widths=(8, 16))
        assert cases.largest_difference(bench, cnn, cnn, images) < 1e-4
        cnn(images).sum().backward()  # in float32 it can still be trained
        with pytest.raises(KitError, match="the two ways to run B5 differ"):
            cases.largest_difference(bench, cnn, other, images)


class TestCommandLine:
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
    def test_bad_input_is_one_line(self, arguments, message, tmp_path, capsys):
        assert cli.main([*arguments, "--out", str(tmp_path)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"error: {message}")
        assert not list(tmp_path.iterdir())

    def test_a_folder_without_flowers(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("KIT_DATA", "data")  # monkeypatch puts it back
        assert cli.main(["--data", str(tmp_path)]) == 2
        assert "holds none of it" in capsys.readouterr().err

    @pytest.fixture
    def quick(self, picture_folder, monkeypatch, tmp_path):
        monkeypatch.setattr(plan, "few_pictures", lambda *_, **__: picture_folder)
        monkeypatch.setattr(
            cli, "machine_facts", lambda workspace: {**MACHINE, "seed": workspace.seed}
        )
        return ["--quick", "--out", str(tmp_path)]

    def test_a_failing_case_does_not_stop_the_others(self, quick, tmp_path, capsys, monkeypatch):
        def fails(bench):
            """one row, then no more"""
            yield FASTER
            raise KitError("out of flowers")

        def works(bench):
            """a row"""
            yield SLOWER

        monkeypatch.setattr(cli, "CASES", {"fails": fails, "works": works})
        assert cli.main(quick) == 1
        shown = capsys.readouterr()
        assert shown.err == "error: fails: out of flowers\n"
        assert "NOT MEASURED: out of flowers" in shown.out
        written = read_report(next(tmp_path.glob("*.json")))
        assert [row.case for row in written.rows] == ["extractor", "start"]
        assert {row.aim for row in written.rows} == {None}  # quick
        assert written.plan["rounds"] == plan.QUICK_ROUNDS < plan.ROUNDS
        assert written.failures == {"fails": "out of flowers"}
        assert len(list(tmp_path.glob("*.png"))) == 1
        assert cli.main(["--show", str(next(tmp_path.glob("*.json"))), "--out", str(tmp_path)]) == 0
        assert markdown(written) in capsys.readouterr().out

    def test_what_was_measured_survives_an_interruption(self, quick, tmp_path, monkeypatch):
        def stopped(bench):
            """a row, then Ctrl-C"""
            yield FASTER
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "CASES", {"stopped": stopped})
        assert cli.main(quick) == 130
        assert len(read_report(next(tmp_path.glob("*.json"))).rows) == 1

    def test_nothing_is_decoded_beforehand(self, bench, monkeypatch):
        monkeypatch.setattr(picture_store, "IN_MEMORY", 0)
        monkeypatch.setattr(picture_store, "SPARE_DISK", 0)
        usual = bench.workspace.decoded_dir

        def first_picture(fresh: Bench) -> list[Path]:
            data = fresh.data(fresh.recipe("resnet18_finetune"))
            before = list(usual.rglob("*.pixels"))
            next(iter(data.train))
            return [path for path in usual.rglob("*.pixels") if path not in before]

        for _ in range(2):  # each time anew, and nothing stays
            assert len(cases.from_files(first_picture, bench)()) == 1
            assert not list(usual.rglob("*.pixels"))

    def test_a_few_pictures_are_a_data_set(self, bench, tmp_path):
        folder = plan.few_pictures(bench, tmp_path, {"train": 5, "val": 2, "test": 1}, classes=2)
        few = bench.on(folder)
        data = few.data(few.recipe("resnet18_finetune"))
        assert data.sizes == {"train": 10, "val": 4, "test": 2}
        assert data.num_classes == 2
        assert data.size == 64
