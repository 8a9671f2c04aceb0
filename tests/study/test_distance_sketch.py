"""Sketches of candidates: what distances they keep, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from evoprompt.study.journal import SKETCH, distance_sketches


@pytest.mark.parametrize("d", [1, 64, 4096])
def test_distances_between_sketches_estimate_those_between_candidates(d: int) -> None:
    x = np.random.default_rng(0).normal(size=(60, d)) * np.linspace(0.1, 3, d)
    true, estimated = (points.var(axis=0, ddof=1).sum() for points in (x, distance_sketches(x)))
    assert estimated == pytest.approx(true, rel=0.6 if d == 1 else 0.35)


def test_candidates_that_draw_together_have_sketches_that_draw_together() -> None:
    x = np.random.default_rng(1).normal(size=(30, 500))
    near, far = distance_sketches(x / 10), distance_sketches(x)
    np.testing.assert_allclose(near, far / 10, rtol=1e-5, atol=1e-6)


def test_a_sketch_does_not_depend_on_company_or_order() -> None:
    x = np.random.default_rng(2).normal(size=(33, 1000)).astype(np.float32)
    together = distance_sketches(x)
    assert together.dtype == np.float32
    assert together.shape == (33, len(SKETCH))
    alone = np.concatenate([distance_sketches(row[None]) for row in x])
    assert together.tobytes() == alone.tobytes()
    assert distance_sketches(x[::-1])[::-1].tobytes() == together.tobytes()
    assert distance_sketches(np.asfortranarray(x)).tobytes() == together.tobytes()
    assert distance_sketches(x[:0]).shape == (0, len(SKETCH))


def test_the_projection_is_the_same_in_every_process() -> None:
    np.testing.assert_allclose(distance_sketches(np.eye(3))[2, :3], [0.468992770, -0.183642447, 0.014059973], rtol=1e-6)
