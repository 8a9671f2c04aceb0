"""Biases towards labels and positions gain nothing when questions are counterbalanced."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.surveys import Plan, balanced_plan, full_plan, raw_scores, sample_respondents, vsm13
from evoprompt.surveys.questions import LABEL_SETS

LABELS = [label for labels in LABEL_SETS for label in labels]
biases = st.lists(st.floats(-20, 20), min_size=15, max_size=15)


def answers_of_a_biased_model(plan: Plan, bias: list[float]) -> np.ndarray:
    """Option probabilities (Q, 5) of a model that looks at nothing but the label and the position of an option."""
    by_label = dict(zip(LABELS, bias[:10], strict=True))
    logits = np.array([[by_label[label] + bias[10 + j] for j, label in enumerate(q.labels)] for q in plan.questions])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


@given(bias=biases)
@settings(max_examples=60, deadline=None)
def test_every_pure_bias_scores_exactly_like_no_bias(bias: list[float]) -> None:
    plan = balanced_plan(vsm13(), respondents=sample_respondents(4, 1))
    scores = raw_scores(plan.item_means(answers_of_a_biased_model(plan, bias)))
    np.testing.assert_allclose(scores, 0.0, atol=1e-9)


def test_without_counterbalancing_a_pure_bias_moves_the_answers() -> None:
    plan = balanced_plan(vsm13(), counterbalanced=False)
    bias = [8.0] + [0.0] * 14
    assert abs(plan.item_means(answers_of_a_biased_model(plan, bias)).mean() - 3.0) > 1.5


def test_every_item_gets_both_orders_under_both_label_sets() -> None:
    plan = balanced_plan(vsm13())
    for item in range(24):
        kinds = {(q.labels, q.values) for q in plan.questions if q.item == item}
        assert len(kinds) == 4


def test_the_search_never_asks_a_held_out_wording() -> None:
    held_out = {text for item in vsm13().items for text in item.held_out}
    asked = {question.wording for question in balanced_plan(vsm13()).questions}
    assert not asked & held_out
    assert {question.wording for question in full_plan(vsm13(), "held_out").questions} == held_out


def test_answers_are_mapped_back_to_the_scale() -> None:
    plan = full_plan(vsm13(), "searched")
    always_two = np.array([[float(value == 2) for value in question.values] for question in plan.questions])
    np.testing.assert_allclose(plan.item_means(always_two), 2.0)


def test_respondents_answers_average_to_item_means() -> None:
    plan = full_plan(vsm13(), "searched", sample_respondents(3, 0))
    shares = np.random.default_rng(0).dirichlet(np.ones(5), len(plan.questions))
    by_respondent = plan.respondent_answers(shares)
    np.testing.assert_allclose(by_respondent.sum(axis=-1), 1.0)
    np.testing.assert_allclose(by_respondent.mean(axis=0) @ np.arange(1, 6), plan.item_means(shares))


def test_respondents_are_the_same_for_the_same_seed() -> None:
    assert sample_respondents(9, 4) == sample_respondents(9, 4)
    assert sample_respondents(9, 4) != sample_respondents(9, 5)
