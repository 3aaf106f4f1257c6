"""What two hand-ins share that two students would not: predictions, answers, cells of their own.

Each hand-in is reduced to sets of numbers; all pairs are compared at once by counting what the
sets have in common, as a product of sparse matrices.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import itertools
import keyword
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from coursekit.grading.case import Case
from coursekit.grading.cells import Cell, Notebook, Question, squeeze
from coursekit.grading.read import dig, text_of
from coursekit.grading.tampering import Flag
from helpers.recipes import METHODS

WORDS = 4  # in a row, of an answer: what is compared
TOKENS = 10  # in a row, of code
LONGEST_CODE = 50_000  # characters of a cell that are compared
COMMON = 0.1  # of the class may share something before it counts as common property
LEAST_COMMON = 5  # students: in a small class, so many may
LEAST_WORDS = 25  # runs of words that a pair must share in one answer; a short one proves nothing
LEAST_IN_ALL = 60  # in all answers together
LEAST_CODE = 40  # runs of tokens that a pair must share
SHARE_OF_WORDS = 0.6  # of the shorter one's
SHARE_IN_ALL = 0.5
SHARE_OF_CODE = 0.6
SHARE_OF_MISTAKES = 0.98  # honest runs of a fixed extractor agree on most of theirs, too
LEAST_MISTAKES = 20
ONE_CLASS = 0.5  # a network that says one class for this part of its mistakes has learned nothing
SHARE_OF_CHANCES = 0.5  # of the pictures with the very same probability
SURE = 9_990  # of 10,000: from there on everybody's probabilities are the same
_WORD = re.compile(r"\w+")
_KEPT = frozenset(keyword.kwlist) | frozenset(dir(builtins))


@dataclass
class Material:
    """What of one hand-in is compared. Sets of numbers are sorted arrays of int64."""

    answers: dict[str, np.ndarray] = field(default_factory=dict)  # by question
    code: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    guesses: dict[str, np.ndarray] = field(default_factory=dict)  # by method, in order of pictures
    chances: dict[str, np.ndarray] = field(default_factory=dict)
    mistakes: dict[str, np.ndarray] = field(default_factory=dict)  # bool, as guesses
    pictures: dict[str, str] = field(default_factory=dict)  # by method, a hash of the ids
    weights: dict[str, str] = field(default_factory=dict)  # by method, the hash of weights.pt
    sessions: tuple[str, ...] = ()  # of the log


def material_of(case: Case, template_code: np.ndarray) -> Material:
    """The material of a hand-in; `template_code` (see `code_runs`) is what everybody has."""
    hand_in = case.hand_in
    cells = [cell for notebook in hand_in.notebooks.values() for cell in notebook.code]
    known = {squeeze(cell.source) for t in case.templates.values() for cell in t.code}
    # There are few ways to write what a TODO asks for: likeness there says nothing.
    known |= {
        squeeze(cell.source)
        for number, matched in case.matched.items()
        for place, cell in matched.items()
        if case.templates[number].cells[place].is_todo
    }
    own = code_runs(cell for cell in cells if squeeze(cell.source) not in known)
    answers = answer_runs(case.answers, case.questions)
    material = Material(answers=answers, code=_without(own, template_code))
    for method, table in hand_in.predictions.items():
        order = np.argsort(np.array(table.pictures), kind="stable")
        pictures = "\n".join(table.pictures[index] for index in order)
        labels = case.own_labels(method)
        truth = table.labels
        if labels is not None:
            truth = np.array([labels.test.get(picture, -1) for picture in table.pictures])
        material.pictures[method] = hashlib.sha256(pictures.encode()).hexdigest()
        material.guesses[method] = table.guesses[order]
        material.chances[method] = table.chances[order]
        material.mistakes[method] = (table.guesses != truth)[order]
    for method, record in hand_in.records.items():
        if digest := text_of(dig(record, "files", "weights.pt")):
            material.weights[method] = digest
    material.sessions = tuple(sorted({line.session for line in hand_in.log or () if line.session}))
    return material


def model_material(questions: Mapping[str, Question]) -> Material:
    """The material of a hand-in with nothing but the model answers."""
    models = {key: question.model for key, question in questions.items()}
    return Material(answers=answer_runs(models, questions))


def answer_runs(
    answers: Mapping[str, str], questions: Mapping[str, Question]
) -> dict[str, np.ndarray]:
    """The runs of words of each answer, without those of its question."""
    return {
        key: _without(word_runs(text), word_runs(questions[key].text))
        for key, text in answers.items()
        if text
    }


def word_runs(text: str) -> np.ndarray:
    """The runs of a few words in a text, as numbers; case and punctuation do not count."""
    return _runs(_WORD.findall(text.lower()), WORDS)


def code_runs(cells: Iterable[Cell]) -> np.ndarray:
    """The runs of a few tokens in code, as numbers; names, numbers and texts do not count."""
    found = [_runs(_tokens(cell.source[:LONGEST_CODE]), TOKENS) for cell in cells]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


def template_code(templates: Mapping[str, Notebook]) -> np.ndarray:
    """What the code of all templates has to be subtracted of everybody's."""
    return code_runs(cell for template in templates.values() for cell in template.code)


