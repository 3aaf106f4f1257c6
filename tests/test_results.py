"""Results: what is written can be trusted, and what cannot be trusted is not read."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from made_up import write_result
from torch import nn

from coursekit.run.report import write_report
from helpers import (
    METHODS,
    bn_cnn,
    compare_pairs,
    comparison_table,
    format_table,
    get_recipe,
    load_results,
    save_result,
    start,
    test,
    train_model,
)
from helpers.errors import KitError
from helpers.lib.files import only_writer, read_json, sha256, write_json, written_atomically
from helpers.lib.records import RECORD
from helpers.results import Result, class_accuracy, confused_pairs


@pytest.fixture
def saved(workspace, data, cnn):
    """Everything that a notebook hands to `save_result`."""
    optimizer = torch.optim.SGD(cnn.parameters(), lr=0.05)
    run = train_model(cnn, data, nn.CrossEntropyLoss(), optimizer, num_epochs=2, progress=False)
    recipe = get_recipe("bn_cnn", "mini")
    return (
        workspace,
        recipe,
        {"model": cnn, "data": data, "run": run, "score": test(cnn, data.test)},
    )


def save(saved, **changes) -> Path:
    workspace, recipe, parts = saved
    return save_result(workspace, recipe, **{**parts, **changes})


def edit(path: Path, change) -> None:
    """Change a record as somebody with an editor would."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# Round trip


def test_what_is_saved_is_loaded(saved):
    workspace, _, parts = saved
    folder = save(saved)
    assert folder == workspace.results_dir / "bn_cnn"
    (result,) = load_results(workspace, parts["data"])
    score, run, record = parts["score"], parts["run"], result.record
    assert result.method == "bn_cnn"
    assert result.title == METHODS["bn_cnn"]
    assert result.ids == score.ids
    assert torch.equal(result.labels, score.labels)
    assert torch.equal(result.predictions, score.predictions)
    assert int(result.hits.sum()) == score.correct
    assert record["test"]["correct"] == score.correct
    assert record["test"]["total"] == score.total
    assert record["test"]["accuracy"] == score.accuracy
    assert tuple(record["test"]["interval"]) == score.interval
    assert record["val"] == {"accuracy": run.best_val_accuracy, "epoch": run.best_epoch}
    assert record["history"] == run.history
    assert record["seconds"] == run.seconds
    assert record["training_seconds"] == run.training_seconds
    assert record["data"]["sizes"] == {"train": 36, "val": 12, "test": 12}
    assert record["data"]["fingerprint"] == parts["data"].fingerprint
    assert record["machine"]["device"] == "cpu"
    assert record["machine"]["threads"] == workspace.threads
    assert record["versions"]["torch"] == torch.__version__
    assert record["recipe"]["method"] == "bn_cnn"
    for name, digest in record["files"].items():
        assert sha256(folder / name) == digest


def test_a_record_and_the_report_say_how_many_files_were_left_out(saved):
    workspace, _, parts = saved
    save(saved)
    assert load_results(workspace)[0].record["data"]["left_out"] == 0
    save(saved, data=dataclasses.replace(parts["data"], left_out=("a.png (it is empty)", "b.png")))
    (result,) = load_results(workspace)
    assert result.record["data"]["left_out"] == 2
    page = write_report(workspace, []).read_text(encoding="utf-8")
    assert "3 classes: 36 train, 12 val, 12 test; left out: 2" in page


def test_saved_weights_give_the_saved_score(saved):
    folder, parts = save(saved), saved[2]
    model = bn_cnn(3, widths=(8, 16))
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    again = test(model, parts["data"].test)
    assert torch.equal(again.probabilities, parts["score"].probabilities)


def test_predictions_are_a_table_that_people_can_read(saved):
    folder, score = save(saved), saved[2]["score"]
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = saved[2]["data"].class_names
    assert [row["picture"] for row in rows] == score.ids
    for row, label, guess, p in zip(
        rows, score.labels, score.predictions, score.probabilities, strict=True
    ):
        assert (row["class"], row["predicted_class"]) == (names[label], names[guess])
        assert float(row["probability"]) == pytest.approx(float(p[guess]), abs=1e-4)


