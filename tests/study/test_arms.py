"""Arms: intervals, examples, and what a label bias can gain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evoprompt.llm import FrozenModel, Respondent
from evoprompt.study.arms import Evaluator, icl_preface, label_shares, summarise
from evoprompt.surveys import (
    Plan,
    balanced_plan,
    full_plan,
    get_culture,
    l1_loss,
    raw_scores,
    sample_respondents,
    vsm13,
)

ARAB = get_culture("arab")


@pytest.fixture(scope="module")
def naive(pocket: FrozenModel) -> Evaluator:
    return Evaluator(Respondent(pocket), vsm13(), sample_respondents(3, 0))


def test_the_interval_holds_the_loss_and_is_narrow_when_respondents_agree() -> None:
    plan = full_plan(vsm13(), "searched", sample_respondents(4, 0))
    shares = np.random.default_rng(0).dirichlet(np.ones(5), len(plan.questions))
    found = summarise(plan, shares, ARAB.target, np.zeros(6))
    low, high = found["interval"]
    assert low < found["loss"] < high
    same = np.zeros((len(plan.questions), 5))
    for row, question in zip(same, plan.questions, strict=True):
        row[question.values.index(1 + question.item % 5)] = 1.0
    alike = summarise(plan, same, ARAB.target, np.zeros(6))
    assert alike["interval"] == pytest.approx([alike["loss"]] * 2)


def test_examples_answer_the_way_the_culture_would(naive: Evaluator) -> None:
    means = naive.plan("searched").item_means(naive.probabilities("searched"))
    constant = ARAB.target - raw_scores(means) + np.array([30.0, 0, 0, 0, 0, 0])  # PDI must fall by 30
    preface = icl_preface(ARAB, vsm13(), means, constant, 4)
    assert preface.startswith("You are from the Arab countries.")
    assert preface.count("Answer: ") == 4
    asked = {item.number for item in vsm13().items for wording in item.searched if wording in preface}
    assert asked <= {7, 2, 20, 23}, "only items of power distance need to move"
    held_out = [wording for item in vsm13().items for wording in item.held_out]
    assert not any(wording in preface for wording in held_out)


def biased(plan: Plan, shares: np.ndarray, label: str, strength: float) -> np.ndarray:
    """What the model would answer if a prompt only pushed one option label."""
    logits = np.log(shares)
    for row, question in zip(logits, plan.questions, strict=True):
        if label in question.labels:
            row[question.labels.index(label)] += strength
    pushed = np.exp(logits - logits.max(axis=1, keepdims=True))
    return pushed / pushed.sum(axis=1, keepdims=True)


def best_gain(evaluator: Evaluator, plan: Plan) -> float:
    """The most that any single-label bias lowers the loss, in points, starting from the model's own answers."""
    sheet = evaluator.respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    shares = evaluator.respondent.answer(torch.zeros(1, 0, evaluator.respondent.frozen.hidden), sheet)[0]
    fresh = raw_scores(plan.item_means(shares))
    gains = []
    for culture in map(get_culture, ("arab", "usa", "china", "india")):
        # C makes the naive answers wrong by the culture's distance from the mean of the matrix
        constant = np.array([59.0, 45.0, 49.0, 67.0, 46.0, 45.0]) - fresh
        before = l1_loss(fresh + constant, culture.target)
        for label in "12345ABCDE":
            for strength in (-4.0, -1.0, 1.0, 4.0):
                scores = raw_scores(plan.item_means(biased(plan, shares, label, strength))) + constant
                gains.append(float(before - l1_loss(scores, culture.target)))
    return max(gains)


def test_pushing_a_label_gains_far_less_than_without_counterbalancing(naive: Evaluator) -> None:
    counterbalanced = best_gain(naive, balanced_plan(vsm13()))
    open_to_bias = best_gain(naive, balanced_plan(vsm13(), counterbalanced=False))
    assert open_to_bias > 2 * max(counterbalanced, 0.5)


def test_label_shares_sum_to_one_within_a_label_set() -> None:
    plan = full_plan(vsm13(), "searched")
    shares = label_shares(plan, np.random.default_rng(0).dirichlet(np.ones(5), len(plan.questions)))
    assert sum(shares[label] for label in "12345") == pytest.approx(1.0)
    assert sum(shares[label] for label in "ABCDE") == pytest.approx(1.0)
