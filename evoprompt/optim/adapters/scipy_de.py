"""scipy's differential evolution, turned inside out into ask and tell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import Bounds, differential_evolution

from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.optim.adapters.inverted import Inverted
from evoprompt.optim.engine.accounts import Settings
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.starting import initial_points
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["ScipyDE"]


_MINIMUM = 5  # scipy refuses a smaller initial population
_NO_END = 10**9


class ScipyDE(ReplayedOptimizer):
    """``scipy.optimize.differential_evolution`` with ask, tell, budget and failures handled.

    It has a generation barrier: once a generation is handed out, ``ask`` gives nothing until all of it has
    been told. Points told without being asked count as evaluations, but scipy cannot take them in.

    Parameters
    ----------
    bounds, budget, seed, popsize, dtype, x0, target, seconds
        See :class:`~evoprompt.optim.adapters.base.ReplayedOptimizer`. All bounds must be finite, popsize at
        least 5; x0 takes the first places of the initial population, a Latin hypercube otherwise.
    strategy : str
        As scipy calls it, for example "best1bin" or "rand1bin".
    integrality : array_like of bool, shape (d,), optional
        Which coordinates are whole numbers.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "scipy"

    def __init__(
        self,
        bounds: Any,
        *,
        strategy: str = "best1bin",
        integrality: ArrayLike | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        popsize = settings.get("popsize")
        if popsize is not None and popsize < _MINIMUM:
            raise ValueError(f"scipy's differential evolution needs a popsize of at least {_MINIMUM}, got {popsize!r}")
        self._strategy = strategy
        super().__init__(bounds, integrality=integrality, config={"strategy": strategy}, **settings)

    def _start(self) -> None:
        if self.popsize < _MINIMUM:
            raise ValueError(f"scipy's differential evolution needs a budget of at least {_MINIMUM}, got {self.budget}")
        self._unit_cube()  # refuses bounds that are infinite, and a box of one point
        if len(self._first) > self.popsize:
            raise ValueError(f"x0 has {len(self._first)} rows, more than the population of {self.popsize}")
        first = self._first if len(self._first) else None
        initial = initial_points(self._box, self.popsize, TrialStreams(self.seed), first).astype(np.float64)
        box = Bounds(self._box.low.astype(np.float64), self._box.high.astype(np.float64))
        evolve = partial(
            _evolve, box=box, initial=initial, seed=self.seed, strategy=self._strategy,
            integrality=self._config["integrality"],
        )  # fmt: skip
        self._engine = Inverted(evolve, "scipy's differential evolution")
        self._queue = self._engine.points()
        self._size = len(self._queue)
        self._slots: dict[int, int] = {}
        self._losses = np.full(self._size, np.nan)

    def _given(self) -> Floats:
        return self._first[:0]

    def _natural(self) -> int:
        return len(self._queue)

    def _propose(self, ids: Indices) -> Floats:
        handed, self._queue = self._queue[: len(ids)], self._queue[len(ids) :]
        start = self._size - len(self._queue) - len(handed)
        self._slots.update(zip(ids.tolist(), range(start, start + len(handed)), strict=False))
        return handed

    def _learn(self, results: list[Result]) -> None:
        for result in results:
            slot = self._slots.pop(result.id, None)
            if slot is not None:
                self._losses[slot] = result.loss
        if len(self._queue) == 0 and not self._slots:
            self._engine.answer(self._losses)
            self._queue = self._engine.points()
            self._size = len(self._queue)
            self._losses = np.full(self._size, np.nan)
            self._learnt += 1


def _evolve(
    objective: Callable[[Doubles], Doubles],
    *,
    box: Bounds,
    initial: Doubles,
    seed: int,
    strategy: str,
    integrality: Bools | None,
) -> None:
    evolve: Any = differential_evolution
    # scipy's vectorised objective takes (d, n). A negative atol keeps it from stopping: its rule depends on the
    # mean loss, ours do not.
    evolve(
        lambda x: objective(x.T), box, strategy=strategy, maxiter=_NO_END, init=initial, atol=-1.0, tol=0.0,
        polish=False, updating="deferred", vectorized=True, integrality=integrality,
        rng=np.random.Generator(np.random.Philox(seed)),
    )  # fmt: skip
