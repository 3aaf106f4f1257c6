"""What two hand-ins share that two students would not: predictions, answers, cells of their own.

Each hand-in is reduced to sets of numbers; all pairs are compared at once by counting what the
sets have in common, as a product of sparse matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from coursekit.grading.material import TOKENS, WORDS, Material
from coursekit.grading.tampering import Flag
from helpers.recipes import METHODS

COMMON = 0.1  # of the class may share something before it counts as common property
LEAST_COMMON = 5  # students: in a small class, so many may
LEAST_WORDS = 25  # runs of words that a pair must share in one answer; a short one proves nothing
LEAST_IN_ALL = 60  # in all answers together
LEAST_CODE = 40  # runs of tokens that a pair must share
LIKE_WORDS = 0.6  # of the shorter one's
LIKE_IN_ALL = 0.5
LIKE_CODE = 0.6
LIKE_MISTAKES = 0.98  # honest runs of a fixed extractor agree on most of theirs, too
LEAST_MISTAKES = 20
ONE_CLASS = 0.5  # a network that says one class for this part of its mistakes has learned nothing
LIKE_PROBABILITIES = 0.5  # of the pictures with the very same probability
SURE = 9_990  # of 10,000: from there on everybody's probabilities are the same


def compare(names: Sequence[str], students: Sequence[str], materials: Sequence[Material]
            ) -> list[list[Flag]]:  # fmt: skip
    """The flags of every hand-in that come from its likeness to another, in the given order.

    `names` are how a flag calls the other one. Hand-ins of the same student are not compared.
    """
    flags: list[list[Flag]] = [[] for _ in names]
    same = np.array([[bool(a) and a == b for b in students] for a in students], dtype=bool)
    same |= np.eye(len(names), dtype=bool)
    found = [
        *_same_predictions(materials),
        *_same_weights(materials),
        *_same_sessions(materials),
        *_same_answers(materials),
        *_same_code(materials),
    ]
    for first, second, kind, text in found:
        if not same[first, second]:
            flags[first].append(Flag(kind, text, names[second]))
            flags[second].append(Flag(kind, text, names[first]))
    return flags


Pair = tuple[int, int, str, str]  # two indices, the kind of a flag and its text


def shared_counts(sets: Sequence[np.ndarray]) -> np.ndarray:
    """(n, n) how many numbers each two of n sets have in common; the diagonal has their sizes."""
    from scipy.sparse import csr_array

    sizes = [len(values) for values in sets]
    if not sum(sizes):
        return np.zeros((len(sets), len(sets)), dtype=np.int64)
    values, columns = np.unique(np.concatenate(sets), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(len(columns), dtype=np.int32)
    matrix = csr_array((ones, columns.ravel(), starts), shape=(len(sets), len(values)))
    return (matrix @ matrix.T).toarray().astype(np.int64)


def without_common(sets: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sets without what so many have that it comes from the lecture, not from a friend."""
    if not sets:
        return []
    values, counts = np.unique(np.concatenate(sets), return_counts=True)
    most = max(LEAST_COMMON, COMMON * len(sets))
    common = values[counts > most]
    return [np.setdiff1d(one, common, assume_unique=True) for one in sets]


def _upper(where: np.ndarray) -> list[list[int]]:
    """The pairs (i, j), i < j, for which a square matrix is true."""
    return np.argwhere(np.triu(where, 1)).tolist()


def _same_answers(materials: Sequence[Material]) -> Iterator[Pair]:
    """Pairs with one long answer alike, or with many short ones alike; one short one is chance."""
    keys = sorted({key for material in materials for key in material.answers})
    nothing = np.zeros(0, np.int64)
    whole: list[list[np.ndarray]] = [[] for _ in materials]
    alike: dict[tuple[int, int], list[str]] = {}
    for number, key in enumerate(keys):
        sets = without_common([material.answers.get(key, nothing) for material in materials])
        for first, second, shared, smaller in _overlaps(sets, LEAST_WORDS, LIKE_WORDS):
            alike.setdefault((first, second), []).append(f"{key} ({shared} of {smaller})")
        for one, runs in zip(whole, sets, strict=True):
            one.append(runs ^ np.int64(number))  # the same words in answer to another question
    totals = [np.unique(np.concatenate([nothing, *one])) for one in whole]
    for first, second, shared, smaller in _overlaps(totals, LEAST_IN_ALL, LIKE_IN_ALL):
        alike.setdefault((first, second), []).append(f"all together ({shared} of {smaller})")
    for (first, second), answers in sorted(alike.items()):
        text = f"runs of {WORDS} words are the same in answers {', '.join(answers)}"
        yield first, second, "same answers", text


