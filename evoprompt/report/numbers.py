"""Numbers as a report shows and compares them: their digits, intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evoprompt.surveys.quality import percent
from evoprompt.typing import Doubles

RESAMPLES = 5000
FEWEST_PAIRS = 5  # with fewer no permutation test can give a p under 0.1


def finite(value: Any) -> float | None:
    """A number that can be counted with; None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def number(value: Any, digits: int = 1) -> str:
    """A number with a true minus sign; a dash where there is none.

    >>> number(-1.25), number(None), number(float("nan"))
    ('−1.2', '–', '–')
    """
    if finite(value) is None:
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def share(value: Any) -> str:
    """A share in per cent; a dash where there is none.

    >>> share(0.004), share(None)
    ('under 1%', '–')
    """
    known = finite(value)
    return "–" if known is None else percent(known)


def interval(bounds: Sequence[Any], digits: int = 1) -> str:
    """A 95% interval; a dash where it could not be measured.

    >>> interval([1.0, 2.5]), interval([None, None])
    ('1.0 to 2.5', '–')
    """
    if any(finite(bound) is None for bound in bounds):
        return "–"
    return f"{number(bounds[0], digits)} to {number(bounds[1], digits)}"


def digits_for(*values: float) -> int:
    """One digit after the point, two where one digit would show different values as equal.

    >>> digits_for(15.31, 15.34), digits_for(15.3, 12.0)
    (2, 1)
    """
    shown = [number(value, 1) for value in values if finite(value) is not None]
    return 1 if len(set(shown)) == len(shown) else 2


def digits_of(measured: Sequence[Mapping[str, Any]]) -> int:
    """Digits that tell several arms' losses apart, and the two ends of each interval.

    >>> digits_of([{"loss": 15.3, "interval": [15.31, 15.34]}])
    2
    """
    ends = (digits_for(*one["interval"]) for one in measured)
    return max(digits_for(*(one["loss"] for one in measured)), *ends)


def relation(ours: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """`lower`, `higher` or `same`: how one loss stands to another; overlapping intervals count as the same.

    >>> relation({"interval": [1, 2]}, {"interval": [3, 4]})
    'lower'
    """
    if ours["interval"][1] < other["interval"][0]:
        return "lower"
    if ours["interval"][0] > other["interval"][1]:
        return "higher"
    return "same"


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
