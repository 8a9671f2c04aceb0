"""Biases towards labels and positions gain nothing when questions are counterbalanced."""

from __future__ import annotations

import numpy as np
from hypothesis import given
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
def test_every_pure_bias_scores_exactly_like_no_bias(bias: list[float]) -> None:
    plan = balanced_plan(vsm13(), respondents=sample_respondents(4, 1))
    scores = raw_scores(plan.item_means(answers_of_a_biased_model(plan, bias)))
    np.testing.assert_allclose(scores, 0.0, atol=1e-9)


@given(bias=biases, seed=st.integers(0, 2**31), missing=st.floats(0, 0.5), shape=st.sampled_from(["search", "full"]))
def test_a_pure_bias_scores_like_no_bias_whichever_answers_are_missing(
    bias: list[float], seed: int, missing: float, shape: str
) -> None:
    people = sample_respondents(4, 1)
    plan = balanced_plan(vsm13(), respondents=people) if shape == "search" else full_plan(vsm13(), "searched", people)
    rng = np.random.default_rng(seed)
    shares = answers_of_a_biased_model(plan, bias)
    weights = np.array([1.0 if "descending" in form else 0.2 for form in plan.forms])
    for places, weight in zip(plan.forms.values(), weights, strict=True):
        shares[places[rng.random(len(places)) < weight * missing]] = np.nan
    means = plan.item_means(shares)
    np.testing.assert_allclose(means[np.isfinite(means)], 3.0, atol=1e-9)
    if shape == "full":  # in a search each respondent answers one form
        by_respondent = plan.respondent_means(shares)
        np.testing.assert_allclose(by_respondent[np.isfinite(by_respondent)], 3.0, atol=1e-9)
    if missing < 0.3:
        assert np.isfinite(means).sum() >= 20


def test_a_search_deals_out_all_searched_wordings_of_an_item() -> None:
    survey = vsm13()
    asked: dict[int, set[str]] = {}
    for question in balanced_plan(survey).questions:
        asked.setdefault(question.item, set()).add(question.wording)
    assert asked == {index: set(item.searched) for index, item in enumerate(survey.items)}


def test_missing_answers_move_no_item_where_forms_add_the_same_to_all() -> None:
    plan = full_plan(vsm13(), "searched", sample_respondents(2, 0))
    rng = np.random.default_rng(0)
    items, added = rng.uniform(2, 4, 24), dict(zip(plan.forms, rng.uniform(-0.5, 0.5, 4), strict=True))
    shares = np.zeros((len(plan.questions), 5))
    for form, places in plan.forms.items():
        for place in places:
            question = plan.questions[place]
            answer = items[question.item] + added[form]
            for value in (int(answer), int(answer) + 1):
                shares[place, question.values.index(value)] = 1.0 - abs(answer - value)
    whole = plan.item_means(shares)
    np.testing.assert_allclose(whole, items + np.mean(list(added.values())))
    shares[rng.random(len(shares)) < 0.4] = np.nan
    np.testing.assert_allclose(plan.item_means(shares), whole)
    found = plan.respondent_means(shares)
    np.testing.assert_allclose(found, np.where(np.isfinite(found), whole, np.nan))


def test_a_form_that_is_never_answered_leaves_no_mean() -> None:
    plan = balanced_plan(vsm13())
    shares = np.random.default_rng(0).dirichlet(np.ones(5), len(plan.questions))
    assert list(plan.forms) == ["1-5 ascending", "1-5 descending", "A-E ascending", "A-E descending"]
    shares[plan.forms["A-E descending"]] = np.nan
    assert np.isnan(plan.item_means(shares)).all()
    shares[plan.forms["A-E descending"][3]] = 0.2
    assert np.isfinite(plan.item_means(shares)).all()


def test_means_of_several_candidates_are_those_of_each() -> None:
    plan = full_plan(vsm13(), "searched", sample_respondents(2, 0))
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(5), (3, len(plan.questions)))
    shares[1, rng.random(len(plan.questions)) < 0.3] = np.nan
    shares[2] = np.nan
    together, people = plan.item_means(shares), plan.respondent_means(shares)
    assert (together.shape, people.shape) == ((3, 24), (3, 2, 24))
    for one, mean, by_person in zip(shares, together, people, strict=True):
        np.testing.assert_allclose(plan.item_means(one), mean)
        np.testing.assert_allclose(plan.respondent_means(one), by_person)
    assert np.isnan(together[2]).all()
    np.testing.assert_allclose(people[0].mean(axis=0), together[0])


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
