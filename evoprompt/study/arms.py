"""The arms of a study: the same questions under no, a persona, an in-context or an evolved prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap

from evoprompt.llm import Respondent
from evoprompt.surveys import Culture, Instrument, Plan, full_plan, l1_loss, raw_scores
from evoprompt.surveys.instrument import SPLITS
from evoprompt.surveys.questions import COMBINATIONS, ask
from evoprompt.surveys.vsm13 import DIMENSIONS, WEIGHTS

Array = NDArray[np.float64]
ARMS = ("naive", "persona", "icl", "evolved")
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class SurveyPanel:
    """Asks the full plan of either split under any arm."""

    respondent: Respondent
    instrument: Instrument
    people: Sequence[str]

    def plan(self, split: str) -> Plan:
        """Every wording of the split, counterbalanced, every respondent."""
        return full_plan(self.instrument, split, self.people)

    def probabilities(self, split: str, preface: str = "", prompt: torch.Tensor | None = None) -> NDArray[np.float32]:
        """Option probabilities (Q, 5) under a textual preface or a soft prompt (tokens, hidden)."""
        plan = self.plan(split)
        sheet = self.respondent.sheet(plan.texts(preface), [question.labels for question in plan.questions])
        soft = torch.zeros(1, 0, self.respondent.frozen.hidden) if prompt is None else prompt[None]
        answered: NDArray[np.float32] = self.respondent.answer(soft, sheet)[0]
        return answered

    def raw(self, preface: str) -> Array:
        """Raw scores (6,) on the searched wordings."""
        return raw_scores(self.plan("searched").item_means(self.probabilities("searched", preface)))

    def measure(
        self, culture: Culture, constant: Array, preface: str = "", prompt: torch.Tensor | None = None
    ) -> dict[str, Any]:
        """Loss, interval, dimensions and answers of one arm on both splits."""
        return {
            split: summarise(self.plan(split), self.probabilities(split, preface, prompt), culture.target, constant)
            for split in SPLITS
        }


def summarise(plan: Plan, probabilities: NDArray[np.floating[Any]], target: Array, constant: Array) -> dict[str, Any]:
    """One arm on one split.

    Parameters
    ----------
    plan
        What was asked.
    probabilities
        (Q, 5).
    target, constant
        (6,) each.

    Returns
    -------
    dict
        `loss`; `interval` and `dimension_intervals` (95 %, percentile bootstrap over respondents); `dimensions`;
        `answers`, the mean answer distribution of each item over answers 1..5, shape (24, 5); `label_shares`;
        `form_inconsistency`, see `Plan.inconsistency`.
    """
    by_person = plan.respondent_means(probabilities)  # (respondents, 24)
    scores = raw_scores(by_person.mean(axis=0)) + constant

    def statistic(people: NDArray[np.int64], axis: int = -1) -> Array:
        """Loss and dimensions (7, ...) of resampled respondents (..., people); scipy passes the last axis."""
        resampled = raw_scores(by_person[people].mean(axis=-2)) + constant
        return np.concatenate([l1_loss(resampled, target)[None], np.moveaxis(resampled, -1, 0)])

    found = bootstrap(
        (np.arange(len(by_person)),),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    intervals = np.stack([found.low, found.high], axis=1).tolist()
    return {
        "loss": float(l1_loss(scores, target)),
        "interval": intervals[0],
        "dimensions": dict(zip(DIMENSIONS, scores.tolist(), strict=True)),
        "dimension_intervals": dict(zip(DIMENSIONS, intervals[1:], strict=True)),
        "answers": answer_distributions(plan, probabilities).tolist(),
        "label_shares": label_shares(plan, probabilities),
        "form_inconsistency": float(plan.inconsistency(probabilities)),
    }


def answer_distributions(plan: Plan, probabilities: NDArray[np.floating[Any]]) -> Array:
    """Mean distribution over answers 1..5 of each item, (24, 5), from (Q, 5) in the order shown."""
    totals, counts = np.zeros((24, 5)), np.zeros(24)
    for question, shown in zip(plan.questions, np.asarray(probabilities, dtype=np.float64), strict=True):
        totals[question.item, np.array(question.values) - 1] += shown
        counts[question.item] += 1
    return np.asarray(totals / counts[:, None])


def label_shares(plan: Plan, probabilities: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Mean probability of every label: what a prompt that pushes labels would move."""
    shares: dict[str, list[float]] = {}
    for question, shown in zip(plan.questions, probabilities, strict=True):
        for label, share in zip(question.labels, shown, strict=True):
            shares.setdefault(label, []).append(float(share))
    return {label: float(np.mean(found)) for label, found in shares.items()}


def icl_preface(culture: Culture, instrument: Instrument, means: Array, constant: Array, count: int) -> str:
    """Persona line and `count` solved questions, answered the way the culture's scores imply.

    Item means that score like the target and are nearest to the frozen model's own `means` (24,) are found by least
    squares; the items that they move most become the examples, in searched wordings, each answered by the option next
    to the model's own mean on the side that the culture lies.
    """
    if not np.isfinite(means).all():
        return culture.persona()
    known = np.isfinite(culture.target)
    gap = (culture.target - constant - raw_scores(means))[known]
    implied = np.clip(means + np.linalg.pinv(WEIGHTS[known]) @ gap, 1.0, 5.0)
    chosen = np.argsort(-np.abs(implied - means), kind="stable")[:count]
    lines = [culture.persona()]
    for turn, index in enumerate(chosen):
        item = instrument.items[index]
        order, labels = COMBINATIONS[turn % len(COMBINATIONS)]
        question = ask(instrument, int(index), item.searched[turn % len(item.searched)], order, labels)
        towards = np.floor(implied[index]) if implied[index] < means[index] else np.ceil(implied[index])
        answer = labels[question.values.index(int(towards))]
        lines.append(f"{question.text()} {answer}")
    return "\n".join(lines)
