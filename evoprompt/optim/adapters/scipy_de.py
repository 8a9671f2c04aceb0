"""scipy's differential evolution, turned inside out into ask and tell."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import Bounds, differential_evolution

from evoprompt.optim.adapters.inverted import InvertedOptimizer, Minimise
from evoprompt.optim.engine.accounts import Settings
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.starting import initial_points
from evoprompt.typing import Floats

__all__ = ["ScipyDE"]


_NO_END = 10**9


class ScipyDE(InvertedOptimizer):
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
        If an argument is out of range, a bound is infinite, or no coordinate is free.
    """

    name = "scipy"
    _smallest = 5

    def __init__(
        self,
        bounds: Any,
        *,
        strategy: str = "best1bin",
        integrality: ArrayLike | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self._strategy = strategy
        super().__init__(bounds, integrality=integrality, config={"strategy": strategy}, **settings)

    def _given(self) -> Floats:
        return self._first[:0]

    def _minimise(self) -> Minimise:
        self._unit_cube()  # refuses bounds that are infinite, and a box of one point
        if len(self._first) > self.popsize:
            raise ValueError(f"x0 has {len(self._first)} rows, more than the population of {self.popsize}")
        first = self._first if len(self._first) else None
        initial = initial_points(self._box, self.popsize, TrialStreams(self.seed), first).astype(np.float64)
        box = Bounds(self._box.low.astype(np.float64), self._box.high.astype(np.float64))
        mask = None if self._rounding is None else self._rounding.mask
        # A negative atol keeps it from stopping: its rule depends on the mean loss, ours do not.
        evolve: Any = partial(
            differential_evolution, bounds=box, strategy=self._strategy, maxiter=_NO_END, init=initial, atol=-1.0,
            tol=0.0, polish=False, updating="deferred", vectorized=True, integrality=mask,
            rng=np.random.Generator(np.random.Philox(self.seed)),
        )  # fmt: skip
        return lambda objective: evolve(lambda x: objective(x.T))  # scipy's points are (d, n)
