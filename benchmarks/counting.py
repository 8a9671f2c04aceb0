"""An objective that counts: the budget, the box and the targets are held here, outside every method."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evoprompt.typing import Doubles

__all__ = ["TARGETS", "BudgetSpent", "Counted"]

Recommend = Callable[[], ArrayLike | None]

TARGETS: Doubles = 10.0 ** np.linspace(2, -8, 51)
"""Errors whose first reaching is noted, from 100 down to 1e-8."""


class BudgetSpent(Exception):  # noqa: N818
    """Raised in the middle of a method that would go on; what it would have learnt no longer counts."""


class Counted:
    """Counts the evaluations of one run and keeps the best point inside the box.

    Points outside the box are evaluated and cost an evaluation, but are never the best.

    Parameters
    ----------
    one : callable
        A point (d,) to its loss.
    many : callable, optional
        Points (n, d) to losses (n,); made of ``one`` if not given.
    low, high : array_like, shape (d,)
    budget : int
        Most evaluations that count.
    f_opt : float
        The least value there is, to turn losses into errors.
    checkpoints : sequence of int
        Numbers of evaluations at which the recommended point is kept, for noisy objectives. Without any, a
        run whose error is below the last target ends as if its budget were spent.
    """

    def __init__(
        self,
        one: Callable[[Any], float],
        low: ArrayLike,
        high: ArrayLike,
        budget: int,
        *,
        f_opt: float = -np.inf,
        many: Callable[[Any], ArrayLike] | None = None,
        checkpoints: Sequence[int] = (),
    ) -> None:
        self._one, self._many = one, many
        self.low: Doubles = np.array(low, dtype=np.float64)
        self.high: Doubles = np.array(high, dtype=np.float64)
        self.d = len(self.low)
        self.budget, self.f_opt = budget, f_opt
        self.used = 0
        self.best_x: Doubles | None = None
        self.best_loss = np.inf
        self.hits: list[int] = []
        self.recommendations: list[tuple[int, Doubles]] = []
        self.gains: list[tuple[int, float]] = []
        self.lenient = False
        self.ended: float | None = None
        self._checkpoints = [*checkpoints, 0][::-1] if checkpoints else []
        self._next = self._checkpoints.pop() if self._checkpoints else -1
        self._recommend: Recommend | None = None
        self._start_best = np.inf
        self._start_x: Doubles | None = None
        self._former: tuple[int, Doubles] | None = None
        self._began = 0

    @property
    def noisy(self) -> bool:
        """Whether recommended points are kept instead of targets."""
        return self._next >= 0

    @property
    def left(self) -> int:
        """Evaluations that still count; 0 once the last target is reached."""
        return 0 if len(self.hits) == len(TARGETS) else self.budget - self.used

    def begin(self, recommend: Recommend | None = None) -> None:
        """A method starts, or restarts.

        Parameters
        ----------
        recommend : callable, optional
            The point (d,) the method recommends at any time, where that is not the best one observed.
        """
        length = self.used - self._began
        if np.isfinite(self._start_best) and (self._former is None or length > self._former[0]):
            self._former = (length, self.recommended())
        self._start_best, self._start_x, self._began = np.inf, None, self.used
        self._recommend = recommend

    def recommended(self) -> Doubles:
        """What the longest start recommends, inside the box: single losses cannot be trusted under noise."""
        if self._former is not None and self._former[0] >= self.used - self._began:
            return self._former[1]
        x = None if self._recommend is None else self._recommend()
        if x is None or not np.isfinite(np.asarray(x, dtype=np.float64)).all():
            x = self._start_x if self._start_x is not None else (self.low + self.high) / 2
        return np.clip(np.asarray(x, dtype=np.float64), self.low, self.high)

    def __call__(self, x: Any) -> float:
        """The loss of one point (d,).

        Raises
        ------
        BudgetSpent
            If nothing is left and the method can be stopped so; ``lenient`` ones get inf.
        """
        if self.left <= 0:
            return self._refuse()
        loss = float(self._one(x))
        self._count(x, loss)
        return loss

    def batch(self, x: ArrayLike) -> Doubles:
        """The losses (n,) of points (n, d); where the budget ends within them, see ``__call__``."""
        points = np.asarray(x, dtype=np.float64)
        if self._many is None:
            return np.array([self(row) for row in points])
        take = min(self.left, len(points))
        losses = np.full(len(points), np.inf)
        if take > 0:
            losses[:take] = np.asarray(self._many(points[:take]), dtype=np.float64)
        for row, loss in zip(points[:take], losses[:take].tolist(), strict=True):
            self._count(row, loss)
        if take < len(points):
            self._refuse()
        return losses

    def _refuse(self) -> float:
        if self.ended is None:
            self.ended = time.process_time()
        if self.lenient:
            return np.inf
        raise BudgetSpent

    def _count(self, x: Any, loss: float) -> None:
        self.used += 1
        if loss < self._start_best and self._inside(x):
            self._start_best, self._start_x = loss, np.array(x, dtype=np.float64)
            if loss < self.best_loss:
                self.best_loss, self.best_x = loss, self._start_x
                self.gains.append((self.used, loss))
                error = loss - self.f_opt
                while not self.noisy and len(self.hits) < len(TARGETS) and error <= TARGETS[len(self.hits)]:
                    self.hits.append(self.used)
        if self.used == self._next:
            self.recommendations.append((self.used, self.recommended()))
            self._next = self._checkpoints.pop()

    def _inside(self, x: Any) -> bool:
        point = np.asarray(x)
        return bool((point >= self.low).all() and (point <= self.high).all())
