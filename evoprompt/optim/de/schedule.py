"""What follows from the dimension, the budget and the share of it that is spent.

Every function of ``progress`` takes a number from 0 to 1. Without a budget the engine does not know it; the
variants then stay as they are at the beginning: no shrinking, the first phase throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evoprompt.optim.engine.starting import default_popsize
from evoprompt.typing import Doubles, Indices

__all__ = [
    "Leaders",
    "Members",
    "Schedule",
    "Share",
    "Size",
    "by_budget",
    "constant",
    "full",
    "linear",
    "nearest",
    "random_share",
]

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
    """Linear population size reduction (Tanabe & Fukunaga 2014, L-SHADE, eq. 10).

    Examples
    --------
    >>> [linear(100, 4, progress, 10) for progress in (0, 0.5, 1)]
    [100, 52, 4]
    """
    return nearest((minimum - initial) * progress + initial)


def random_share(u: Doubles, m: int, progress: float) -> Indices:
    """SHADE: p_i drawn from [2 / N, 0.2] for each trial (Tanabe & Fukunaga 2013, eq. 8)."""
    least = 2 / m
    p = least + u * max(0.2 - least, 0.0)
    return np.maximum(np.floor(p * m).astype(np.int64), 2)


@dataclass(frozen=True)
class Share:
    """The share p of the population, two members at least; with ``end`` it goes there linearly."""

    p: float
    end: float | None = None

    def __call__(self, u: Doubles, m: int, progress: float) -> Indices:
        p = self.p if self.end is None else self.p + (self.end - self.p) * progress
        return np.full(len(u), max(nearest(p * m), 2))


@dataclass(frozen=True)
class Members:
    """So many members, and so many more for each coordinate."""

    fixed: int = 0
    each: int = 0

    def __call__(self, d: int, budget: int | None) -> float:
        return self.fixed + self.each * d


def by_budget(d: int, budget: int | None) -> float:
    """The size that the budget can turn over often enough."""
    return default_popsize(budget)


def full(progress: float) -> float:
    """The step towards p-best has the scale F."""
    return 1.0
