"""Scoring formulas and losses."""

from __future__ import annotations

import numpy as np
import pytest

from evoprompt.surveys import DIMENSIONS, l1_loss, raw_scores


def literal_scores(m: dict[int, float]) -> dict[str, float]:
    """The manual's formulas, written out."""
    return {
        "pdi": 35 * (m[7] - m[2]) + 25 * (m[20] - m[23]),
        "idv": 35 * (m[4] - m[1]) + 35 * (m[9] - m[6]),
        "mas": 35 * (m[5] - m[3]) + 35 * (m[8] - m[10]),
        "uai": 40 * (m[18] - m[15]) + 25 * (m[21] - m[24]),
        "lto": 40 * (m[13] - m[14]) + 25 * (m[19] - m[22]),
        "ivr": 35 * (m[12] - m[11]) + 40 * (m[17] - m[16]),
    }


def test_scores_equal_the_manuals_formulas_on_random_means() -> None:
    rng = np.random.default_rng(0)
    for means in rng.uniform(1, 5, (20, 24)):
        expected = literal_scores({number: means[number - 1] for number in range(1, 25)})
        np.testing.assert_allclose(raw_scores(means), [expected[name] for name in DIMENSIONS])


def test_raw_ranges_are_those_of_the_formulas() -> None:
    corners = np.where(np.random.default_rng(1).random((20000, 24)) < 0.5, 1.0, 5.0)
    assert np.abs(raw_scores(corners)).max(axis=0).tolist() == [240, 280, 280, 260, 260, 300]


def test_scores_of_a_batch_are_those_of_its_rows() -> None:
    means = np.random.default_rng(2).uniform(1, 5, (3, 4, 24))
    assert raw_scores(means).shape == (3, 4, 6)
    np.testing.assert_allclose(raw_scores(means)[1, 2], raw_scores(means[1, 2]))


def test_a_wrong_number_of_items_is_refused() -> None:
    with pytest.raises(ValueError, match="24 items"):
        raw_scores(np.zeros(23))


def test_dimensions_without_a_target_do_not_count() -> None:
    target = [np.nan, 10, np.nan, np.nan, 20, np.nan]
    assert l1_loss([99, 12, 99, 99, 16, 99], target) == pytest.approx(3.0)
