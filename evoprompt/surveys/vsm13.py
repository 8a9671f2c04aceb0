"""Scoring formulas of the Values Survey Module 2013 (Hofstede & Minkov, VSM 2013 manual)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from evoprompt.typing import Doubles

DIMENSION_NAMES = {
    "pdi": "Power distance",
    "idv": "Individualism",
    "mas": "Masculinity",
    "uai": "Uncertainty avoidance",
    "lto": "Long-term orientation",
    "ivr": "Indulgence",
}
"""What Hofstede's six dimensions are called, by key."""

DIMENSIONS = tuple(DIMENSION_NAMES)
"""Their keys, in the order of all arrays of scores."""

# dimension: (weight, item, item): weight * (mean of first - mean of second)
FORMULAS = {
    "pdi": ((35, 7, 2), (25, 20, 23)),
    "idv": ((35, 4, 1), (35, 9, 6)),
    "mas": ((35, 5, 3), (35, 8, 10)),
    "uai": ((40, 18, 15), (25, 21, 24)),
    "lto": ((40, 13, 14), (25, 19, 22)),
    "ivr": ((35, 12, 11), (40, 17, 16)),
}

WEIGHTS = np.zeros((len(DIMENSIONS), 24))
for _row, _dimension in enumerate(DIMENSIONS):
    for _weight, _plus, _minus in FORMULAS[_dimension]:
        WEIGHTS[_row, [_plus - 1, _minus - 1]] += _weight, -_weight


def raw_scores(means: ArrayLike) -> Doubles:
    """Dimension scores without the constant C.

    Parameters
    ----------
    means
        Mean answers, 1..5, shape (..., 24), item 1 first.

    Returns
    -------
    ndarray
        Shape (..., 6), in the order of `DIMENSIONS`.

    Raises
    ------
    ValueError
        The last axis does not hold 24 items.

    Source: VSM 2013 manual; MAS with 35 on both terms.

    >>> raw_scores(np.full(24, 3.0)).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    values = np.asarray(means, dtype=np.float64)
    if values.shape[-1:] != (24,):
        raise ValueError(f"expected the means of 24 items on the last axis, got shape {values.shape}")
    return values @ WEIGHTS.T


def l1_loss(scores: ArrayLike, target: ArrayLike) -> Doubles:
    """Mean absolute distance to the target over the dimensions that the target has.

    Parameters
    ----------
    scores
        Shape (..., 6).
    target
        Shape (6,), NaN where the culture has no published score.

    Returns
    -------
    ndarray
        Shape (...), in points of the 0..100 scale.

    >>> float(l1_loss([10, 0, 0, 0, 0, 0], [0, 0, np.nan, 0, 0, 0]))
    2.0
    """
    wanted = np.asarray(target, dtype=np.float64)
    known = np.isfinite(wanted)
    distance = np.abs(np.asarray(scores, dtype=np.float64)[..., known] - wanted[known])
    return np.asarray(distance.mean(axis=-1))
