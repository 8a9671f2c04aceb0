"""What follows from the dimension, the budget and the share of it that is spent.

Every function of ``progress`` takes a number from 0 to 1. Without a budget the engine does not know it; the
variants then stay as they are at the beginning: no shrinking, the first phase throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Leaders",
    "Schedule",
    "Size",
    "arrde_size",
    "constant",
    "fixed_share",
    "linear",
    "nearest",
    "random_share",
    "shrinking_share",
    "truncated_linear",
]

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

Size = Callable[[int, int | None], float]
"""The paper's population size for d coordinates and a budget."""

Schedule = Callable[[int, int, float, int], int]
"""Members that should be left: (initial size, minimum, progress, d) to a number."""

Leaders = Callable[[Doubles, int, float], Indices]
"""How many best members count as p-best: (uniforms (n,), population size, progress) to (n,)."""


def nearest(value: float) -> int:
    """Rounded as C's round does, halves up."""
    return math.floor(value + 0.5)


def constant(initial: int, minimum: int, progress: float, d: int) -> int:
    """The same size throughout."""
    return initial


def linear(initial: int, minimum: int, progress: float, d: int) -> int:
    """Linear population size reduction (Tanabe & Fukunaga 2014, eq. 10).

    Examples
    --------
    >>> [linear(100, 4, progress, 10) for progress in (0, 0.5, 1)]
    [100, 52, 4]
    """
    return nearest((minimum - initial) * progress + initial)


def truncated_linear(initial: int, minimum: int, progress: float, d: int) -> int:
    """Linear reduction rounded down, as in L-SRTDE's program."""
    return int((minimum - initial) * progress + initial)


def arrde_size(initial: int, minimum: int, progress: float, d: int) -> int:
    """ARRDE: a fall to max(4, d / 2) at nine tenths of the budget, steeper for few coordinates; then a second wave.

    From Muzakka et al.'s program (Minion, ``ARRDE::adjustPopulationSize``).

    Examples
    --------
    >>> [arrde_size(100, 4, progress, 20) for progress in (0, 0.5, 0.9, 0.91, 1)]
    [100, 28, 10, 37, 10]
    """
    least = max(4.0, 0.5 * d)
    if progress <= 0.9:
        power = 1.0 + 4.303 * math.exp(-0.073 * d)
        return nearest(initial - (initial - least) * (1 - (1 - progress / 0.9) ** power))
    second = max(2.0 * d, 0.2 * initial)
    return nearest(second - (second - least) * (progress - 0.9) / 0.1)


def random_share(u: Doubles, m: int, progress: float) -> Indices:
    """SHADE: p_i drawn from [2 / N, 0.2] for each trial (Tanabe & Fukunaga 2013, eq. 8)."""
    least = 2 / m
    p = least + u * max(0.2 - least, 0.0)
    return np.maximum(np.floor(p * m).astype(np.int64), 2)


def fixed_share(p: float) -> Leaders:
    """The same share of the population always, two members at least (JADE, L-SHADE)."""

    def leaders(u: Doubles, m: int, progress: float) -> Indices:
        return np.full(len(u), max(nearest(p * m), 2))

    return leaders


def shrinking_share(p: float) -> Leaders:
    """jSO: from p at the beginning to p / 2 at the end (Brest, Maucec & Boskovic 2017)."""

    def leaders(u: Doubles, m: int, progress: float) -> Indices:
        return np.full(len(u), max(nearest(p * (1 - 0.5 * progress) * m), 2))

    return leaders
