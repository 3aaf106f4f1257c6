"""What of one hand-in is compared with others: numbers that stand for runs of words and tokens."""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import io
import keyword
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from coursekit.grading.answers import Question
from coursekit.grading.case import Case
from coursekit.grading.cells import Cell, Notebook, squeeze
from coursekit.grading.values import dig, text_of

WORDS = 4  # in a row, of an answer: what is compared
TOKENS = 10  # in a row, of code
LONGEST_CODE = 50_000  # characters of a cell that are compared
_WORD = re.compile(r"\w+")
_STAND_INS = {tokenize.NUMBER: "0", tokenize.STRING: "s"}
_KEPT = frozenset(keyword.kwlist) | frozenset(dir(builtins))


@dataclass
class Material:
    """What of one hand-in is compared. Sets of numbers are sorted arrays of int64."""

    answers: dict[str, np.ndarray] = field(default_factory=dict)  # by question
    code: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    guesses: dict[str, np.ndarray] = field(default_factory=dict)  # by method, in order of pictures
    probabilities: dict[str, np.ndarray] = field(default_factory=dict)
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
        material.probabilities[method] = table.probabilities[order]
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


def code_of(templates: Mapping[str, Notebook]) -> np.ndarray:
    """The runs of the code of all templates, which everybody has."""
    return code_runs(cell for template in templates.values() for cell in template.code)


def _tokens(source: str) -> list[str]:
    """Code without what can be renamed: a name is "v" unless it is built in or an attribute."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    tokens: list[str] = []
    # What comes before a fault in the code is compared.
    with contextlib.suppress(tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
            text = token.string
            if token.type == tokenize.NAME:
                tokens.append(text if text in _KEPT or tokens[-1:] == ["."] else "v")
            elif token.type in _STAND_INS:
                tokens.append(_STAND_INS[token.type])
            elif token.type in (tokenize.OP, tokenize.NEWLINE):
                tokens.append(text.strip() or ";")
    return tokens


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
