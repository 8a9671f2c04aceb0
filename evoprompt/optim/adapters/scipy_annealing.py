"""scipy's dual annealing, turned inside out into ask and tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

import numpy as np
from scipy.optimize import dual_annealing

from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.optim.adapters.inverted import Inverted
from evoprompt.optim.capabilities import refusal
from evoprompt.optim.engine.accounts import Settings
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["DualAnnealing"]


_NO_END = 10**9


class DualAnnealing(ReplayedOptimizer):
    """``scipy.optimize.dual_annealing`` with ask, tell, budget and failures handled.

    It works on one point at a time: ``ask`` gives nothing while that point's loss is missing. Points told
    without being asked count as evaluations, but scipy cannot take them in. Coordinates are searched as [0, 1].

    Parameters
    ----------
    bounds, budget, seed, dtype, x0, target, seconds
        See :class:`~evoprompt.optim.adapters.base.ReplayedOptimizer`. All bounds must be finite. The first
        row of ``x0`` is where the annealing starts as well.
    popsize : None
        There is no population.
    local_search : bool
        Polish the best point by L-BFGS-B now and then. Its gradients are finite differences, d + 1 evaluations
        each, so take False in high dimension or for noisy losses.

    Raises
    ------
    ValueError
        If an argument is out of range, a bound is infinite, or no coordinate is free.

    References
    ----------
    Y. Xiang, S. Gubian, B. Suomela, J. Hoeng, "Generalized simulated annealing for efficient global
    optimization: the GenSA package for R", The R Journal 5/1 (2013).
    """

    name = "dual_annealing"

    def __init__(self, bounds: Any, *, local_search: bool = True, **settings: Unpack[Settings]) -> None:
        if settings.get("popsize") is not None:
            raise refusal(self.name, "popsize")
        if not isinstance(local_search, bool):
            raise ValueError(f"local_search must be True or False, got {local_search!r}")
        self._local_search = local_search
        super().__init__(bounds, config={"local_search": local_search}, **settings)

    def _start(self) -> None:
        self._inner = self._unit_cube()
        start = np.clip(self._inner.of(self._first[0]), 0.0, 1.0) if len(self._first) else None
        # A step below the resolution of the points handed out would make every difference zero.
        resolution = math.sqrt(np.finfo(self._box.low.dtype).eps)
        farthest = np.maximum(np.abs(self._box.low), np.abs(self._box.high))[self._inner.free]
        width = self._inner.scale
        steps = resolution * np.maximum(width, farthest) / width
        anneal = partial(_anneal, seed=self.seed, start=start, local_search=self._local_search, steps=steps)
        self._engine = Inverted(anneal, "scipy's dual annealing")
        self._point: Doubles | None = self._engine.points()[0]
        self._waiting_for: int | None = None

    def _natural(self) -> int:
        return 0 if self._point is None else 1

    def _propose(self, ids: Indices) -> Floats:
        if self._point is None:
            return np.empty((0, self.d))
        x = self._inner.points([self._point])
        self._point, self._waiting_for = None, int(ids[0])
        return x

    def _learn(self, results: list[Result]) -> None:
        for result in results:
            if self._waiting_for is not None and result.id == self._waiting_for:
                self._waiting_for = None
                self._learnt += 1
                self._engine.answer(np.array([result.loss]))
                self._point = self._engine.points()[0]


def _anneal(
    objective: Callable[[Doubles], Doubles],
    *,
    seed: int,
    start: Doubles | None,
    local_search: bool,
    steps: Doubles,
) -> None:
    d = len(steps)
    box = [(0.0, 1.0)] * d
    lbfgs = {"method": "L-BFGS-B", "bounds": box, "options": {"maxiter": min(max(6 * d, 100), 1000), "eps": steps}}
    anneal: Any = dual_annealing
    anneal(
        lambda x: float(objective(x[None])[0]), box, x0=start, maxiter=_NO_END, maxfun=math.inf,
        minimizer_kwargs=lbfgs, no_local_search=not local_search, rng=np.random.Generator(np.random.Philox(seed)),
    )  # fmt: skip
