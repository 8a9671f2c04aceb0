"""Additively separable losses: telling them by crossover, and minimising them coordinate by coordinate.

If f(x) is a sum of functions of one coordinate each, exchanging any coordinates between two points leaves the
sum of their losses as it was. The test is that of differential grouping (M. Omidvar, X. Li, Y. Mei, X. Yao,
IEEE Trans. Evolutionary Computation 18 (2014) 378-393) with random halves in place of pairs. What follows is
a global search on each line: STEP (S. Swarzberg, G. Seront, H. Bersini, "S.T.E.P.: the easiest way to
optimize a function", ICEC 1994) with parabolic and golden-section refinement between its steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TESTS", "LineSearch", "exchanged", "is_separable", "packed_lines", "unpacked_lines"]

Doubles = NDArray[np.float64]

TESTS = 3
"""Exchanges that have to agree."""

_GRID = 7
_GOLDEN = 0.381966
_PATIENCE = 12  # STEP's misses in a row after which most evaluations go to refinement
_GIVE_UP = 50  # misses in a row that end a line whose bracket is fine
_FINEST = 1e-9  # of the width: a bracket that need not be refined


def exchanged(u: Doubles) -> Doubles:
    """Two points of the unit cube and TESTS pairs that exchange halves of their coordinates.

    Parameters
    ----------
    u : ndarray, shape (2 + TESTS, d)
        Uniforms: two points, then what decides about the halves.

    Returns
    -------
    ndarray, shape (2 + 2 * TESTS, d)
    """
    a, b = u[0], u[1]
    rows = [a, b]
    for k in range(TESTS):
        half = u[2 + k] < np.median(u[2 + k])
        rows += [np.where(half, a, b), np.where(half, b, a)]
    return np.array(rows)


def is_separable(losses: Doubles) -> bool:
    """Whether the losses (2 + 2 * TESTS,) of :func:`exchanged` points are those of a sum over coordinates."""
    if not np.isfinite(losses).all():
        return False
    pairs = losses.reshape(-1, 2)
    if np.ptp(losses) == 0:
        return False  # a plateau says nothing
    with np.errstate(over="ignore", invalid="ignore"):
        sums = pairs.sum(axis=1)
        return bool((np.abs(sums - sums[0]) <= 1e-9 * np.abs(losses).max()).all())


class LineSearch:
    """Global minimisation of a function of one variable on an interval, one evaluation at a time.

    Parameters
    ----------
    low, high : float
    start : float
        A point whose value is known; values are given relative to it.

    Examples
    --------
    >>> line = LineSearch(-5.0, 5.0, 4.0)
    >>> f = lambda t: (t - 1.25) ** 2 + 2 * np.sin(5 * t) ** 2
    >>> for _ in range(80):
    ...     t = line.ask()
    ...     line.tell(t, f(t) - f(4.0))
    >>> round(line.best, 3)
    1.257
    """

    def __init__(self, low: float, high: float, start: float) -> None:
        self._low, self._high = low, high
        self._t, self._v = [start], [0.0]
        self._asked = self._misses = 0
        self._stepping = False

    @property
    def best(self) -> float:
        return self._t[int(np.argmin(self._v))]

    @property
    def least(self) -> float:
        """The value at ``best``, relative to the start's."""
        return min(self._v)

    @property
    def finished(self) -> bool:
        """Whether the bracket around the best point is as fine as needed and nothing better turns up elsewhere."""
        i = int(np.argmin(self._v))
        left = self._t[i] - self._t[i - 1] if i else 0.0
        right = self._t[i + 1] - self._t[i] if i + 1 < len(self._t) else 0.0
        fine = max(left, right) <= 2 * _FINEST * (self._high - self._low)
        return self._asked > _GRID and fine and self._misses >= _GIVE_UP

    def ask(self) -> float:
        """Where to evaluate next."""
        self._asked += 1
        if self._asked <= _GRID:
            return self._low + (self._high - self._low) * (self._asked - 1) / (_GRID - 1)
        if len(self._t) < 3:  # results are late, in steady state: nothing to go by yet
            return self._low + (self._high - self._low) * (self._asked * 0.6180339887498949 % 1.0)
        t, v = np.array(self._t), np.array(self._v)
        i = int(np.argmin(v))
        self._stepping = self._asked % (3 if self._misses < _PATIENCE else 12) == 0
        refined = None if self._stepping else self._refine(t, v, i)
        return self._step(t, v, i) if refined is None else refined

    def tell(self, t: float, value: float) -> None:
        """Take the value at t, relative to the start's; inf if it failed."""
        if self._stepping:
            self._misses = 0 if value < min(self._v) else self._misses + 1
        k = int(np.searchsorted(self._t, t))
        if k < len(self._t) and self._t[k] == t:
            return
        self._t.insert(k, float(t))
        self._v.insert(k, float(value))

    def _refine(self, t: Doubles, v: Doubles, i: int) -> float | None:
        """A parabola through the best point and its neighbours, every other time a golden section; None if fine."""
        finest = _FINEST * (self._high - self._low)
        if i in (0, len(t) - 1):
            gap = (t[1] - t[0]) if i == 0 else (t[-1] - t[-2])
            return None if gap <= finest else float(t[i] + (0.1 if i == 0 else -0.1) * gap)
        a, x, b = t[i - 1], t[i], t[i + 1]
        if b - a <= 2 * finest:
            return None
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            p = (x - a) ** 2 * (v[i] - v[i + 1]) - (x - b) ** 2 * (v[i] - v[i - 1])
            q = (x - a) * (v[i] - v[i + 1]) - (x - b) * (v[i] - v[i - 1])
            parabola = x - 0.5 * p / q
        if self._asked % 2 or not a < parabola < b or abs(parabola - x) < 1e-3 * (b - a):
            return float(x + _GOLDEN * (b - x) if b - x > x - a else x - _GOLDEN * (x - a))
        return float(parabola)

    def _step(self, t: Doubles, v: Doubles, i: int) -> float:
        """STEP: halve the interval in which the flattest parabola would beat the best value."""
        finite = v[np.isfinite(v)]
        target = 1e-3 * max(float(np.median(finite)) - v[i], 1e-300)
        root, gap = np.sqrt(v - v[i] + target), np.diff(t)
        with np.errstate(divide="ignore"):
            difficulty = np.where(gap > 1e-6 * (self._high - self._low), (root[:-1] + root[1:]) / gap, np.inf)
        j = int(np.argmin(difficulty))
        if not np.isfinite(difficulty[j]):
            j = int(np.argmax(gap))
            return float(t[j] + 0.5 * gap[j])
        return float(t[j] + gap[j] * np.clip(root[j] / (root[j] + root[j + 1]), 0.25, 0.75))


def packed_lines(lines: list[LineSearch]) -> dict[str, Any]:
    """Line searches as a few arrays."""
    return {
        "low": np.array([line._low for line in lines]), "high": np.array([line._high for line in lines]),
        "length": np.array([len(line._t) for line in lines], dtype=np.int64),
        "t": np.concatenate([line._t for line in lines]), "v": np.concatenate([line._v for line in lines]),
        "asked": np.array([line._asked for line in lines], dtype=np.int64),
        "misses": np.array([line._misses for line in lines], dtype=np.int64),
        "stepping": np.array([line._stepping for line in lines]),
    }  # fmt: skip


def unpacked_lines(state: Mapping[str, Any]) -> list[LineSearch]:
    """Line searches from the arrays that they were packed into."""
    columns = {name: np.asarray(values).tolist() for name, values in state.items()}
    lines, start = [], 0
    for k, length in enumerate(columns["length"]):
        line = LineSearch(columns["low"][k], columns["high"][k], 0.0)
        line._t, line._v = columns["t"][start : start + length], columns["v"][start : start + length]
        line._asked, line._misses = columns["asked"][k], columns["misses"][k]
        line._stepping = bool(columns["stepping"][k])
        lines.append(line)
        start += length
    return lines
