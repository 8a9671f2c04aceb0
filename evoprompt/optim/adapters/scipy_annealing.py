"""scipy's dual annealing, turned inside out into ask and tell."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Unpack

import numpy as np
from scipy.optimize import dual_annealing

from evoprompt.optim.adapters.inverted import InvertedOptimizer, Minimise
from evoprompt.optim.capabilities import refusal
from evoprompt.optim.engine.accounts import Settings

__all__ = ["DualAnnealing"]


_NO_END = 10**9


class DualAnnealing(InvertedOptimizer):
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

    def _minimise(self) -> Minimise:
        inner = self._unit_cube()
        start = np.clip(inner.of(self._first[0]), 0.0, 1.0) if len(self._first) else None
        # A step below the resolution of the points handed out would make every difference zero.
        resolution = math.sqrt(np.finfo(self._box.low.dtype).eps)
        farthest = np.maximum(np.abs(self._box.low), np.abs(self._box.high))[inner.free]
        steps = resolution * np.maximum(inner.scale, farthest) / inner.scale
        d, box = len(steps), [(0.0, 1.0)] * len(steps)
        lbfgs = {"method": "L-BFGS-B", "bounds": box, "options": {"maxiter": min(max(6 * d, 100), 1000), "eps": steps}}
        anneal: Any = partial(
            dual_annealing, bounds=box, x0=start, maxiter=_NO_END, maxfun=math.inf, minimizer_kwargs=lbfgs,
            no_local_search=not self._local_search, rng=np.random.Generator(np.random.Philox(self.seed)),
        )  # fmt: skip
        return lambda objective: anneal(lambda x: float(objective(inner.points([x]))[0]))
