"""Intervals and tests of means over runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from evoprompt.typing import Doubles

RESAMPLES = 5000
FEWEST_PAIRS = 5  # with fewer no permutation test can give a p under 0.1


def mean_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Mean of some values and its 95 % percentile bootstrap bounds; NaN for these where there are fewer than two.

    >>> mean_interval([2.0, 2.0]), mean_interval([2.0])
    ((2.0, 2.0, 2.0), (2.0, nan, nan))
    """
    from scipy.stats import bootstrap

    known = np.asarray(values, dtype=np.float64)
    if len(known) < 2:
        return float(known[0]) if len(known) else float("nan"), float("nan"), float("nan")
    found = bootstrap(
        (known,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(known.mean()), float(found.low), float(found.high)


def paired_p(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p of a paired permutation test of equal means, exact where there are few pairs; None for under five.

    >>> paired_p([1, 2, 3, 4, 5], [2, 3, 4, 5, 6])
    0.0625
    """
    from scipy.stats import permutation_test

    if len(a) < FEWEST_PAIRS:
        return None

    def difference(x: Doubles, y: Doubles, axis: int) -> Doubles:
        return np.asarray((x - y).mean(axis=axis))

    found = permutation_test(
        (a, b), difference, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)
