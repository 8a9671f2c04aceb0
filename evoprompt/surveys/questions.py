"""Questions put to the model: a wording, an option order and a label set; and plans of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evoprompt.surveys.instrument import OPTIONS, Instrument

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

    def expected(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Expected answers 1..5, shape (..., Q), from label probabilities of shape (..., Q, 5)."""
        values = np.array([question.values for question in self.questions], dtype=np.float64)
        return np.einsum("...qo,qo->...q", np.asarray(probabilities, dtype=np.float64), values)

    def item_means(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean answer of each item over its questions: (..., Q, 5) -> (..., 24).

        Questions without an answer (NaN rows) are left out; an item of which none was answered is NaN.
        """
        expected, matrix = self.expected(probabilities), self._item_matrix()
        all_answered = np.isfinite(expected).all(axis=-1, keepdims=True)
        return np.where(all_answered, expected @ (matrix / matrix.sum(axis=0)), _means(expected, matrix))

    def inconsistency(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """How much answers depend on the form of a question: (..., Q, 5) -> (...).

        The standard deviation of an item's expected answer over its forms (option order and labels), averaged over
        the items, in answer steps. A respondent who looks at what an option says has none.
        """
        expected, matrix = self.expected(probabilities), self._item_matrix()
        forms = sorted({(question.labels, question.values) for question in self.questions})
        which = np.array([forms.index((question.labels, question.values)) for question in self.questions])
        by_form = [_means(expected, matrix * (which == form)[:, None]) for form in range(len(forms))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # items that nobody answered
            return np.asarray(np.nanmean(np.nanstd(by_form, axis=0), axis=-1))

    def respondent_answers(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Distribution over answers 1..5 of each item by respondent: (Q, 5) -> (respondents, 24, 5).

        NaN where a respondent answered none of an item's questions.
        """
        totals, counts = np.zeros((len(self.respondents), 24, 5)), np.zeros((len(self.respondents), 24, 1))
        for question, shown in zip(self.questions, np.asarray(probabilities, dtype=np.float64), strict=True):
            if np.isfinite(shown).all():
                totals[question.respondent, question.item, np.array(question.values) - 1] += shown
                counts[question.respondent, question.item] += 1
        return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)

    def _item_matrix(self) -> NDArray[np.float64]:
        matrix = np.zeros((len(self.questions), 24))
        matrix[np.arange(len(self.questions)), [question.item for question in self.questions]] = 1.0
        return matrix


def _means(expected: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
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