def _tokens(source: str) -> list[str]:
    """Code without what can be renamed: a name is "v" unless it is built in or an attribute."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    tokens: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
            _add_token(tokens, token)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        pass  # what came before the fault is compared
    return tokens


def _add_token(tokens: list[str], token: tokenize.TokenInfo) -> None:
    if token.type == tokenize.NAME:
        kept = token.string in _KEPT or tokens[-1:] == ["."]
        tokens.append(token.string if kept else "v")
    elif token.type == tokenize.NUMBER:
        tokens.append("0")
    elif token.type == tokenize.STRING:
        tokens.append("s")
    elif token.type in (tokenize.OP, tokenize.NEWLINE):
        tokens.append(token.string.strip() or ";")


def _runs(items: Sequence[str], length: int) -> np.ndarray:
    """Each run of `length` items as a number, sorted, each once."""
    runs = {
        int.from_bytes(
            hashlib.blake2b("\0".join(items[i : i + length]).encode(), digest_size=8).digest(),
            "big",
            signed=True,
        )
        for i in range(len(items) - length + 1)
    }
    return np.array(sorted(runs), dtype=np.int64)


def _without(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.setdiff1d(values, others, assume_unique=True)


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
        *_same_values("weights", "the same weights", [m.weights for m in materials]),
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


def _upper(where: np.ndarray) -> Iterator[tuple[int, int]]:
    """The pairs (i, j), i < j, for which a square matrix is true."""
    yield from np.argwhere(np.triu(where, 1)).tolist()


def _same_answers(materials: Sequence[Material]) -> Iterator[Pair]:
    """Pairs with one long answer alike, or with many short ones alike; one short one is chance."""
    keys = sorted({key for material in materials for key in material.answers})
    nothing = np.zeros(0, np.int64)
    whole: list[list[np.ndarray]] = [[] for _ in materials]
    alike: dict[tuple[int, int], list[str]] = {}
    for number, key in enumerate(keys):
        sets = without_common([material.answers.get(key, nothing) for material in materials])
        for first, second, shared, smaller in _overlaps(sets, LEAST_WORDS, SHARE_OF_WORDS):
            alike.setdefault((first, second), []).append(f"{key} ({shared} of {smaller})")
        for one, runs in zip(whole, sets, strict=True):
            one.append(runs ^ np.int64(number))  # the same words in answer to another question
    totals = [np.unique(np.concatenate([nothing, *one])) for one in whole]
    for first, second, shared, smaller in _overlaps(totals, LEAST_IN_ALL, SHARE_IN_ALL):
        alike.setdefault((first, second), []).append(f"all together ({shared} of {smaller})")
    for (first, second), answers in sorted(alike.items()):
        text = f"runs of {WORDS} words are the same in answers {', '.join(answers)}"
        yield first, second, "same answers", text


def _same_code(materials: Sequence[Material]) -> Iterator[Pair]:
    sets = without_common([material.code for material in materials])
    for first, second, shared, smaller in _overlaps(sets, LEAST_CODE, SHARE_OF_CODE):
        text = f"code of their own: {shared} of {smaller} runs of {TOKENS} tokens are the same"
        yield first, second, "same cells", text


def _overlaps(
    sets: Sequence[np.ndarray], least: int, share: float
) -> Iterator[tuple[int, int, int, int]]:
    """Pairs that share enough: their indices, the number shared, and the smaller one's size."""
    counts = shared_counts(sets)
    sizes = counts.diagonal()
    smaller = np.minimum(sizes[:, None], sizes[None, :])
    for first, second in _upper((counts >= least) & (counts >= share * smaller)):
        yield first, second, int(counts[first, second]), int(smaller[first, second])


