"""The comparison of results: tables, and how well chance explains a difference."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import scipy
import torch

from helpers.results import Result


class Table(list[dict[str, str]]):
    """Rows of texts that print themselves aligned, with a note below."""

    def __init__(
        self, rows: Iterable[dict[str, str]] = (), *, note: str = "", empty: str = "no results"
    ) -> None:
        super().__init__(rows)
        self.note, self.empty = note, empty

    def __str__(self) -> str:
        if not self:
            return self.empty
        widths = {key: max(len(key), *(len(row[key]) for row in self)) for key in self[0]}
        lines = ["  ".join(key.ljust(width) for key, width in widths.items())]
        lines.append("  ".join("-" * width for width in widths.values()))
        lines += ["  ".join(row[key].ljust(width) for key, width in widths.items()) for row in self]
        if self.note:
            lines.append(f"({self.note})")
        return "\n".join(line.rstrip() for line in lines)


def note_of(results: Sequence[Result]) -> str:
    """What must be said of the pictures of some results, "" when nothing."""
    return "; ".join(dict.fromkeys(filter(None, (r.record["data"]["note"] for r in results))))


def comparison_table(results: Sequence[Result]) -> Table:
    """The comparison of the methods, one row each, in the order of `results`; print it.

    Results about different pictures have a column that says which. Where test has more pictures of
    some classes than of others, "Mean of classes" counts every class alike (balanced accuracy), and
    a line says what always naming the most frequent class would reach.
    """
    rows, notes = [], [note_of(results)]
    uneven = [result for result in results if not _is_even(result)]
    if uneven:
        most = max(float(torch.bincount(one.labels).max()) / len(one.labels) for one in uneven)
        notes.append(f"always the most frequent class of test: {most:.1%}")
    alike = len({result.record["data"]["fingerprint"] for result in results}) <= 1
    for result in results:
        record, test = result.record, result.record["test"]
        low, high = test["interval"]
        seconds = record["training_seconds"]
        data = f"{record['data']['name']}, {record['data']['fingerprint'][:6]}"
        rows.append(
            {
                "Method": result.title,
                **({} if alike else {"Pictures": data}),
                "Test accuracy": f"{test['accuracy']:.1%}",
                "95 % interval": f"{low:.1%} to {high:.1%}",
                **({"Mean of classes": f"{_mean_of_classes(result):.1%}"} if uneven else {}),
                "Val accuracy": f"{record['val']['accuracy']:.1%}",
                "Training": f"{seconds:,.1f} s",
                "Epochs": str(record["epochs"]),
                "An epoch": f"{seconds / record['epochs']:,.2f} s",
                "Parameters": f"{record['parameters']['total']:,}",
                "Trainable": f"{record['parameters']['trainable']:,}",
                "Weights": record["weights"]["kind"],
            }
        )
    return Table(rows, note="; ".join(filter(None, notes)))


def _is_even(result: Result) -> bool:
    """Whether test has as many pictures of one class as of another."""
    counts = torch.bincount(result.labels, minlength=result.record["data"]["classes"])
    return bool((counts == counts[0]).all())


def _mean_of_classes(result: Result) -> float:
    """The accuracy of each class that test has, averaged."""
    return float(class_accuracy(result).nanmean())


def compare_pairs(results: Sequence[Result]) -> Table:
    """For each pair of methods: how well does chance explain that one does better than the other?

    The exact McNemar test (McNemar, 1947): of the pictures that only one of the two gets right, a
    fair coin would give each half. Pairs that were tested on different pictures are left out.

    Returns:
        A row a pair: "Difference" is the second's accuracy less the first's, in percentage points;
        "p" is two-sided, "p (Holm)" the same corrected for the number of pairs (Holm, 1979).
    """
    rows, values = [], []
    for first, second in itertools.combinations(results, 2):
        if first.ids != second.ids or not torch.equal(first.labels, second.labels):
            continue
        only_first = int((first.hits & ~second.hits).sum())
        only_second = int((second.hits & ~first.hits).sum())
        differ = only_first + only_second
        values.append(float(scipy.stats.binomtest(only_first, differ).pvalue) if differ else 1.0)
        rows.append(
            {
                "Pair": f"{first.title} / {second.title}",
                "Only the first right": str(only_first),
                "Only the second right": str(only_second),
                "Difference": f"{100 * (only_second - only_first) / len(first.ids):+.1f} points",
                "p": _p_text(values[-1]),
            }
        )
    for row, p in zip(rows, holm(values), strict=True):
        row["p (Holm)"] = _p_text(p)
    empty = "two results on the same pictures are needed"
    return Table(rows, note=note_of(results), empty=empty)


def holm(values: Sequence[float]) -> list[float]:
    """Several p values, corrected so that any of them is small by chance as rarely as one would be.

    The smallest is multiplied by their number, the next by one less, and so on; none becomes
    smaller than one before it, or larger than 1.
    """
    ranks = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[ranks] = np.maximum.accumulate(np.asarray(values)[ranks] * factors).clip(max=1)
    return [float(value) for value in corrected]


def _p_text(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def confused_pairs(result: Result, count: int) -> list[tuple[int, int, list[int]]]:
    """The `count` pairs of classes that a method mixes up most, either way; most frequent first.

    (class, other class, indices of the test pictures of either confused with the other); of the
    indices, those of the more frequent way come first.
    """
    mistakes: dict[tuple[int, int], list[int]] = {}
    for index in torch.nonzero(~result.hits).flatten().tolist():
        pair = sorted((int(result.labels[index]), int(result.predictions[index])))
        mistakes.setdefault((pair[0], pair[1]), []).append(index)
    ordered = sorted(mistakes.items(), key=lambda item: (-len(item[1]), item[0]))[:count]
    for _, indices in ordered:
        ways = Counter(int(result.labels[index]) for index in indices)
        indices.sort(key=lambda index: -ways[int(result.labels[index])])
    return [(*pair, indices) for pair, indices in ordered]


def class_accuracy(result: Result) -> torch.Tensor:
    """(classes,) accuracy of each class on test; NaN where a class has no picture."""
    classes = result.record["data"]["classes"]
    counts = torch.bincount(result.labels, minlength=classes)
    return torch.bincount(result.labels, weights=result.hits.double(), minlength=classes) / counts