def test_a_second_result_replaces_the_first(saved):
    save(saved)
    parts = saved[2]
    score = dataclasses.replace(parts["score"], loss=9.5)
    save(saved, score=score)
    (result,) = load_results(saved[0])
    assert result.record["test"]["loss"] == 9.5


def test_no_results_is_an_empty_list(workspace):
    assert load_results(workspace) == []


def test_results_come_in_the_order_of_the_notebooks(workspace):
    for method in reversed(METHODS):
        write_result(workspace.results_dir, method, student=None)
    assert [result.method for result in load_results(workspace)] == list(METHODS)


def test_a_network_of_ones_own_is_compared_after_those_of_the_assignment(workspace, tmp_path):
    own = write_result(tmp_path, "bn_cnn", student=None)
    edit(own / "record.json", lambda record: record.update(method="a_cnn"))
    write_result(workspace.results_dir, "resnet18_extractor", student=None)
    own.rename(workspace.results_dir / "a_cnn")
    results = load_results(workspace)
    assert [result.title for result in results] == ["ResNet18 extractor", "a_cnn"]
    assert len(comparison_table(results)) == 2 and len(compare_pairs(results)) == 1
    assert 'href="#method-a_cnn"' in write_report(workspace, []).read_text(encoding="utf-8")


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(profile="full"), "profile 'full'"),
        (
            lambda record: record.update(schema=0, versions={"kit": "0.0.1"}),
            r"not a record of this version of the kit \(version 0\.0\.1 wrote it, with schema 0; ",
        ),
        (lambda record: record.pop("schema"), "not a record of this version"),
        (lambda record: record["data"].update(fingerprint="e" * 64), "other pictures or splits"),
        (lambda record: record["test"].update(correct=999), "says 999 of 12"),
        (lambda record: record["test"].update(accuracy=0.999), "the accuracy is 0.999"),
        (lambda record: record["test"].update(total=13), "its predictions say"),
        (lambda record: record.pop("test"), "damaged"),
        (lambda record: record.pop("files"), "damaged"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(saved, change, message):
    folder = save(saved)
    edit(folder / "record.json", change)
    with pytest.raises(KitError, match=message):
        load_results(saved[0], saved[2]["data"])


def test_another_students_record_is_refused(saved):
    workspace = dataclasses.replace(saved[0], student="s1")
    save((workspace, *saved[1:]))
    assert len(load_results(workspace)) == 1
    with pytest.raises(KitError, match=r"'s1'.*not 's2'"):
        load_results(dataclasses.replace(workspace, student="s2"))


def test_records_of_different_data_are_not_compared(workspace):
    for method in ("bn_cnn", "resnet18_finetune"):
        folder = write_result(workspace.results_dir, method, student=None)
    edit(folder / "record.json", lambda record: record["data"].update(fingerprint="other"))
    with pytest.raises(KitError, match="different data"):
        load_results(workspace)


def test_edited_predictions_are_refused(saved):
    table = save(saved) / "predictions.csv"
    table.write_text(table.read_text().replace(",0,", ",1,", 1))
    with pytest.raises(KitError, match=r"predictions\.csv was changed after"):
        load_results(saved[0])


def test_predictions_and_hash_edited_together_do_not_fit_the_count(saved):
    folder = save(saved)
    table = folder / "predictions.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    edit(
        folder / "record.json",
        lambda record: record["files"].update({"predictions.csv": sha256(table)}),
    )
    with pytest.raises(KitError, match=r"its predictions say .* of 11"):
        load_results(saved[0])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "\x00\xff"])
def test_damaged_json_is_named(saved, text):
    record = save(saved) / "record.json"
    record.write_text(text, encoding="latin-1")
    with pytest.raises(KitError, match=r"record\.json"):
        load_results(saved[0])


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["record.json", "predictions.csv", "assignment.json"])
def test_a_file_that_would_run_code_is_refused_and_not_run(saved, tmp_path, name):
    workspace, trace = saved[0], tmp_path / "trace"
    path = save(saved) / name
    if name == "assignment.json":
        path = workspace.results_dir.parent / name
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(KitError, match=name.replace(".", r"\.")):
        load_results(workspace)
        start(profile="mini")
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have


