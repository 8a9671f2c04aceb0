"""Questions put to the model: a wording, an option order and a label set; and plans of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evoprompt.surveys.instrument import OPTIONS, Instrument
from evoprompt.typing import Doubles, Floats

LABEL_SETS = (("1", "2", "3", "4", "5"), ("A", "B", "C", "D", "E"))
ORDERS = ("ascending", "descending")
COMBINATIONS = tuple((order, labels) for labels in LABEL_SETS for order in ORDERS)


@dataclass(frozen=True)
class Question:
    """One question: `options[j]` is shown with `labels[j]` and means answer `values[j]` (1..5)."""

    item: int  # 0-based
    wording: str
    options: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[int, ...]
    respondent: int = 0  # index into the plan's respondents

    def text(self, preface: str = "") -> str:
        """The whole prompt, shared text first: preface, option list, wording.

        >>> Question(0, "Rain?", ("yes", "no"), ("A", "B"), (1, 2)).text("You are tired.")
        'You are tired.\\nOptions: A = yes; B = no.\\nQuestion: Rain?\\nAnswer:'
        """
        options = "; ".join(f"{label} = {option}" for label, option in zip(self.labels, self.options, strict=True))
        head = f"{preface}\n" if preface else ""
        return f"{head}Options: {options}.\nQuestion: {self.wording}\nAnswer:"


def ask(
    instrument: Instrument, item: int, wording: str, order: str, labels: Sequence[str], respondent: int = 0
) -> Question:
    """Put `wording` of the 0-based `item` with its scale's options in `order` under `labels`."""
    options = instrument.scales[instrument.items[item].scale]
    values = tuple(range(1, OPTIONS + 1))
    if order == "descending":
        options, values = options[::-1], values[::-1]
    return Question(item, wording, tuple(options), tuple(labels), values, respondent)


@dataclass(frozen=True)
class Plan:
    """Which questions are asked, and of which respondents (a line of text each, empty for none)."""

    questions: tuple[Question, ...]
    respondents: tuple[str, ...] = ("",)

    def texts(self, preface: str = "") -> list[str]:
        """The prompts in the order of `questions`; `preface` (persona or examples) comes first."""
        lines = ["\n".join(part for part in (preface, person) if part) for person in self.respondents]
        return [question.text(lines[question.respondent]) for question in self.questions]

    def expected(self, probabilities: Floats) -> Doubles:
        """Expected answers 1..5, shape (..., Q), from label probabilities of shape (..., Q, 5)."""
        values = np.array([question.values for question in self.questions], dtype=np.float64)
        return np.einsum("...qo,qo->...q", np.asarray(probabilities, dtype=np.float64), values)

    def item_means(self, probabilities: Floats) -> Doubles:
        """Mean answer of each item over its questions: (..., Q, 5) -> (..., 24).

        Questions without an answer (NaN rows) are filled in so that biases of labels and positions still cancel, see
        `balanced_means`. An item of which none was answered is NaN; all are where a form was never answered.
        """
        return self._means(probabilities, np.array([question.item for question in self.questions]), 24)

    def respondent_means(self, probabilities: Floats) -> Doubles:
        """What `item_means` gives, by respondent: (..., Q, 5) -> (..., respondents, 24)."""
        blocks = np.array([question.respondent * 24 + question.item for question in self.questions])
        count = len(self.respondents)
        means = self._means(probabilities, blocks, count * 24)
        return means.reshape(*means.shape[:-1], count, 24)

    @cached_property
    def forms(self) -> dict[str, NDArray[np.intp]]:
        """The forms that questions have (option order and labels), with the places of each one's questions."""
        found: dict[str, list[int]] = {}
        for place, question in enumerate(self.questions):
            order = ORDERS[question.values[0] > question.values[-1]]
            found.setdefault(f"{question.labels[0]}-{question.labels[-1]} {order}", []).append(place)
        return {form: np.array(places) for form, places in found.items()}

    def inconsistency(self, probabilities: Floats) -> Doubles:
        """How much answers depend on the form of a question: (..., Q, 5) -> (...).

        The standard deviation of an item's expected answer over its forms (option order and labels), averaged over
        the items, in answer steps. A respondent who looks at what an option says has none.
        """
        expected, matrix = self.expected(probabilities), np.eye(24)[[question.item for question in self.questions]]
        by_form = [_means(expected[..., places], matrix[places]) for places in self.forms.values()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # items that nobody answered
            return np.asarray(np.nanmean(np.nanstd(by_form, axis=0), axis=-1))

    def respondent_answers(self, probabilities: Floats) -> Doubles:
        """Distribution over answers 1..5 of each item by respondent: (Q, 5) -> (respondents, 24, 5).

        Means over the questions that a respondent answered; NaN where none of an item's was.
        """
        totals, counts = np.zeros((len(self.respondents), 24, 5)), np.zeros((len(self.respondents), 24, 1))
        for question, shown in zip(self.questions, np.asarray(probabilities, dtype=np.float64), strict=True):
            if np.isfinite(shown).all():
                totals[question.respondent, question.item, np.array(question.values) - 1] += shown
                counts[question.respondent, question.item] += 1
        return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)

    def _means(self, probabilities: Floats, blocks: NDArray[np.intp], count: int) -> Doubles:
        """Means of blocks of questions (an item's, or a respondent's of an item): (..., Q, 5) -> (..., count)."""
        expected, matrix = self.expected(probabilities), np.eye(count)[blocks]  # (Q, count): 1 where a question belongs
        rows = expected.reshape(-1, len(self.questions))
        means = rows @ (matrix / np.maximum(1.0, matrix.sum(axis=0)))
        for row in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
            cells = [_means(rows[row, places], matrix[places]) for places in self.forms.values()]
            asked = [matrix[places].sum(axis=0) for places in self.forms.values()]
            means[row] = balanced_means(np.stack(cells, axis=1), np.stack(asked, axis=1))
        return np.where(matrix.any(axis=0), means, np.nan).reshape(*expected.shape[:-1], count)


