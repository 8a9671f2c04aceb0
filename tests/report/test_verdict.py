"""What the numbers say in words, and at which thresholds a reader is warned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from evoprompt.report.cautions import gains, label_shift, warnings
from evoprompt.report.numbers import relation
from evoprompt.report.verdict import verdict

Metrics = dict[str, Any]


def set_loss(metrics: Metrics, arm: str, loss: float, split: str = "held_out", spread: float = 0.5) -> None:
    metrics["arms"][arm][split] |= {"loss": loss, "interval": [loss - spread, loss + spread]}


def titles(metrics: Metrics, config: Mapping[str, Any] | None = None) -> list[str]:
    return [warning.title for warning in warnings(metrics, config or {})]


def test_a_clear_fall_names_its_size_and_both_ends(metrics: Metrics) -> None:
    said = verdict(metrics)
    assert said.headline == "The held-out loss fell by 50%, from 20.0 to 10.0 points."
    assert said.tone == "good"
    assert said.comparisons == (
        "Better than a plain persona line (10.0 against 15.0).",
        "Better than in-context examples (10.0 against 17.0).",
    )


def test_the_verdict_is_about_held_out_wordings_only(metrics: Metrics) -> None:
    set_loss(metrics, "evolved", 1.0, "searched")
    assert "to 10.0 points" in verdict(metrics).headline


def test_overlapping_intervals_are_no_clear_change(metrics: Metrics) -> None:
    set_loss(metrics, "evolved", 19.0)
    set_loss(metrics, "naive", 20.0)
    said = verdict(metrics)
    assert said.headline.startswith("No clear change")
    assert said.tone == "flat"


def test_a_distinct_but_small_fall_is_called_slight(metrics: Metrics) -> None:
    set_loss(metrics, "naive", 20.0, spread=0.01)
    set_loss(metrics, "evolved", 19.5, spread=0.01)
    said = verdict(metrics)
    assert "fell only slightly" in said.headline
    assert said.tone == "flat"


def test_a_rise_is_called_a_rise(metrics: Metrics) -> None:
    set_loss(metrics, "evolved", 30.0)
    said = verdict(metrics)
    assert said.headline == "The held-out loss rose by 50%, from 20.0 to 30.0 points."
    assert said.tone == "bad"


def test_a_fall_that_a_persona_line_beats_says_so_in_the_headline(metrics: Metrics) -> None:
    set_loss(metrics, "persona", 5.0)
    said = verdict(metrics)
    assert said.headline.endswith("but a plain persona line does better.")
    assert said.tone == "flat"
    assert said.comparisons[0] == "Worse than a plain persona line (10.0 against 5.0)."


def test_an_arm_that_was_not_measured_is_not_compared_with(metrics: Metrics) -> None:
    del metrics["arms"]["icl"]
    assert len(verdict(metrics).comparisons) == 1


def test_a_loss_that_is_not_a_number_is_not_called_a_fall(metrics: Metrics) -> None:
    set_loss(metrics, "evolved", float("nan"))
    assert verdict(metrics).headline == "The held-out loss could not be measured."


def held_out(metrics: Metrics, key: str, naive: float, evolved: float) -> None:
    for arm, value in (("naive", naive), ("evolved", evolved)):
        metrics["arms"][arm]["held_out"][key] = value


def confirm(metrics: Metrics, naive: float, evolved: float, invalid: float = 0.0) -> None:
    metrics["confirmation"] = {
        arm: {"loss": loss, "interval": [loss - 0.5, loss + 0.5], "dimensions": {}, "invalid_rate": rate}
        for arm, loss, rate in (("naive", naive, 0.0), ("evolved", evolved, invalid))
    }


def test_a_fall_under_which_the_model_stops_answering_is_no_success(metrics: Metrics) -> None:
    held_out(metrics, "label_mass", 1.0, 0.013)
    said = verdict(metrics)
    assert said.headline.endswith("to 10.0 points, but the model then puts 1% of its words on the labels.")
    assert said.tone == "bad"
    assert said.comparisons[0] == "Lower than a plain persona line, but no better (10.0 against 15.0)."
    held_out(metrics, "label_mass", 0.4, 0.49)
    assert verdict(metrics).tone == "flat", "the model seldom said a label before, too"
    held_out(metrics, "label_mass", 1.0, 0.5)
    assert verdict(metrics).tone == "good"


@pytest.mark.parametrize(("rate", "tone"), [(0.1, "good"), (0.11, "flat"), (0.94, "bad")])
def test_a_fall_of_answers_that_choose_no_option_is_no_success(metrics: Metrics, rate: float, tone: str) -> None:
    held_out(metrics, "invalid_rate", 0.0, rate)
    said = verdict(metrics)
    assert said.tone == tone
    assert (f"but {rate:.0%} of the answers then choose no option" in said.headline) == (tone != "good")


@pytest.mark.parametrize(
    ("naive", "evolved", "invalid", "tone", "said", "title"),
    [
        (20.0, 12.0, 0.0, "good", "to 10.0 points.", None),
        (20.0, 19.5, 0.0, "good", "to 10.0 points.", "Free text confirms it only in part"),
        (20.0, 21.0, 0.0, "flat", "it did not fall: 21.0 against 20.0 points", "Free text does not confirm it"),
        (20.0, float("nan"), 0.0, "bad", "gives some item no valid answer", "Free text does not confirm it"),
        (20.0, 5.0, 0.94, "bad", "94% of the answers then choose no option", "Free text does not confirm it"),
        (float("nan"), 5.0, 0.0, "flat", "free text could not confirm it", "Free text does not confirm it"),
    ],
)
def test_a_fall_must_stand_in_free_text_where_that_was_asked(
    metrics: Metrics, naive: float, evolved: float, invalid: float, tone: str, said: str, title: str | None
) -> None:
    confirm(metrics, naive, evolved, invalid)
    found = verdict(metrics)
    assert said in found.headline
    assert found.tone == tone
    assert titles(metrics) == ([title] if title else [])


def test_a_rise_is_not_said_to_be_doubtful(metrics: Metrics) -> None:
    set_loss(metrics, "evolved", 30.0)
    held_out(metrics, "label_mass", 1.0, 0.0)
    assert verdict(metrics).headline == "The held-out loss rose by 50%, from 20.0 to 30.0 points."


def test_a_small_share_of_words_on_labels_is_not_called_none(metrics: Metrics) -> None:
    held_out(metrics, "label_mass", 1.0, 0.0004)
    assert "puts under 1% of its words on the labels" in verdict(metrics).headline
    (found,) = warnings(metrics, {})
    assert "100% (no prompt) and under 1% (evolved prompt)" in found.text


def test_a_loss_that_could_not_be_measured_is_named_and_not_compared(metrics: Metrics) -> None:
    metrics["arms"]["persona"]["held_out"] |= {"loss": float("nan"), "interval": [float("nan")] * 2}
    (found,) = warnings(metrics, {})
    assert found.text.endswith("persona line (held-out).")
    assert verdict(metrics).comparisons[0].startswith("Not comparable with a plain persona line (10.0 against –)")
    set_loss(metrics, "evolved", float("nan"), "searched")
    assert titles(metrics) == ["A loss could not be measured"]


def test_touching_intervals_overlap() -> None:
    assert relation({"interval": [1, 2]}, {"interval": [2, 3]}) == "same"


def test_the_cost_is_said_as_a_ratio_and_a_divergence(metrics: Metrics) -> None:
    assert "rose by 5% (×1.05)" in verdict(metrics).cost
    assert "0.100 nats" in verdict(metrics).cost
    metrics["cost"]["perplexity_ratio"] = 0.9
    assert "fell by 10%" in verdict(metrics).cost


def test_a_clean_run_has_no_warnings(metrics: Metrics) -> None:
    assert titles(metrics) == []


def test_the_pocket_model_is_called_a_simulator_that_says_nothing_about_people(metrics: Metrics) -> None:
    metrics["model"] = "pocket"
    (found,) = warnings(metrics, {})
    assert "simulator" in found.text
    assert "nothing about people" in found.text


@pytest.mark.parametrize(("ratio", "warned"), [(1.2, False), (1.2001, True), (0.5, False)])
def test_perplexity_warns_above_twenty_per_cent(metrics: Metrics, ratio: float, warned: bool) -> None:
    metrics["cost"]["perplexity_ratio"] = ratio
    assert ("The prompt harms the model's text" in titles(metrics)) is warned


@pytest.mark.parametrize("ratio", [None, float("nan"), float("inf")])
def test_an_unknown_perplexity_warns(metrics: Metrics, ratio: float | None) -> None:
    metrics["cost"]["perplexity_ratio"] = ratio
    assert titles(metrics) == ["Cost unknown"]


@pytest.mark.parametrize(("held_out", "warned"), [(15.0, False), (15.01, True), (25.0, True)])
def test_a_held_out_gain_below_half_of_the_searched_gain_warns(metrics: Metrics, held_out: float, warned: bool) -> None:
    set_loss(metrics, "evolved", held_out)
    assert gains(metrics)["searched"] == 10.0
    assert ("The gain does not carry over to new wordings" in titles(metrics)) is warned


def test_a_search_without_any_gain_says_that_instead(metrics: Metrics) -> None:
    set_loss(metrics, "evolved", 20.0, "searched")
    assert titles(metrics) == ["The search found nothing"]


@pytest.mark.parametrize(("share", "warned"), [(0.3, False), (0.31, True), (0.09, True)])
def test_a_label_that_moves_by_more_than_ten_points_warns(metrics: Metrics, share: float, warned: bool) -> None:
    metrics["arms"]["evolved"]["held_out"]["label_shares"]["C"] = share
    moved = label_shift(metrics)
    assert moved is not None
    assert (moved.label, moved.before, moved.after, moved.kin) in (("C", 0.2, share, ("3",)), ("3", 0.2, 0.2, ("C",)))
    assert ("The prompt pushes an option label" in titles(metrics)) is warned


def set_labels(metrics: Metrics, **shares: float) -> None:
    for label, share in shares.items():
        metrics["arms"]["evolved"]["held_out"]["label_shares"][label.removeprefix("_")] = share


def test_a_change_of_opinion_moves_a_label_and_its_kin_and_does_not_warn(metrics: Metrics) -> None:
    set_labels(metrics, A=0.38, E=0.36, _1=0.35, _5=0.37, B=0.08, D=0.08, _2=0.09, _4=0.07, C=0.1, _3=0.12)
    moved = label_shift(metrics)
    assert moved is not None
    assert abs(moved.own) < 0.03
    assert titles(metrics) == []


@pytest.mark.parametrize(
    ("shares", "label", "words"),
    [
        ({"A": 0.45, "E": 0.1}, "A", "Label “A” went from 20% to 45% of the answers"),
        ({"A": 0.4, "_1": 0.4, "E": 0.12, "_5": 0.12}, "1", "more than 5, A and E"),
        ({"C": 0.05, "A": 0.25}, "C", "15 percentage points less than 3"),
    ],
)
def test_a_label_that_moves_without_its_kin_warns(
    metrics: Metrics, shares: dict[str, float], label: str, words: str
) -> None:
    set_labels(metrics, **shares)
    moved = label_shift(metrics)
    assert moved is not None
    assert moved.label == label
    (found,) = warnings(metrics, {})
    assert found.title == "The prompt pushes an option label"
    assert words in found.text


def test_runs_without_label_shares_do_not_warn_about_labels(metrics: Metrics) -> None:
    del metrics["arms"]["naive"]["held_out"]["label_shares"]
    assert label_shift(metrics) is None
    assert titles(metrics) == []


@pytest.mark.parametrize("absent", [True, False])
def test_missing_target_dimensions_are_named(metrics: Metrics, absent: bool) -> None:
    metrics["target"]["mas"] = None
    if absent:
        del metrics["target"]["lto"]
    (found,) = warnings(metrics, {})
    assert "Masculinity" in found.text
    assert ("Long-term orientation" in found.text) is absent


def test_failed_evaluations_are_counted(metrics: Metrics) -> None:
    metrics["failed"] = 2
    (found,) = warnings(metrics, {})
    assert "2 of 40 (5.0%)" in found.text


def test_a_search_that_was_not_counterbalanced_warns(metrics: Metrics) -> None:
    assert titles(metrics, {"survey": {"counterbalanced": False}}) == ["The search was not counterbalanced"]
    assert titles(metrics, {"survey": {"counterbalanced": True}}) == []
