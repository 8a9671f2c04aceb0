"""The figures of answers, on cases whose value is known."""

from __future__ import annotations

import pytest

from experiments.answer_figures import alignment, completeness, coverage, diversity, published_figures


def test_alignment_is_one_for_the_target_and_none_for_its_opposite() -> None:
    assert alignment([1, 0], [[1, 0]]) == pytest.approx(1)
    assert alignment([1, 0], [[0, 1]]) == pytest.approx(0)
    assert alignment([0.5, 0.5], [[1, 0], [0, 1]]) == pytest.approx(1), "against the mean of the relevant cultures"


def test_diversity_counts_positions_and_not_who_takes_them() -> None:
    assert diversity([0, 0, 0]) == 0
    assert diversity([0, 0, 1, 1]) == pytest.approx(1)
    assert diversity([0, 1, 2, 3]) == pytest.approx(2)


def test_completeness_is_the_share_of_aspects_that_are_addressed() -> None:
    assert completeness("Take your shoes off and bow.", [["shoes"], ["bow", "nod"], ["gift"]]) == pytest.approx(2 / 3)


def test_an_empty_or_refused_answer_covers_nothing() -> None:
    assert coverage(["Yes.", " ", "I cannot."], [False, False, True]) == pytest.approx(1 / 3)


def test_the_published_alignment_is_one_whoever_is_chosen() -> None:
    found = published_figures([{"usa"}, {"japan", "china"}], [{"usa"}, {"china"}], [5, 9])
    assert found["cultural_alignment"] == 1
    wrong = published_figures([{"egypt"}, {"kenya"}], [{"egypt"}, {"kenya"}], [5, 9])
    assert wrong["cultural_alignment"] == 1, "which is why it is called circular"
