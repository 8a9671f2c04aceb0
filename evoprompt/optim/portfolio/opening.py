"""The opening: starting points, and a test whether the loss is a sum over coordinates.

If f(x) is a sum of functions of one coordinate each, exchanging any coordinates between two points leaves the
sum of their losses as it was. The test is that of differential grouping (M. Omidvar, X. Li, Y. Mei, X. Yao,
IEEE Trans. Evolutionary Computation 18 (2014) 378-393) with random halves in place of pairs.
"""

from __future__ import annotations

import numpy as np

from evoprompt.optim.engine.algorithm import Results
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.starting import initial_points
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["TESTS", "Opening", "exchanged", "is_separable"]

TESTS = 3
"""Exchanges that have to agree."""


_OPENINGS = 5  # generations that wait for an outstanding test


def exchanged(u: Doubles) -> Doubles:
    """Two points of the unit cube and TESTS pairs that exchange halves of their coordinates, (2 + 2 * TESTS, d).

    The uniforms (2 + TESTS, d) are the two points, then what decides about the halves.
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


class Opening(Stateful):
    """Starting points: those given, a test for separability, and a Latin hypercube.

    Parameters
    ----------
    size : int
        At least so many points.
    given : ndarray, shape (m, d), optional
        Points to begin with.
    test : bool
        Whether to spend 2 + 2 * TESTS of the points on the test.
    repeats : int
        How often the last point is evaluated again, to see whether the loss is noisy.
    """

    kind: str = "opening"
    free: int
    """Points that known ones could stand in for: those of the hypercube."""
    _x: Floats
    _losses: Doubles
    _heard: Bools
    _first_test: int
    _tests: int
    _repeats: int
    _generations: int = 0
    _some_finite: bool = False
    _again: bool = False
    over = False

    def __init__(
        self,
        box: Box,
        space: UnitSpace,
        streams: TrialStreams,
        size: int,
        given: Floats | None,
        *,
        test: bool,
        repeats: int = 0,
    ) -> None:
        self._box, self._streams = box, streams
        rows: list[Floats] = [] if given is None else [given]
        self._first_test = sum(map(len, rows))
        if test:
            rows.append(space.point(exchanged(streams.of(0, Purpose.DESIGN).random((2 + TESTS, space.d)))))
        self._tests = 2 + 2 * TESTS if test else 0
        self.free = max(0, size - sum(map(len, rows)))
        if self.free:
            rows.append(initial_points(box, self.free, streams, None))
        rows.append(np.repeat(rows[-1][-1:], repeats, axis=0))
        self._repeats = repeats
        self._x = np.concatenate(rows)
        self._losses = np.full(len(self._x), np.nan)
        self._heard = np.zeros(len(self._x), dtype=bool)

    @property
    def size(self) -> int:
        return len(self._x)

    @property
    def separable(self) -> bool:
        """Whether the test points say that the loss is a sum over coordinates."""
        losses = self._losses[self._first_test : self._first_test + self._tests]
        return len(losses) > 0 and is_separable(losses)

    @property
    def noisy(self) -> bool:
        """Whether one point has had different losses."""
        again = self._losses[self.size - 1 - self._repeats :]
        again = again[np.isfinite(again)]
        return bool(len(again) > 1 and np.ptp(again) > 0)

    def make(self, ids: Indices, slots: Indices) -> Floats:
        if self._again:
            return self._box.from_unit(self._streams.uniforms(ids, self._box.d, Purpose.REDRAW))
        return self._x[slots]

    def select(self, results: Results) -> None:
        own = (results.id >= 0) & (results.id < self.size) & (results.slot == results.id)
        if own.any():
            self._losses[results.slot[own]] = np.where(results.violation[own] > 0, np.nan, results.loss[own])
            self._heard[results.slot[own]] = True
        self._some_finite |= bool(np.isfinite(results.loss).any())

    def end_generation(self) -> None:
        tested = self._heard[self._first_test : self._first_test + self._tests].all()
        # Without a barrier a generation may end before the test is in.
        self._generations += 1
        self.over, self._again = self._some_finite and bool(tested or self._generations > _OPENINGS), True