def balanced_means(cells: Doubles, asked: Doubles) -> Doubles:
    """Means of incompletely answered items as if every form had been answered.

    Least-squares means of the additive model answer = item + form (Searle, Speed and Milliken 1980): what a form adds
    is learnt from the items that were answered in it. A respondent who looks at nothing but labels and positions gets
    the same mean whichever answers are missing; a mean of the answers there are would not have that.

    `cells` (items, forms) are mean answers, NaN where there are none; `asked` (items, forms) says how many questions
    were asked, the weights of the forms in an item's mean. The means (items,) are NaN without any answer; all are where
    the answers do not tell what each form adds, such as when one was never answered.

    >>> balanced_means(np.array([[1.0, 5.0], [1.0, np.nan], [np.nan, 5.0]]), np.ones((3, 2))).round(6).tolist()
    [3.0, 3.0, 3.0]
    """
    known = np.isfinite(cells).astype(np.float64)
    values = np.where(known > 0, cells, 0.0)
    count = known.sum(axis=1)
    each = np.divide(known, count[:, None], out=np.zeros_like(known), where=count[:, None] > 0)
    normal = np.diag(known.sum(axis=0)) - known.T @ each  # of the forms, items eliminated; its rows sum to 0
    if np.linalg.matrix_rank(normal, tol=1e-9, hermitian=True) < cells.shape[1] - 1:
        return np.full(len(cells), np.nan)
    forms = np.linalg.pinv(normal, rcond=1e-9, hermitian=True) @ (values.sum(axis=0) - each.T @ values.sum(axis=1))
    items = (each * (values - known * forms)).sum(axis=1)
    shares = asked / np.maximum(1.0, asked.sum(axis=1, keepdims=True))
    return np.where(count > 0, items + shares @ forms, np.nan)


def _means(expected: Doubles, weights: Doubles) -> Doubles:
    """Weighted means of the answers there are: (..., Q) and (Q, k) -> (..., k), NaN where there are none."""
    answered = np.isfinite(expected)
    totals, counts = np.where(answered, expected, 0.0) @ weights, answered @ weights
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def full_plan(instrument: Instrument, split: str, respondents: Sequence[str] = ("",)) -> Plan:
    """Every wording of `split`, both orders, every label set, every respondent."""
    questions = [
        ask(instrument, index, wording, order, labels, respondent)
        for respondent in range(len(respondents))
        for order, labels in COMBINATIONS
        for index, item in enumerate(instrument.items)
        for wording in item.wordings(split)
    ]
    return Plan(tuple(questions), tuple(respondents))


def balanced_plan(
    instrument: Instrument, split: str = "searched", respondents: Sequence[str] = ("",), counterbalanced: bool = True
) -> Plan:
    """Four questions per item: each order with each label set once, the wordings dealt round in turn.

    A bias towards a label or a position cancels within every item, at a fraction of the full plan's price.
    `counterbalanced=False` asks all four in ascending order under the first label set: only for showing what
    counterbalancing prevents.
    """
    questions = []
    for combination, (order, labels) in enumerate(COMBINATIONS):
        if not counterbalanced:
            order, labels = ORDERS[0], LABEL_SETS[0]
        respondent = combination % len(respondents)
        for index, item in enumerate(instrument.items):
            wordings = item.wordings(split)
            wording = wordings[(index + combination) % len(wordings)]
            questions.append(ask(instrument, index, wording, order, labels, respondent))
    return Plan(tuple(questions), tuple(respondents))
