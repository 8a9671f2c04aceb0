"""Culture targets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evoprompt.errors import UserError
from evoprompt.surveys import anchored_constant, choose_anchors, committee, cultures, custom_culture, get_culture


def test_known_rows_of_the_matrix() -> None:
    assert get_culture("arab").target.tolist() == [80, 38, 53, 68, 23, 34]
    assert get_culture("usa").target.tolist() == [40, 91, 62, 46, 26, 68]
    assert get_culture("china").target.tolist() == [80, 20, 66, 30, 87, 24]
    assert get_culture("japan").target.tolist() == [54, 46, 95, 92, 88, 42]


def test_all_65_complete_rows_are_cultures() -> None:
    assert sum(culture.complete and culture.edition == "2015-12" for culture in cultures().values()) == 65


def test_saudi_arabia_has_its_own_documented_target() -> None:
    saudi = get_culture("saudi_arabia")
    assert saudi.target.tolist() == [72, 48, 43, 64, 27, 14]
    assert "estimates" in saudi.note


def test_the_committee_has_twenty_complete_cultures() -> None:
    assert len({culture.key for culture in committee()}) == 20
    assert all(culture.complete for culture in committee())


def test_incomplete_rows_have_the_dimensions_they_have() -> None:
    israel = get_culture("israel")
    assert math.isnan(israel.target[5])
    assert np.isfinite(israel.target[:5]).all()


def test_an_unknown_culture_offers_close_names() -> None:
    with pytest.raises(UserError, match="did you mean arab"):
        get_culture("arabb")


@pytest.mark.parametrize("value", [201, -101, "high", None, True, math.nan])
def test_a_target_out_of_range_or_not_a_number_is_refused(value: object) -> None:
    with pytest.raises(UserError, match="must be a number from -100 to 200"):
        custom_culture("mine", None, {"pdi": value})


def test_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean pdi"):
        custom_culture("mine", None, {"pdl": 80})


def test_the_tuned_culture_is_never_an_anchor() -> None:
    chosen = choose_anchors([get_culture("japan"), get_culture("usa")], get_culture("japan"))
    assert [anchor.key for anchor in chosen] == ["usa"]
    with pytest.raises(UserError, match="other than the tuned one"):
        choose_anchors([get_culture("japan")], get_culture("japan"))


def test_anchoring_makes_the_anchors_mean_score_their_published_mean() -> None:
    anchors = [get_culture("japan"), get_culture("usa")]
    raw = np.random.default_rng(0).normal(0, 30, (2, 6))
    constant = anchored_constant(anchors, raw).array
    np.testing.assert_allclose((raw + constant).mean(axis=0), np.mean([a.target for a in anchors], axis=0))
