"""Arms: intervals, examples, and what a label bias can gain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evoprompt.llm import FrozenModel, Respondent
from evoprompt.study.arms import SurveyPanel, icl_preface, label_shares, people_table, summarise
from evoprompt.surveys import (
    Plan,
    balanced_plan,
    full_plan,
    get_culture,
    raw_scores,
    sample_respondents,
    vsm13,
)

ARAB = get_culture("arab")


@pytest.fixture(scope="module")
def naive(pocket: FrozenModel) -> SurveyPanel:
    return SurveyPanel(Respondent(pocket), vsm13(), sample_respondents(3, 0))


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


def test_answers_that_are_missing_are_filled_in_and_an_item_without_any_has_no_score() -> None:
    plan = full_plan(vsm13(), "searched", sample_respondents(4, 0))
    shares = np.random.default_rng(0).dirichlet(np.ones(5), len(plan.questions))
    whole = summarise(plan, shares, ARAB.target, np.zeros(6))
    silent = shares.copy()
    silent[::5] = np.nan
    some = summarise(plan, silent, ARAB.target, np.zeros(6))
    assert some["interval"][0] <= some["loss"] <= some["interval"][1]
    assert some["loss"] == pytest.approx(whole["loss"], abs=5.0)
    mean = plan.item_means(np.stack([shares, silent]))
    kept = [[i for i in places if plan.questions[i].item == 3 and i % 5] for places in plan.forms.values()]
    assert mean[1, 3] == pytest.approx(np.mean([plan.expected(shares)[places].mean() for places in kept]))
    np.testing.assert_array_equal(mean[0], plan.item_means(np.stack([shares, shares]))[0])
    silent[[question.item == 6 for question in plan.questions]] = np.nan
    lost = summarise(plan, silent, ARAB.target, np.zeros(6))
    assert np.isnan([lost["loss"], *lost["interval"]]).all()
    assert np.isfinite(lost["form_inconsistency"])
    assert np.isnan(lost["answers"]).any(axis=1).tolist() == [item == 6 for item in range(24)]


def test_a_respondent_who_is_silent_on_an_item_leaves_it_to_the_others() -> None:
    plan = full_plan(vsm13(), "searched", sample_respondents(3, 0))
    shares = np.random.default_rng(0).dirichlet(np.ones(5), len(plan.questions))
    shares[[question.respondent == 0 and question.item == 6 for question in plan.questions]] = np.nan
    found = summarise(plan, shares, ARAB.target, np.zeros(6))
    assert np.isfinite([found["loss"], *found["interval"], *found["dimensions"].values()]).all()
    table = people_table("naive", "searched", plan, shares)
    assert table.set_index(["respondent", "item"])["answer_1"].isna().sum() == 1


def test_examples_answer_the_way_the_culture_would(naive: SurveyPanel) -> None:
    means = naive.plan("searched").item_means(naive.probabilities("searched"))
    constant = ARAB.target - raw_scores(means) + np.array([30.0, 0, 0, 0, 0, 0])  # PDI must fall by 30
    preface = icl_preface(ARAB, vsm13(), means, constant, 4)
    assert preface.startswith("You are from the Arab countries.")
    assert preface.count("Answer: ") == 4
    asked = {item.number for item in vsm13().items for wording in item.searched if wording in preface}
    assert asked <= {7, 2, 20, 23}, "only items of power distance need to move"
    implied_up = {7: True, 20: True, 2: False, 23: False}  # the culture's PDI lies 30 below the model's: all reversed
    for item in asked:
        answered = _answers(preface, item)
        assert all((answer < means[item - 1]) == implied_up[item] for answer in answered)
    held_out = [wording for item in vsm13().items for wording in item.held_out]
    assert not any(wording in preface for wording in held_out)


def _answers(preface: str, number: int) -> list[int]:
    """Scale values that the examples about one item gave."""
    found = []
    for part in preface.split("Options: ")[1:]:
        if not any(f"Question: {wording}\n" in part for wording in vsm13().items[number - 1].searched):
            continue
        label = part.split("Answer: ")[1].split("\n")[0]
        option = next(entry for entry in part.split(".\n")[0].split("; ") if entry.startswith(f"{label} = "))
        found.append(vsm13().scales[vsm13().items[number - 1].scale].index(option.split(" = ")[1]) + 1)
    return found


def pushed(plan: Plan, shares: np.ndarray, label: str | None, position: int | None) -> np.ndarray:
    """What the model would answer if a prompt did nothing but push one option label or one position, hard."""
    logits = np.log(shares)
    for row, question in zip(logits, plan.questions, strict=True):
        if label in question.labels:
            row[question.labels.index(label)] += 12.0
        if position is not None:
            row[position] += 12.0
    moved = np.exp(logits - logits.max(axis=1, keepdims=True))
    return moved / moved.sum(axis=1, keepdims=True)


def worst_move_away_from_indifference(panel: SurveyPanel, plan: Plan) -> float:
    """The most that any single push moves any item's mean answer further from the middle of the scale, in steps."""
    sheet = panel.respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    shares = panel.respondent.answer(torch.zeros(1, 0, panel.respondent.frozen.hidden), sheet)[0]
    own = np.abs(plan.item_means(shares) - 3.0)
    pushes = [(label, None) for label in "12345ABCDE"] + [(None, position) for position in range(5)]
    moved = [np.abs(plan.item_means(pushed(plan, shares, *push)) - 3.0) - own for push in pushes]
    return float(np.max(moved))


def test_pushing_a_label_or_position_can_only_erase_opinions_when_counterbalanced(naive: SurveyPanel) -> None:
    assert worst_move_away_from_indifference(naive, balanced_plan(vsm13())) < 0.02
    assert worst_move_away_from_indifference(naive, balanced_plan(vsm13(), counterbalanced=False)) > 1.0


def test_a_push_shows_as_inconsistency_between_forms(naive: SurveyPanel) -> None:
    plan = balanced_plan(vsm13())
    sheet = naive.respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    shares = naive.respondent.answer(torch.zeros(1, 0, naive.respondent.frozen.hidden), sheet)[0]
    assert plan.inconsistency(shares) < 0.1
    assert plan.inconsistency(pushed(plan, shares, "1", None)) > 0.5


def test_label_shares_sum_to_one_within_a_label_set() -> None:
    plan = full_plan(vsm13(), "searched")
    shares = label_shares(plan, np.random.default_rng(0).dirichlet(np.ones(5), len(plan.questions)))
    assert sum(shares[label] for label in "12345") == pytest.approx(1.0)
    assert sum(shares[label] for label in "ABCDE") == pytest.approx(1.0)