@pytest.mark.parametrize("place", ["whole", *sorted(filter(None, RECORD))])
@pytest.mark.parametrize("value", [None, -1, "text", [], {}, math.nan, 1e400, "\ud800", "gone"])
def test_a_record_with_any_part_spoilt_is_refused_or_can_be_shown(workspace, place, value):
    for method in METHODS:
        folder = write_result(workspace.results_dir, method, student=None)
    record = read_json(folder / "record.json")
    if place == "whole":
        record = value
    elif value == "gone":
        del record[place]
    else:
        record[place] = value
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    try:
        results = load_results(workspace)
    except KitError as error:
        assert "record" in str(error)
        return
    format_table(comparison_table(results)).encode()
    for result in results:
        class_accuracy(result)


def test_an_interval_has_two_ends(workspace):
    folder = write_result(workspace.results_dir, "bn_cnn", student=None)
    edit(folder / "record.json", lambda record: record["test"].update(interval=[0.5]))
    with pytest.raises(KitError, match=r"test\.interval has 1 values, not 2"):
        load_results(workspace)


@pytest.mark.parametrize("label", ["-1", "4", "9" * 30, "1.0", "", "x"])
def test_classes_that_there_are_not_are_refused(workspace, label):
    folder = write_result(workspace.results_dir, "bn_cnn", student=None)
    table = folder / "predictions.csv"
    first, line, *lines = table.read_text().splitlines()
    cells = line.split(",")
    table.write_text("\n".join([first, ",".join([cells[0], label, *cells[2:]]), *lines]))
    edit(folder / "record.json", lambda r: r["files"].update({"predictions.csv": sha256(table)}))
    with pytest.raises(KitError, match=r"predictions\.csv is damaged|its predictions say"):
        load_results(workspace)


def test_missing_predictions_are_named(saved):
    (save(saved) / "predictions.csv").unlink()
    with pytest.raises(KitError, match=r"predictions\.csv"):
        load_results(saved[0])


# Writing


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["torch.save", "helpers.results.predictions_csv"])
def test_an_interrupted_save_leaves_the_earlier_result_whole(saved, monkeypatch, error, place):
    workspace, _, parts = saved
    save(saved)
    before = tree(workspace.results_dir)

    def fail(*args, **options):
        if place == "torch.save":
            Path(args[1]).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(place, fail)
    other = dataclasses.replace(parts["score"], predictions=parts["score"].predictions.flip(0))
    with pytest.raises((KitError, OSError, KeyboardInterrupt)):
        save(saved, score=other)
    assert tree(workspace.results_dir) == before
    assert len(load_results(workspace, parts["data"])) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(saved, value):
    workspace, _, parts = saved
    save(saved)
    before = tree(workspace.results_dir)
    with pytest.raises(KitError, match="learning rate"):
        save(saved, score=dataclasses.replace(parts["score"], loss=value))
    assert tree(workspace.results_dir) == before


def test_two_writers_at_once(saved):
    workspace = saved[0]
    save(saved)
    before = tree(workspace.results_dir)
    lock = workspace.results_dir / ".bn_cnn.lock"
    with (
        only_writer(lock, "it"),
        pytest.raises(KitError, match=r"^the result bn_cnn is being written by another run"),
    ):
        save(saved)
    assert tree(workspace.results_dir) == before
    save(saved)


