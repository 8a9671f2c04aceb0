"""Line searches: minimising a sum over coordinates coordinate by coordinate.

A global search on each line: STEP (S. Swarzberg, G. Seront, H. Bersini, "S.T.E.P.: the easiest way to optimize a
function", ICEC 1994) with parabolic and golden-section refinement between its steps.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

from evoprompt.optim.engine.algorithm import Results
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["LineSearch", "LineStage"]


_GRID = 7
_GOLDEN = 0.381966
_PATIENCE = 12  # STEP's misses in a row after which most evaluations go to refinement
_GIVE_UP = 50  # misses in a row that end a line whose bracket is fine
_QUIET_ROUNDS = 12  # without a gain on any line that end the stage
_FINEST = 1e-9  # of the width: a bracket that need not be refined


class LineSearch(Stateful):
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

    _low: float
    _high: float
    _t: list[float]
    _v: list[float]
    """Values at these points, which ascend."""
    _asked: int = 0
    _misses: int = 0
    _stepping: bool = False

    def __init__(self, low: float, high: float, start: float) -> None:
        self._low, self._high = low, high
        self._t, self._v = [start], [0.0]

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


class LineStage(Stateful):
    """A line search along every coordinate at once, for losses that are sums over coordinates.

    Parameters
    ----------
    z : ndarray, shape (d,)
        Where to begin.
    loss : float
        The loss there.
    batch : int
        Most lines in a generation. Where the best coordinates have changed, one more point checks their combination.
    """

    kind: str = "lines"
    _z: Doubles
    _loss: float
    _checked: tuple[Doubles, float]
    """The last combination that was evaluated, and its loss."""
    _first_loss: float
    _batch: int
    _offsets: Doubles
    """Value of each line at z, relative to its start."""
    _next: int = 0
    _since_gain: int = 0
    _plans: int = 0
    _failed_checks: int = 0
    _made: dict[int, tuple[int, float, float, float, int]]
    """Of each trial: line (-1: check), t, offset, base, plan."""
    _told: dict[int, float]
    _chosen: list[int]
    _targets: list[float]
    _checking: bool
    _handed: set[int]
    _lines: list[LineSearch]

    def __init__(self, space: UnitSpace, z: Doubles, loss: float, batch: int) -> None:
        self._space, self._batch = space, max(1, min(batch, space.d))
        self._z, self._loss, self._first_loss = z.copy(), float(loss), float(loss)
        self._checked = (self._z.copy(), self._loss)
        self._offsets = np.zeros(space.d)
        self._lines = [LineSearch(0.0, 1.0, float(t)) for t in z]
        self._made, self._told = {}, {}
        self.over = self.misfit = False
        self._plan()

    def _plan(self) -> None:
        d = self._space.d
        self._plans += 1
        ordered = (i % d for i in range(self._next, self._next + d))
        self._chosen = list(islice((i for i in ordered if not self._lines[i].finished), self._batch))
        self._targets = [self._lines[i].ask() for i in self._chosen]
        if self._chosen:
            self._next = (self._chosen[-1] + 1) % d
        self._checking = bool((self._z != self._checked[0]).any())
        self._handed = set()

    @property
    def size(self) -> int:
        return len(self._chosen) + self._checking

    def make(self, ids: Indices, slots: Indices) -> Floats:
        z = np.tile(self._z, (len(slots), 1))
        for row, trial, slot in zip(z, ids.tolist(), slots.tolist(), strict=True):
            if slot >= len(self._chosen):
                self._made[trial] = (-1, 0.0, 0.0, 0.0, self._plans)
                continue
            i, t = self._chosen[slot], self._targets[slot]
            if slot in self._handed:  # asked ahead: somewhere else on the line
                t = trial * 0.6180339887498949 % 1.0
            self._handed.add(slot)
            row[i] = t
            self._made[trial] = (i, t, float(self._offsets[i]), self._loss, self._plans)
        return self._space.point(z)

    def select(self, results: Results) -> None:
        for trial, loss, violation in zip(results.id.tolist(), results.loss, results.violation, strict=True):
            if trial in self._made:
                self._told[trial] = np.inf if violation > 0 else float(loss)

    def end_generation(self) -> None:
        told = [(self._made.pop(trial), loss) for trial, loss in sorted(self._told.items())]
        self._told = {}
        checks = [loss for (i, _, _, _, plan), loss in told if i < 0 and plan == self._plans]
        before = self._loss
        if checks and self._settle(checks[0]):
            return
        total = 0.0
        for (i, t, offset, base, plan), loss in told:
            if i < 0:
                continue
            # The check is of the same generation, so that rounding cannot add up from one to the next.
            value = loss - (self._loss if plan == self._plans else base) + offset
            better = value < self._lines[i].least
            self._lines[i].tell(t, value)
            if better:
                total += value - self._offsets[i]
                self._z[i], self._offsets[i] = t, value
        spread = abs(self._first_loss - before) + abs(total)
        self._loss += total
        self._since_gain = 0 if -total > 1e-13 * spread else self._since_gain + len(self._chosen)
        self._plan()
        self.over = not self._chosen or self._since_gain > _QUIET_ROUNDS * self._space.d

    def _settle(self, checked: float) -> bool:
        """Compare the combination's loss with what the lines promise; True if it ends the stage."""
        if not np.isfinite(checked):
            self._failed_checks += 1
            self.misfit = self.over = self._failed_checks >= 3
            return self.over
        slack = 1e-4 * abs(self._first_loss - self._loss) + 1e-9 * max(abs(self._loss), abs(self._first_loss))
        self.misfit = self.over = abs(checked - self._loss) > slack  # not a sum over coordinates after all
        self._checked, self._loss, self._failed_checks = (self._z.copy(), checked), checked, 0
        return self.over