def _same_predictions(materials: Sequence[Material]) -> Iterator[Pair]:
    for method, title in METHODS.items():
        kinds = sorted({m.pictures[method] for m in materials if method in m.pictures})
        for kind in kinds:
            group = [i for i, m in enumerate(materials) if m.pictures.get(method) == kind]
            if len(group) > 1:
                yield from _same_in_group(materials, group, method, title)


def _same_in_group(
    materials: Sequence[Material], group: Sequence[int], method: str, title: str
) -> Iterator[Pair]:
    """Compare those who were tested on the same pictures: their mistakes and their certainty."""
    guesses = np.stack([materials[i].guesses[method] for i in group]).astype(np.int64)
    chances = np.stack([materials[i].chances[method] for i in group]).astype(np.int64)
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
    copied = (either >= LEAST_MISTAKES) & (same >= SHARE_OF_MISTAKES * either)
    copied &= varied[:, None] & varied[None, :]

    telling = [row < SURE for row in chances]
    exact = shared_counts(
        [(c * 10_001 + p)[t] for c, p, t in zip(codes, chances, telling, strict=True)]
    )
    counts = exact.diagonal()
    fewer = np.minimum(counts[:, None], counts[None, :])
    many = np.array([len(np.unique(p[t])) for p, t in zip(chances, telling, strict=True)])
    copied_chances = (fewer >= LEAST_MISTAKES) & (exact >= SHARE_OF_CHANCES * fewer)
    copied_chances &= np.minimum(many[:, None], many[None, :]) >= LEAST_MISTAKES
    for first, second in _upper(copied | copied_chances):
        text = (
            f"{title}: {same[first, second]} of {either[first, second]} mistakes are the same, "
            f"and {exact[first, second]} of {fewer[first, second]} probabilities"
        )
        yield group[first], group[second], "same predictions", text


def _is_varied(guesses: np.ndarray) -> bool:
    """Whether mistakes are of many classes; a network that says one class says it for everybody."""
    if not len(guesses):
        return False
    _, counts = np.unique(guesses, return_counts=True)
    return bool(counts.max() < ONE_CLASS * len(guesses))


def _same_values(kind: str, what: str, values: Sequence[Mapping[str, str]]) -> Iterator[Pair]:
    """Pairs whose hashes agree, which no two honest runs' do."""
    for method, title in METHODS.items():
        owners: dict[str, list[int]] = {}
        for index, value in enumerate(values):
            if method in value:
                owners.setdefault(value[method], []).append(index)
        for digest, group in sorted(owners.items()):
            for first, second in itertools.pairwise(group):
                yield first, second, f"same {kind}", f"{title}: {what} (SHA-256 {digest[:12]})"


def _same_sessions(materials: Sequence[Material]) -> Iterator[Pair]:
    owners: dict[str, list[int]] = {}
    for index, material in enumerate(materials):
        for session in material.sessions:
            owners.setdefault(session, []).append(index)
    pairs: dict[tuple[int, int], int] = {}
    for group in owners.values():
        for pair in itertools.pairwise(group):
            pairs[pair] = pairs.get(pair, 0) + 1
    for (first, second), count in sorted(pairs.items()):
        yield first, second, "same log", f"{count} sessions of the log are the same"
