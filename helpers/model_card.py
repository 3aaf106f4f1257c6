"""A model card: what others must know of a network before they use it (Mitchell et al., 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.comparison import class_accuracy
from helpers.results import Result

WORST = 3  # classes that are named
LIMITS = (
    "It answers with one of its classes, always, also for a picture of something else",
    "Its test pictures come from where its training pictures come from: others were not tested",
    "One run, one seed: another seed would move these numbers",
    "Made for a course: for any other use it has not been tested",
)


def model_card(result: Result | None) -> str:
    """The card of a result as Markdown; every number in it is the record's or its predictions'.

    What others have named (classes, data, weights) stands in code spans, where nothing is markup.
    """
    if result is None:
        return "No result yet: run notebooks 02 to 05 first."
    record = result.record
    note = record["data"]["note"]
    parts = {
        "What it is": _network(record),
        "Data": _data(record["data"]),
        "Training": _training(record),
        "Results": _results(result),
        "Limits": [f"About its data: {_code(note)}", *LIMITS] if note else LIMITS,
    }
    lines = [f"### Model card of {_code(result.title)}"]
    for title, facts in parts.items():
        lines += ["", f"**{title}**", "", *(f"- {fact}" for fact in facts)]
    return "\n".join(lines)


def _network(record: Mapping[str, Any]) -> Iterator[str]:
    total, trained = record["parameters"]["total"], record["parameters"]["trainable"]
    yield (
        f"A classifier of pictures with {record['data']['classes']:,} classes and {total:,} "
        f"parameters, {'all' if trained == total else f'{trained:,}'} of them trained"
    )
    if shape := record.get("input_shape"):
        yield f"Takes pictures of {' x '.join(map(str, shape))} (channels, height, width)"
    kit = record["versions"].get("kit", "not recorded")
    yield f"Student: {_code(record['student'] or 'none given')}; kit {_code(kit)}"
    yield f"Finished {_code(record['finished'])}"
    for name in sorted({"network.pt2", "weights.pt"} & set(record["files"])):
        yield f"{_code(name)} with SHA-256 {_code(record['files'][name])}"


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    sizes = ", ".join(f"{size:,} {_code(split)}" for split, size in data["sizes"].items())
    yield f"{_code(data['name'])}, pictures: {sizes}"
    yield f"Fingerprint of pictures, labels and splits: {_code(data['fingerprint'])}"


def _training(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"Started from: {_code(record['weights']['source'])}"
    if shown := [
        f"{key.replace('_', ' ')} {value}"
        for key, value in record["recipe"].items()
        if isinstance(value, str | int | float) and key not in ("method", "profile")
    ]:
        yield f"Recipe: {_code(', '.join(shown))}"
    seconds, machine = record["training_seconds"], record["machine"]
    yield f"Trained for {record['epochs']:,} epochs, {seconds:,.1f} s, with seed {record['seed']}"
    yield f"Machine: {_code(machine['device_name'])}, precision {_code(machine['precision'])}"


def _results(result: Result) -> Iterator[str]:
    val, test = result.record["val"], result.record["test"]
    yield f"Val accuracy {val['accuracy']:.1%}, the number that chose epoch {val['epoch']:,}"
    low, high = test["interval"]
    yield (
        f"Test accuracy {test['accuracy']:.1%} ({test['correct']:,} of {test['total']:,}), "
        f"95 % interval {low:.1%} to {high:.1%}"
    )
    accuracy = class_accuracy(result)
    tested = (~accuracy.isnan()).nonzero().flatten()
    worst = tested[accuracy[tested].argsort(stable=True)][:WORST].tolist()
    named = ", ".join(f"{_code(result.class_names[one])} {accuracy[one]:.1%}" for one in worst)
    yield f"Lowest accuracy of a class on test: {named}"


def _code(text: object) -> str:
    """A text that others have written, such that Markdown, HTML and formulas leave it alone."""
    plain = " ".join(str(text).replace("`", "'").split())
    return f"`{plain or '(no name)'}`"
