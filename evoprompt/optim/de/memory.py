"""How F and CR are chosen for each trial, and what is learnt from the trials that beat their parents."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Doubles, Indices

__all__ = ["NORMAL", "UNIFORMS", "Adaptation", "lehmer", "normal_rate", "positive_cauchy"]

NORMAL = NormalDist()
_QUANTILE = NORMAL.inv_cdf

UNIFORMS = 4
"""How many uniforms per trial an adaptation may use."""


class Adaptation(Stateful):
    """Chooses F and CR for trials and learns from those that beat their parents; this one keeps both as they are.

    Parameters
    ----------
    f, cr : float
        The variant's; a subclass is given ``memory`` and ``popsize``, its cells and members, as well.
    """

    def __init__(self, f: float, cr: float, **_: Any) -> None:
        self._f, self._cr = f, cr

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        """F (n,) and CR (n,) for trials that are made to replace the members ``target``, from u (n, UNIFORMS)."""
        return np.full(len(u), self._f), np.full(len(u), self._cr)

    def adopt(self, slots: Indices, f: Doubles, cr: Doubles) -> None:
        """The members at ``slots`` were replaced by trials made with these parameters."""

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Take in one generation's successes: their F, CR and improvements > 0, each (s,)."""

    def keep(self, members: Indices) -> None:
        """Only these members are left, in this order."""


def positive_cauchy(location: Doubles | float, scale: float, u: Doubles) -> Doubles:
    """Cauchy numbers above 0, cut at 1.

    The papers redraw F until it is positive. Mapping the uniform onto the part of the distribution above 0
    gives exactly that from one uniform.
    """
    at_zero = 0.5 - np.arctan(location / scale) / np.pi
    quantile = at_zero + u * (1 - at_zero)
    return (location + scale * np.tan(np.pi * (quantile - 0.5))).clip(0.0, 1.0)


def normal_rate(mean: Doubles | float, deviation: float, u: Doubles) -> Doubles:
    """Normal numbers cut to [0, 1], by inversion of u in [0, 1)."""
    # Importing scipy.special costs a third of a second and 28 MB, twice a whole population at 40 960 coordinates.
    scores = np.array([_QUANTILE(value) for value in np.maximum(u, 2.0**-54).tolist()])
    scores *= deviation
    scores += mean
    return scores.clip(0.0, 1.0)


def lehmer(values: Doubles, weights: Doubles, otherwise: float) -> float:
    """Weighted Lehmer mean, sum w v^2 / sum w v; ``otherwise`` where all values are 0."""
    denominator = float((weights * values).sum())
    return float((weights * values * values).sum()) / denominator if denominator > 0 else float(otherwise)
