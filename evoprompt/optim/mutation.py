"""Mutation: from a population to donors, one function per strategy.

Every strategy takes a :class:`Pool`, the target slots, the scale factors and uniforms, and returns donors (n,
d).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["STRATEGIES", "UNIFORMS", "Pool", "best_1", "current_to_pbest_1", "distinct", "rand_1"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

UNIFORMS = 4
"""How many uniforms per trial a strategy may use."""

_P_MAX = 0.2  # SHADE: p_i is drawn from [2 / N, 0.2]


class Pool(NamedTuple):
    """What donors are made from."""

    x: Floats
    """Population, (m, d)."""
    order: Indices
    """Slots of the members with a finite loss, best first, (k,) with k >= 1."""
    archive: Floats
    """Archived parents, (a, d); a may be 0."""


def rand_1(pool: Pool, slots: Indices, f: Floats, u: NDArray[np.float64]) -> Floats:
    """DE/rand/1: v = x_r1 + F (x_r2 - x_r3) (Storn & Price 1997, "Differential evolution", eq. 2)."""
    m = len(pool.x)
    r1 = distinct(u[:, 0], m, slots)
    r2 = distinct(u[:, 1], m, slots, r1)
    r3 = distinct(u[:, 2], m, slots, r1, r2)
    return pool.x[r1] + f[:, None] * (pool.x[r2] - pool.x[r3])


def best_1(pool: Pool, slots: Indices, f: Floats, u: NDArray[np.float64]) -> Floats:
    """DE/best/1: v = x_best + F (x_r1 - x_r2) (Storn & Price 1997, in the DE/x/y/z notation)."""
    m = len(pool.x)
    best = np.full(len(slots), pool.order[0])
    r1 = distinct(u[:, 0], m, slots)
    r2 = distinct(u[:, 1], m, slots, r1)
    return pool.x[best] + f[:, None] * (pool.x[r1] - pool.x[r2])


def current_to_pbest_1(pool: Pool, slots: Indices, f: Floats, u: NDArray[np.float64]) -> Floats:
    """DE/current-to-pbest/1 with archive: v = x_i + F (x_pbest - x_i) + F (x_r1 - x~_r2).

    Zhang & Sanderson 2009 (JADE), eq. 7, where x~_r2 comes from population and archive together; the share p
    is drawn per trial from [2 / N, 0.2] as in Tanabe & Fukunaga 2013 (SHADE).
    """
    m = len(pool.x)
    p_min = 2 / m
    p = p_min + u[:, 0] * max(_P_MAX - p_min, 0.0)
    leaders = np.minimum(np.maximum(np.floor(p * m), 2), len(pool.order))
    pbest = pool.order[np.floor(u[:, 1] * leaders).astype(np.int64)]
    r1 = distinct(u[:, 2], m, slots)
    r2 = distinct(u[:, 3], m + len(pool.archive), slots, r1)
    donors = pool.x[r1]
    archived = r2 >= m
    donors[~archived] -= pool.x[r2[~archived]]
    donors[archived] -= pool.archive[r2[archived] - m]
    donors += pool.x[pbest]
    donors -= pool.x[slots]
    donors *= f[:, None]
    donors += pool.x[slots]
    return donors


STRATEGIES: dict[str, Callable[[Pool, Indices, Floats, NDArray[np.float64]], Floats]] = {
    "current-to-pbest/1/bin": current_to_pbest_1,
    "rand/1/bin": rand_1,
    "best/1/bin": best_1,
}


def distinct(u: NDArray[np.float64], m: int, *taken: Indices) -> Indices:
    """Indices below m that differ from those taken, exactly uniform, one uniform each.

    Parameters
    ----------
    u : ndarray, shape (n,)
        Uniforms on [0, 1).
    m : int
        How many indices there are; more than ``len(taken)``.
    *taken : ndarray of int64, each (n,)
        Indices not to draw, pairwise different within a row.

    Examples
    --------
    >>> distinct(np.array([0.0, 0.99]), 4, np.array([0, 3]), np.array([1, 1])).tolist()
    [2, 2]
    """
    index = np.floor(u * (m - len(taken))).astype(np.int64)
    for other in np.sort(np.stack(taken), axis=0):
        index += index >= other
    return index