def test_failed_writing_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("earlier")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), written_atomically(path) as temporary:
            temporary.write_text("half")
            raise error
    assert tree(tmp_path) == {"file.txt": b"earlier"}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KitError, match=r"cannot write .*record\.json"):
        write_json(tmp_path / "file" / "record.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(KitError, match=r"cannot write .*folder"):
        write_json(tmp_path / "folder", {})


def test_json_goes_round_in_any_script(tmp_path):
    value = {"name": "Größe 花", "numbers": [1, 2.5, None, True]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "花" in (tmp_path / "a.json").read_text(encoding="utf-8")


# Comparison


def made_up(method: str, hits: list[bool], classes: int = 2) -> Result:
    labels = torch.arange(len(hits)) % classes
    predictions = torch.where(torch.tensor(hits), labels, (labels + 1) % classes)
    record = {"method": method, "data": {"classes": classes}}
    return Result(record, [f"p{number}" for number in range(len(hits))], labels, predictions)


def exact_p(only_first: int, only_second: int) -> float:
    """Two-sided probability of a split at least as uneven, under a fair coin."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    return min(1.0, 2 * tail)


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(3, 12), (12, 3), (5, 5), (0, 1), (0, 5), (0, 6), (1, 30)]
)
def test_pairs_are_compared_by_mcnemars_exact_test(only_first, only_second):
    first = [True] * 20 + [True] * only_first + [False] * only_second + [False] * 9
    second = [True] * 20 + [False] * only_first + [True] * only_second + [False] * 9
    (row,) = compare_pairs([made_up("bn_cnn", first), made_up("resnet18_finetune", second)])
    assert row["Only the first right"] == str(only_first)
    assert row["Only the second right"] == str(only_second)
    points = 100 * (only_second - only_first) / len(first)
    assert row["Difference"] == f"{points:+.1f} points"
    p = exact_p(only_first, only_second)
    assert row["p"] == ("below 0.001" if p < 0.001 else f"{p:.3f}")
    assert row["Verdict"] == ("a real difference" if p < 0.05 else "may be chance")
    assert row["Pair"] == f"{METHODS['bn_cnn']} / {METHODS['resnet18_finetune']}"


def test_equal_methods_do_not_differ():
    results = [made_up(method, [True, False] * 4) for method in METHODS]
    rows = compare_pairs(results)
    assert len(rows) == 6
    assert {row["p"] for row in rows} == {"1.000"}
    assert {row["Verdict"] for row in rows} == {"may be chance"}


def test_methods_tested_on_other_pictures_are_not_paired():
    first = made_up("bn_cnn", [True] * 4)
    other = made_up("resnet18_finetune", [True] * 5)
    with pytest.raises(KitError, match="other pictures"):
        compare_pairs([first, other])


def test_confused_pairs_count_both_ways():
    labels = torch.tensor([0, 1, 1, 2, 2, 0, 3])
    predictions = torch.tensor([1, 0, 1, 3, 2, 1, 1])
    result = Result({"method": "bn_cnn"}, list("abcdefg"), labels, predictions)
    assert confused_pairs(result, 2) == [(0, 1, [0, 5, 1]), (1, 3, [6])]
    assert confused_pairs(result, 9)[2:] == [(2, 3, [3])]
    assert confused_pairs(made_up("bn_cnn", [True] * 3), 4) == []


def test_confused_pairs_name_the_more_frequent_way_first():
    """What stands for a pair in a figure is its usual mistake, not the one of a single picture."""
    labels, predictions = torch.tensor([1, 0, 0, 0]), torch.tensor([0, 1, 1, 0])
    result = Result({"method": "bn_cnn"}, list("abcd"), labels, predictions)
    assert confused_pairs(result, 1) == [(0, 1, [1, 2, 0])]


def test_class_accuracy_is_not_a_number_for_a_class_without_pictures():
    result = made_up("bn_cnn", [True, False, True, True])
    assert class_accuracy(result).tolist() == [1.0, 0.5]
    result.record["data"]["classes"] = 3
    assert math.isnan(class_accuracy(result)[2])


def test_comparison_table_says_what_the_records_say(workspace):
    for method in METHODS:
        write_result(workspace.results_dir, method, student=None)
    results = load_results(workspace)
    rows = comparison_table(results)
    assert [row["Method"] for row in rows] == list(METHODS.values())
    for row, result in zip(rows, results, strict=True):
        scored = result.record["test"]
        assert row["Test accuracy"] == f"{100 * scored['correct'] / scored['total']:.1f}%"
        low, high = (f"{100 * end:.1f}%" for end in scored["interval"])
        assert row["95 % interval"] == f"{low} to {high}"
        assert row["Training"] == f"{result.record['training_seconds']:,.1f} s"
        assert row["Epochs"] == "3"
        assert row["An epoch"] == f"{result.record['training_seconds'] / 3:,.2f} s"
        assert row["Weights"] in str(result.record["weights"])


def test_tables_are_aligned():
    table = format_table([{"A": "x", "Bee": "1"}, {"A": "longer", "Bee": "22"}])
    assert table.splitlines() == ["A       Bee", "------  ---", "x       1", "longer  22"]
    assert format_table([]) == "no results"


def test_a_table_says_what_its_numbers_are_about():
    rows = [{"A": "x"}]
    table = format_table(rows, note="drawn flowers, not photographs")
    assert table.splitlines()[-1] == "(drawn flowers, not photographs)"
    assert "drawn" not in format_table(rows)