def _same_code(materials: Sequence[Material]) -> Iterator[Pair]:
    sets = without_common([material.code for material in materials])
    for first, second, shared, smaller in _overlaps(sets, LEAST_CODE, LIKE_CODE):
        text = f"code of their own: {shared} of {smaller} runs of {TOKENS} tokens are the same"
        yield first, second, "same cells", text


def _overlaps(
    sets: Sequence[np.ndarray], least: int, fraction: float
) -> Iterator[tuple[int, int, int, int]]:
    """Pairs that share enough: their indices, the number shared, and the smaller one's size."""
    counts = shared_counts(sets)
    sizes = counts.diagonal()
    smaller = np.minimum(sizes[:, None], sizes[None, :])
    for first, second in _upper((counts >= least) & (counts >= fraction * smaller)):
        yield first, second, int(counts[first, second]), int(smaller[first, second])


def _same_predictions(materials: Sequence[Material]) -> Iterator[Pair]:
    for method in METHODS:
        for kind in sorted({m.pictures[method] for m in materials if method in m.pictures}):
            group = [i for i, m in enumerate(materials) if m.pictures.get(method) == kind]
            if len(group) > 1:
                yield from _same_in_group(materials, group, method)


def _same_in_group(
    materials: Sequence[Material], group: Sequence[int], method: str
) -> Iterator[Pair]:
    """Compare those who were tested on the same pictures: their mistakes and their certainty."""
    guesses = np.stack([materials[i].guesses[method] for i in group]).astype(np.int64)
    chances = np.stack([materials[i].probabilities[method] for i in group]).astype(np.int64)
    wrong = np.stack([materials[i].mistakes[method] for i in group])
    places = np.arange(guesses.shape[1], dtype=np.int64)
    classes = int(np.abs(guesses).max(initial=0)) + 1
    codes = places * (2 * classes) + guesses + classes
    same = shared_counts([row[bad] for row, bad in zip(codes, wrong, strict=True)])
    mistakes = wrong.sum(axis=1)
    # Those who are wrong on a picture that the other has right agree on nothing there.
    both = wrong.astype(np.float32) @ wrong.T.astype(np.float32)  # exact below 2**24 pictures
    either = mistakes[:, None] + mistakes[None, :] - both.astype(np.int64)
    varied = np.array([_is_varied(row[bad]) for row, bad in zip(guesses, wrong, strict=True)])
    copied = (either >= LEAST_MISTAKES) & (same >= LIKE_MISTAKES * either)
    copied &= varied[:, None] & varied[None, :]

    telling = [row < SURE for row in chances]
    exact = shared_counts(
        [(c * 10_001 + p)[t] for c, p, t in zip(codes, chances, telling, strict=True)]
    )
    counts = exact.diagonal()
    fewer = np.minimum(counts[:, None], counts[None, :])
    many = np.array([len(np.unique(p[t])) for p, t in zip(chances, telling, strict=True)])
    copied_chances = (fewer >= LEAST_MISTAKES) & (exact >= LIKE_PROBABILITIES * fewer)
    copied_chances &= np.minimum(many[:, None], many[None, :]) >= LEAST_MISTAKES
    for first, second in _upper(copied | copied_chances):
        text = (
            f"{METHODS[method].title}: {same[first, second]} of {either[first, second]} mistakes "
            f"are the same, and {exact[first, second]} of {fewer[first, second]} probabilities"
        )
        yield group[first], group[second], "same predictions", text


def _is_varied(guesses: np.ndarray) -> bool:
    """Whether mistakes are of many classes; a network that says one class says it for everybody."""
    if not len(guesses):
        return False
    _, counts = np.unique(guesses, return_counts=True)
    return bool(counts.max() < ONE_CLASS * len(guesses))


def _same_weights(materials: Sequence[Material]) -> Iterator[Pair]:
    """Pairs whose hashes agree, which no two honest runs' do."""
    for method in METHODS:
        hashes = [[m.weights[method]] if method in m.weights else [] for m in materials]
        for (first, second), digests in _owned_by_both(hashes):
            text = f"{METHODS[method].title}: the same weights (SHA-256 {digests[0][:12]})"
            yield first, second, "same weights", text


def _same_sessions(materials: Sequence[Material]) -> Iterator[Pair]:
    for (first, second), both in _owned_by_both([m.sessions for m in materials]):
        yield first, second, "same log", f"{len(both)} sessions of the log are the same"


def _owned_by_both(
    values: Sequence[Sequence[str]],
) -> Iterator[tuple[tuple[int, int], list[str]]]:
    """Pairs of neighbours among the owners of a value, with the values that they share."""
    owners: dict[str, list[int]] = {}
    for index, own in enumerate(values):
        for value in own:
            owners.setdefault(value, []).append(index)
    pairs: dict[tuple[int, int], list[str]] = {}
    for value, group in sorted(owners.items()):
        for pair in itertools.pairwise(group):
            pairs.setdefault(pair, []).append(value)
    yield from sorted(pairs.items())
