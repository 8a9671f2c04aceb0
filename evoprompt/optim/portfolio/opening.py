"""What the self-tuning search consists of: stages that follow one another.

A stage makes points for the slots of its generations and learns from them; :mod:`evoprompt.optim.portfolio.staged`
decides which follows which. Here are the opening and the line searches; :mod:`evoprompt.optim.portfolio.gaussian` has
the learnt distribution. Stages think in the unit space, where the box is [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.engine.algorithm import Results
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.starting import initial_points
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.optim.portfolio.lines import (
    TESTS,
    LineSearch,
    exchanged,
    is_separable,
    packed_lines,
    unpacked_lines,
)

__all__ = ["LineStage", "Opening", "Stage"]

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

_OPENINGS = 5  # generations that wait for an outstanding test


class Stage(Protocol):
    """One stage of the self-tuning search."""

    over: bool

    @property
    def size(self) -> int: ...
    def make(self, ids: Indices, slots: Indices) -> Floats:
        """Points of the box (n, d) for slots."""
        ...

    def select(self, results: Results) -> None:
        """Take results in; they count when the generation ends."""
        ...

    def end_generation(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...


class Opening:
    """Starting points: those given, a test for separability, and a Latin hypercube.

    Parameters
    ----------
    box : Box
    streams : TrialStreams
    size : int
        At least so many points.
    given : ndarray, shape (m, d), optional
        Points to begin with.
    test : bool
        Whether to spend 2 + 2 * TESTS of the points on the test.
    repeats : int
        How often the last point is evaluated again, to see whether the loss is noisy.

    Attributes
    ----------
    free : int
        Points that known ones could stand in for: those of the hypercube.
    """

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
        self._generations = 0
        self._some_finite = False
        self._again = False
        self.over = False

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

    def state_dict(self) -> dict[str, Any]:
        return {
            "x": self._x.copy(), "losses": self._losses.copy(), "heard": self._heard.copy(),
            "first_test": self._first_test, "tests": self._tests, "generations": self._generations,
            "repeats": self._repeats, "free": self.free, "some_finite": self._some_finite, "again": self._again,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._x, self._losses = np.array(state["x"]), np.array(state["losses"])
        self._heard, self._generations = np.array(state["heard"]), int(state["generations"])
        self._first_test, self._tests = int(state["first_test"]), int(state["tests"])
        self._repeats, self.free = int(state["repeats"]), int(state["free"])
        self._some_finite, self._again = bool(state["some_finite"]), bool(state["again"])


class LineStage:
    """A line search along every coordinate at once, for losses that are sums over coordinates.

    Parameters
    ----------
    space : UnitSpace
    z : ndarray, shape (d,)
        Where to begin.
    loss : float
        The loss there.
    batch : int
        Most lines in a generation. Where the best coordinates have changed, one more point checks their combination.
    """

    _QUIET_ROUNDS = 12

    def __init__(self, space: UnitSpace, z: Doubles, loss: float, batch: int) -> None:
        self._space, self._batch = space, max(1, min(batch, space.d))
        self._z, self._loss = z.copy(), float(loss)
        self._checked = (self._z.copy(), self._loss)  # the last combination that was evaluated, and its loss
        self._first_loss = float(loss)
        self._offsets = np.zeros(space.d)  # value of each line at z, relative to its start
        self._lines = [LineSearch(0.0, 1.0, float(t)) for t in z]
        self._next = self._since_gain = self._plans = self._failed_checks = 0
        self._made: dict[
            int, tuple[int, float, float, float, int]
        ] = {}  # trial: line (-1: check), t, offset, base, plan
        self._told: dict[int, float] = {}
        self.over = self.misfit = False
        self._plan()

    def _plan(self) -> None:
        d = self._space.d
        self._plans += 1
        self._chosen: list[int] = []
        for k in range(d):
            i = (self._next + k) % d
            if not self._lines[i].finished:
                self._chosen.append(i)
                if len(self._chosen) == self._batch:
                    break
        self._targets = [self._lines[i].ask() for i in self._chosen]
        if self._chosen:
            self._next = (self._chosen[-1] + 1) % d
        self._checking = bool((self._z != self._checked[0]).any())
        self._handed: set[int] = set()

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
        self.over = not self._chosen or self._since_gain > self._QUIET_ROUNDS * self._space.d

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

    def state_dict(self) -> dict[str, Any]:
        return {
            "z": self._z.copy(), "loss": self._loss, "first_loss": self._first_loss, "batch": self._batch,
            "checked_z": self._checked[0].copy(), "checked_loss": self._checked[1],
            "offsets": self._offsets.copy(), "lines": packed_lines(self._lines),
            "next": self._next, "since_gain": self._since_gain, "plans": self._plans,
            "failed_checks": self._failed_checks, "chosen": list(self._chosen),
            "targets": list(self._targets), "checking": self._checking,
            "handed": sorted(self._handed), "made": [[trial, *row] for trial, row in self._made.items()],
            "told": [[trial, loss] for trial, loss in self._told.items()],
        }  # fmt: skip

    @classmethod
    def from_state(cls, space: UnitSpace, state: Mapping[str, Any]) -> LineStage:
        self = cls(space, np.array(state["z"]), float(state["loss"]), int(state["batch"]))
        self._checked = (np.array(state["checked_z"]), float(state["checked_loss"]))
        self._first_loss, self._offsets = float(state["first_loss"]), np.array(state["offsets"])
        self._lines = unpacked_lines(state["lines"])
        self._next, self._since_gain = int(state["next"]), int(state["since_gain"])
        self._failed_checks = int(state["failed_checks"])
        self._plans, self._checking = int(state["plans"]), bool(state["checking"])
        self._chosen, self._targets = [int(i) for i in state["chosen"]], [float(t) for t in state["targets"]]
        self._handed = {int(slot) for slot in state["handed"]}
        self._made = {
            int(trial): (int(i), float(t), float(offset), float(base), int(plan))
            for trial, i, t, offset, base, plan in state["made"]
        }
        self._told = {int(trial): float(loss) for trial, loss in state["told"]}
        return self
