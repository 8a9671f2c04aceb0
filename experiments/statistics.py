"""Intervals and tests of the experiments, all by scipy, with fixed seeds: the same numbers give the same text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, false_discovery_control, permutation_test

from evoprompt.report.numbers import RESAMPLES, mean_interval
from evoprompt.typing import Doubles

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paired:
    """Mean of a - b with its 95 % interval, and the two-sided p of the hypothesis that their order is chance."""

    difference: float
    low: float
    high: float
    p: float


def interval(samples: Sequence[NDArray[np.generic]], statistic: Callable[..., Doubles]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic of independent samples, each resampled by itself.

    Parameters
    ----------
    samples
        (n_i,) each.
    statistic
        As `scipy.stats.bootstrap` takes it, vectorised: `statistic(*samples, axis)` over the last axis.
    """
    found = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        vectorized=True,
        paired=False,
        method="percentile",
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def paired(a: ArrayLike, b: ArrayLike) -> Paired:
    """Compare (n,) values with (n,) others of the same cases: bootstrap over cases, permutation test within them.

    >>> round(paired([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]).p, 3)
    0.125
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    difference, low, high = mean_interval(left - right)

    def mean_difference(x: Doubles, y: Doubles, axis: int = -1) -> Doubles:
        return np.asarray((x - y).mean(axis=axis))

    return Paired(difference, low, high, permuted((left, right), mean_difference))


def permuted(samples: tuple[NDArray[np.generic], NDArray[np.generic]], statistic: Callable[..., Doubles]) -> float:
    """Two-sided p of a paired permutation test, exact where there are few pairs.

    `statistic(x, y, axis)` is taken of the pairs with any of them exchanged. NaN where it is not finite, and of one
    pair alone: there is nothing to exchange.

    >>> permuted((np.array([1.0]), np.array([2.0])), lambda x, y, axis: (x - y).mean(axis=axis))
    nan
    """
    if len(samples[0]) < 2 or not np.isfinite(statistic(*samples, axis=-1)).all():
        return float("nan")
    found = permutation_test(
        samples,
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def adjusted(p: Sequence[float]) -> list[float]:
    """p-values adjusted for that there are many of them, by Benjamini and Hochberg's false discovery rate; NaN stays.

    >>> adjusted([0.01, float("nan"), 0.04])
    [0.02, nan, 0.04]
    """
    found = np.array(p, dtype=np.float64)
    known = np.isfinite(found)
    if known.any():
        found[known] = false_discovery_control(found[known])
    return [float(value) for value in found]
