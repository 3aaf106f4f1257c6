"""Results: what is written can be trusted, and what cannot be trusted is not read."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import pickle
from pathlib import Path

import pytest
import scipy.stats
import torch
from torch import nn

import helpers
from coursekit.train.networks import bn_cnn
from helpers import (
    METHODS,
    KitError,
    compare_pairs,
    comparison_table,
    get_recipe,
    load_results,
    save_result,
    train_model,
)
from helpers.comparison import class_accuracy, confused_pairs, holm
from helpers.errors import WriteError
from helpers.lib.files import only_writer, read_json, sha256
from helpers.lib.records import RECORD, record_fault
from tools.results import made_result
from tools.tiny import full_disk


@pytest.fixture
def saved(workspace, data, cnn):
    """Everything that a notebook hands to `save_result`."""
    optimizer = torch.optim.SGD(cnn.parameters(), lr=0.05)
    run = train_model(cnn, data, nn.CrossEntropyLoss(), optimizer, num_epochs=2, progress=False)
    parts = {"model": cnn, "data": data, "run": run, "score": helpers.test(cnn, data)}
    return workspace, get_recipe("bn_cnn", "mini"), parts


def save(saved, **changes) -> Path:
    workspace, recipe, parts = saved
    return save_result(workspace, changes.pop("recipe", recipe), **{**parts, **changes})


def edit(path: Path, change) -> None:
    """Change a record as somebody with an editor would."""
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# Round trip


def test_what_is_saved_is_loaded(saved):
    workspace, recipe, parts = saved
    folder = save(saved)
    assert sorted(path.name for path in folder.iterdir()) == [
        "network.pt2", "predictions.csv", "record.json", "weights.pt"
    ]  # fmt: skip
    (result,) = load_results(workspace, parts["data"])
    record, score, run = result.record, parts["score"], parts["run"]
    assert record_fault(record) == ""
    assert (record["schema"], result.method, result.title) == (2, "bn_cnn", "BN-CNN")
    assert torch.equal(result.predictions, score.predictions)
    assert torch.equal(result.hits, score.predictions == score.labels)
    assert result.ids == score.ids and result.class_names == parts["data"].class_names
    assert record["test"]["correct"] == score.correct
    assert record["val"] == {"accuracy": run.best_val_accuracy, "epoch": run.best_epoch}
    assert record["data"]["class_names"] == ["blue", "green", "red"]
    assert record["data"]["normalization"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert record["input_shape"] == [3, 16, 16]
    assert record["settings"] == json.loads(json.dumps(run.settings))
    assert record["recipe"]["head_lr"] == recipe.head_lr
    assert record["weights"]["kind"] == "not stated"
    for name in ("predictions.csv", "weights.pt", "network.pt2"):
        assert record["files"][name] == sha256(folder / name)
    again = result.run
    assert again.history == run.history and again.training_seconds == run.training_seconds


def test_saved_weights_give_the_saved_score(saved):
    state = torch.load(save(saved) / "weights.pt", weights_only=True)
    model = bn_cnn(3, widths=(8, 16))
    model.load_state_dict(state)
    score = helpers.test(model, saved[2]["data"])
    assert torch.equal(score.predictions, saved[2]["score"].predictions)


def test_predictions_are_a_table_that_people_can_read(saved):
    score = saved[2]["score"]
    with (save(saved) / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["picture"] for row in rows] == score.ids
    assert rows[0]["class"] == rows[0]["picture"].split("/")[0]
    assert float(rows[3]["probability"]) == pytest.approx(
        float(score.probabilities[3].max()), abs=1e-4
    )


def test_a_second_result_replaces_the_first_and_none_is_an_empty_list(saved):
    assert load_results(saved[0]) == []
    save(saved)
    save(saved, weights="mine")
    (result,) = load_results(saved[0])
    assert result.record["weights"]["source"] == "mine"


def test_results_come_in_the_order_of_the_notebooks_and_own_ones_after(saved):
    for method in ("zebra", *reversed(METHODS), "a_net"):
        save(saved, recipe={"method": method})
    results = load_results(saved[0])
    assert [result.method for result in results] == [*METHODS, "a_net", "zebra"]
    save(saved, recipe={"method": "bn_cnn", "folder": "extensions/08_x/one"})
    assert len(load_results(saved[0])) == 6
    (run,) = load_results(saved[0], extension="08_x")
    assert run.method == "bn_cnn"


NAMES = (None, "", 7, "/root", "../up", "a/../../b", "a/..", "a//b", ".hidden", r"a\..\b", "C:x")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["method", "folder"])
def test_a_result_has_a_plain_name_below_the_results_folder(saved, key, name):
    recipe = {"method": "net", key: name} if key == "folder" and name else {"method": name}
    with pytest.raises(KitError, match="a result cannot be called"):
        save(saved, recipe=recipe)
    assert not saved[0].results_dir.exists()


@pytest.mark.parametrize("name", ["mobilenet/v3", "checkpoints", "previous", "extensions"])
def test_a_name_under_which_nobody_would_list_a_result_is_refused(saved, name):
    with pytest.raises(KitError, match=f"a result cannot be called '{name}': give the recipe a m"):
        save(saved, recipe={"method": name})
    assert not saved[0].results_dir.exists()


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile], ids=["parallel", "compiled"])
def test_a_wrapped_network_is_saved_as_the_network_that_it_wraps(saved, cnn, wrap):
    folder = save(saved, model=wrap(cnn))
    state = torch.load(folder / "weights.pt", weights_only=True)
    assert list(state) == list(cnn.state_dict())
    assert "network.pt2" in json.loads((folder / "record.json").read_text())["files"]


def test_results_about_other_pictures_are_told_of(saved, capsys):
    save(saved)
    other = dataclasses.replace(saved[2]["data"], fingerprint="e" * 64, name="others")
    capsys.readouterr()
    assert len(load_results(saved[0], other)) == 1
    assert "NOTE: BN-CNN was tested on other pictures" in capsys.readouterr().out


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(profile="full"), "profile 'full'"),
        (lambda record: record.update(schema=0), "not a record of this version"),
        (lambda record: record.pop("schema"), "not a record of this version"),
        (lambda record: record["test"].update(correct=999), "says 999 of 12"),
        (lambda record: record["test"].update(accuracy=0.999), r"\(0\.9990\)"),
        (lambda record: record["test"].update(total=13), "its predictions say"),
        (lambda record: record.pop("test"), "damaged"),
        (lambda record: record.pop("files"), "damaged"),
        (lambda record: record["data"].pop("class_names"), "damaged"),
        (lambda record: record.pop("settings"), "damaged"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(saved, change, message):
    edit(save(saved) / "record.json", change)
    with pytest.raises(KitError, match=message):
        load_results(saved[0], saved[2]["data"])


def test_another_students_record_is_refused(saved):
    workspace = dataclasses.replace(saved[0], student="s1")
    save((workspace, *saved[1:]))
    assert len(load_results(workspace)) == 1
    with pytest.raises(KitError, match=r"'s1'.*not 's2'"):
        load_results(dataclasses.replace(workspace, student="s2"))


def test_edited_predictions_are_refused(saved):
    folder = save(saved)
    table = folder / "predictions.csv"
    whole = table.read_text(encoding="utf-8")
    table.write_text(whole.replace(",0,", ",1,", 1), encoding="utf-8")
    with pytest.raises(KitError, match=r"predictions\.csv was changed after"):
        load_results(saved[0])
    table.write_text("".join(whole.splitlines(keepends=True)[:-1]), encoding="utf-8")
    edit(folder / "record.json", lambda r: r["files"].update({"predictions.csv": sha256(table)}))
    with pytest.raises(KitError, match=r"its predictions say .* of 11"):
        load_results(saved[0])
    table.unlink()
    with pytest.raises(KitError, match=r"predictions\.csv is damaged"):
        load_results(saved[0])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "\x00\xff"])
def test_damaged_json_is_named(saved, text):
    (save(saved) / "record.json").write_text(text, encoding="latin-1")
    with pytest.raises(KitError, match=r"record\.json"):
        load_results(saved[0])


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "name", ["record.json", "predictions.csv", "network.pt2", "assignment.json"]
)
def test_a_file_that_would_run_code_is_refused_and_not_run(saved, tmp_path, name, capsys):
    workspace, trace = saved[0], tmp_path / "trace"
    path = save(saved) / name
    if name == "assignment.json":
        path = workspace.results_dir.parent / name
    path.write_bytes(pickle.dumps(Malicious(trace)))
    if name == "network.pt2":
        assert helpers.load_trained(workspace, load_results(workspace)) == []
        assert "network.pt2 was changed after it was recorded" in capsys.readouterr().out
    else:
        with pytest.raises(KitError, match=name.replace(".", r"\.")):
            load_results(workspace)
            helpers.start(profile="mini")
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have


@pytest.mark.parametrize("place", ["whole", *sorted(RECORD["properties"])])
def test_a_record_with_any_part_spoilt_is_refused_or_can_be_shown(saved, place):
    record_file = save(saved) / "record.json"
    whole = read_json(record_file)
    for value in (None, -1, "text", [], {}, math.nan, 1e400, "\ud800", "gone"):
        record = value if place == "whole" else {**whole, place: value}
        if value == "gone":
            record = {key: part for key, part in whole.items() if key != place}
        record_file.write_text(json.dumps(record), encoding="utf-8")
        try:
            results = load_results(saved[0])
        except KitError as error:
            assert "\n" not in str(error)
            continue
        assert len(comparison_table(results)) == 1
        helpers.plot_results(results).canvas.draw()
        helpers.plot_history(results[0].run).canvas.draw()


# Writing


@pytest.mark.parametrize("part", [0, 0.001, 0.1, 0.5, 0.999])
def test_a_result_is_saved_whole_or_not_at_all(saved, part):
    save(saved)
    before = tree(saved[0].results_dir)
    with (
        full_disk(int(part * max(map(len, before.values())))),
        pytest.raises(WriteError, match=r"^cannot write ") as caught,
    ):
        save(saved)
    assert "\n" not in str(caught.value)
    assert tree(saved[0].results_dir) == before
    assert len(load_results(saved[0], saved[2]["data"])) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(saved, value):
    save(saved)
    before = tree(saved[0].results_dir)
    with pytest.raises(KitError, match="NaN or infinite"):
        save(saved, run=dataclasses.replace(saved[2]["run"], first_loss=value))
    assert tree(saved[0].results_dir) == before


def test_two_writers_at_once(saved):
    lock = saved[0].results_dir / ".bn_cnn.lock"
    with only_writer(lock, "it"), pytest.raises(KitError, match="result bn_cnn is being written"):
        save(saved)
    assert save(saved).is_dir()


# Comparison


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (1, 0), (3, 9), (2, 15), (40, 41), (0, 12)]
)
def test_pairs_are_compared_by_mcnemars_exact_test(only_first, only_second):
    first = [True] * (5 + only_first) + [False] * (only_second + 1)
    second = [True] * 5 + [False] * only_first + [True] * only_second + [False]
    results = [made_result("bn_cnn", first), made_result("resnet18_finetune", second)]
    (row,) = compare_pairs(results)
    differ = only_first + only_second
    p = scipy.stats.binom.cdf(min(only_first, only_second), differ, 0.5) * 2 if differ else 1.0
    p = min(p, 1.0)
    assert row["p"] == ("below 0.001" if p < 0.001 else f"{p:.3f}")
    assert row["p (Holm)"] == row["p"]  # of a single pair
    assert row["Pair"] == "BN-CNN / ResNet18 fine-tuned"
    assert [row["Only the first right"], row["Only the second right"]] == [
        str(only_first), str(only_second)
    ]  # fmt: skip
    gain = 100 * (only_second - only_first) / len(first)
    assert row["Difference"] == f"{gain:+.1f} points"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([0.3], [0.3]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # R's p.adjust, method "holm"
        ([0.5, 0.6], [1.0, 1.0]),
    ],
)
def test_several_p_values_are_corrected_as_holm_does(values, expected):
    assert holm(values) == pytest.approx(expected)


def test_the_more_pairs_the_larger_is_the_corrected_p():
    hits = torch.rand(5, 60, generator=torch.Generator().manual_seed(0)) < 0.6
    results = [made_result(f"m{place}", row.tolist()) for place, row in enumerate(hits)]
    few, many = compare_pairs(results[:3]), compare_pairs(results)
    assert len(few) == 3 and len(many) == 10
    for row in few:
        (same,) = [other for other in many if other["Pair"] == row["Pair"]]
        assert same["p"] == row["p"] <= row["p (Holm)"] <= same["p (Holm)"]


@pytest.mark.parametrize("changes", [{"ids": list("wxyz")}, {"classes": 4}])
def test_methods_tested_on_other_pictures_are_not_paired(changes):
    results = [made_result("a", [True] * 4), made_result("b", [True] * 4, **changes)]
    assert str(compare_pairs(results)) == "two results on the same pictures are needed"


def test_where_classes_differ_in_size_a_majority_is_seen_for_what_it_is():
    result = made_result("always_first", [True] * 99 + [False])
    labels = torch.tensor([0] * 99 + [1])
    result = dataclasses.replace(result, labels=labels, predictions=torch.zeros_like(labels))
    table = comparison_table([result])
    assert (table[0]["Test accuracy"], table[0]["Mean of classes"]) == ("99.0%", "50.0%")
    assert str(table).endswith("(always the most frequent class of test: 99.0%)")


def test_the_comparison_says_what_the_records_say():
    results = [made_result("bn_cnn", [True] * 3 + [False], note="drawn"),
               made_result("mine", [True] * 2 + [False] * 2, note="drawn", place=2)]  # fmt: skip
    table = comparison_table(results)
    assert table[0]["Test accuracy"] == "75.0%" and table[0]["95 % interval"] == "30.1% to 95.4%"
    assert [row["Method"] for row in table] == ["BN-CNN", "mine"]
    assert table[1]["Training"] == "7.5 s" and table[1]["An epoch"] == "2.50 s"
    assert table[1]["Parameters"] == "2,000"
    assert "Mean of classes" not in table[0]
    lines = str(table).splitlines()
    assert lines[-1] == "(drawn)"
    assert len({line.index("75.0%") if "75.0%" in line else line.index("50.0%")
                for line in lines[2:4]}) == 1  # fmt: skip
    other = [results[0], made_result("b", [True] * 4, fingerprint="e" * 64)]
    assert [row["Pictures"] for row in comparison_table(other)] == [
        "vectors, ffffff",
        "vectors, eeeeee",
    ]


def test_confused_pairs_count_both_ways_and_the_more_frequent_first():
    result = made_result("a", [False] * 5, classes=3)
    result = dataclasses.replace(result, labels=torch.tensor([0, 1, 1, 2, 2]),
                                 predictions=torch.tensor([1, 0, 0, 1, 2]))  # fmt: skip
    assert confused_pairs(result, 5) == [(0, 1, [1, 2, 0]), (1, 2, [3])]
    assert confused_pairs(result, 1) == [(0, 1, [1, 2, 0])]
    assert class_accuracy(result).tolist() == [0, 0, 0.5]
    (missing,) = class_accuracy(made_result("a", [True], classes=2))[1:]
    assert missing.isnan()
