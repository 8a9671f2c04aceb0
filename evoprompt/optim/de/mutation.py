"""Mutation: which members a donor is made from, one function per strategy, and making it.

A strategy answers with a :class:`Recipe` of row numbers and scale factors; :func:`mix` turns the recipe into
donors v = base + sum of scale (plus - minus), piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from evoprompt.optim.engine.rows import is_run
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["STRATEGIES", "Draws", "Pool", "Recipe", "Step", "Strategy", "distinct", "mix"]


class Pool(NamedTuple):
    """What donors are made from. Row numbers count on from the first matrix into the second."""

    x: Floats
    """Population, (m, d)."""
    order: Indices
    """Slots of the members that have not failed, best first, (k,) with k >= 1."""
    other: Floats
    """A second set of points, (a, d), a >= 0: the archive."""


class Draws(NamedTuple):
    """What a strategy decides from, for n trials."""

    target: Indices
    """The member each trial is made to replace, (n,)."""
    f: Doubles
    """Scale factors, (n,)."""
    leaders: Indices
    """How many of the best members count as p-best, (n,)."""
    weight: float
    """jSO's factor on the scale of the step towards p-best."""
    u: Doubles
    """Uniforms (n, 6): p-best, then r1, r2, ..."""


class Step(NamedTuple):
    """One difference vector, scale (plus - minus), each (n,)."""

    scale: Doubles
    plus: Indices
    minus: Indices


class Recipe(NamedTuple):
    """Donors v = base + the steps."""

    base: Indices
    steps: tuple[Step, ...]


def rand_1(pool: Pool, draws: Draws) -> Recipe:
    """DE/rand/1: v = x_r1 + F (x_r2 - x_r3) (Storn & Price 1997, "Differential evolution", eq. 2)."""
    r = _others(pool, draws, 3)
    return Recipe(r[0], (Step(draws.f, r[1], r[2]),))


def rand_2(pool: Pool, draws: Draws) -> Recipe:
    """DE/rand/2: v = x_r1 + F (x_r2 - x_r3) + F (x_r4 - x_r5) (Price, Storn & Lampinen 2005)."""
    r = _others(pool, draws, 5)
    return Recipe(r[0], (Step(draws.f, r[1], r[2]), Step(draws.f, r[3], r[4])))


def best_1(pool: Pool, draws: Draws) -> Recipe:
    """DE/best/1: v = x_best + F (x_r1 - x_r2) (Storn & Price 1997, in the DE/x/y/z notation)."""
    r = _others(pool, draws, 2)
    return Recipe(np.full(len(draws.f), pool.order[0]), (Step(draws.f, r[0], r[1]),))


def current_to_best_1(pool: Pool, draws: Draws) -> Recipe:
    """DE/current-to-best/1: v = x_i + F (x_best - x_i) + F (x_r1 - x_r2) (Storn 1996, scheme DE2, lambda = F)."""
    r = _others(pool, draws, 2)
    best = np.full(len(draws.f), pool.order[0])
    return Recipe(draws.target, (Step(draws.f, best, draws.target), Step(draws.f, r[0], r[1])))


def current_to_pbest_1(pool: Pool, draws: Draws) -> Recipe:
    """DE/current-to-pbest-w/1 with archive: v = x_i + F_w (x_pbest - x_i) + F (x_r1 - x~_r2).

    Zhang & Sanderson 2009 (JADE), eq. 7, where F_w = F; Brest, Maucec & Boskovic 2017 (jSO), eq. 6, where F_w
    = weight F. x~_r2 comes from population and archive together.
    """
    m = len(pool.x)
    leaders = np.minimum(draws.leaders, len(pool.order))
    pbest = pool.order[(draws.u[:, 0] * leaders).astype(np.int64)]
    r1 = distinct(draws.u[:, 1], m, draws.target)
    r2 = distinct(draws.u[:, 2], m + len(pool.other), draws.target, r1)
    f_w = draws.f if draws.weight == 1 else draws.weight * draws.f
    return Recipe(draws.target, (Step(f_w, pbest, draws.target), Step(draws.f, r1, r2)))


Strategy = Callable[[Pool, Draws], Recipe]
"""Which rows donors are made from."""

STRATEGIES: dict[str, Strategy] = {
    "rand/1": rand_1,
    "rand/2": rand_2,
    "best/1": best_1,
    "current-to-best/1": current_to_best_1,
    "current-to-pbest/1": current_to_pbest_1,
}


def mix(pool: Pool, recipe: Recipe, part: slice, out: Floats, scratch: Floats) -> None:
    """Write the donors of the recipe's rows ``part`` into ``out``; ``scratch`` has its shape and is overwritten."""
    first, *rest = recipe.steps
    together = all(step.scale is first.scale for step in rest)
    np.subtract(_rows(pool, first.plus[part], out), _rows(pool, first.minus[part], scratch), out=out)
    if not together:
        out *= _column(first.scale[part], out)
    for step in rest:
        for index, operation in ((step.plus, np.add), (step.minus, np.subtract)):
            rows = _rows(pool, index[part], scratch)
            if not together:
                rows = np.multiply(rows, _column(step.scale[part], out), out=scratch)
            operation(out, rows, out=out)
    if together:
        out *= _column(first.scale[part], out)
    out += _rows(pool, recipe.base[part], scratch)


def distinct(u: Doubles, m: int, *taken: Indices) -> Indices:
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
    index = (u * (m - len(taken))).astype(np.int64)
    for other in _ascending(taken):
        index += index >= other
    return index


def _ascending(taken: tuple[Indices, ...]) -> Iterable[Indices]:
    if len(taken) == 2:  # half of all calls, and an eighth of the time
        return np.minimum(*taken), np.maximum(*taken)
    return taken if len(taken) == 1 else np.sort(np.stack(taken), axis=0)


def _others(pool: Pool, draws: Draws, count: int) -> list[Indices]:
    taken = [draws.target]
    for k in range(count):
        taken.append(distinct(draws.u[:, 1 + k], len(pool.x), *taken))
    return taken[1:]


def _column(values: Doubles, like: Floats) -> Floats:
    return values.astype(like.dtype, copy=False)[:, None]


def _rows(pool: Pool, index: Indices, buffer: Floats) -> Floats:
    """Rows of the pool: a view for successive ones, otherwise copied into ``buffer``."""
    m = len(pool.x)
    if is_run(index):
        first, last = int(index[0]), int(index[-1])
        if last < m:
            return pool.x[first : last + 1]
        if first >= m:
            return pool.other[first - m : last - m + 1]
    pool.x.take(index, axis=0, out=buffer, mode="clip")
    if len(pool.other):
        beyond = (index >= m).nonzero()[0]
        if len(beyond):
            buffer[beyond] = pool.other[index[beyond] - m]
    return buffer
