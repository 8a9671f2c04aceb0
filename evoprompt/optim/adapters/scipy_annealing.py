"""scipy's dual annealing, turned inside out into ask and tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.optimize import dual_annealing

from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.optim.adapters.inverted import Inverted
from evoprompt.optim.capabilities import CAPABILITIES, refusal
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
    capabilities = CAPABILITIES["dual_annealing"]

    def __init__(
        self,
        bounds: Any,
        *,
        budget: int | None = None,
        seed: int | None = 0,
        popsize: int | None = None,
        dtype: DTypeLike = "float64",
        x0: ArrayLike | None = None,
        target: float | None = None,
        seconds: float | None = None,
        local_search: bool = True,
    ) -> None:
        if popsize is not None:
            raise refusal(self.name, "popsize")
        if not isinstance(local_search, bool):
            raise ValueError(f"local_search must be True or False, got {local_search!r}")
        self._local_search = local_search
        super().__init__(
            bounds, budget=budget, seed=seed, dtype=dtype, x0=x0, target=target, seconds=seconds,
            config={"local_search": local_search},
        )  # fmt: skip

    def _start(self) -> None:
        free, low, high = self._free_box()
        self._free, self._low, self._width = free, low, high - low
        start = None
        if len(self._first):
            start = np.clip((self._first[0].astype(np.float64)[free] - low) / self._width, 0.0, 1.0)
        # A step below the resolution of the points handed out would make every difference zero.
        resolution = math.sqrt(np.finfo(self._box.low.dtype).eps)
        steps = resolution * np.maximum(self._width, np.maximum(np.abs(low), np.abs(high))) / self._width
        anneal = partial(
            _anneal, d=len(free), seed=self.seed, start=start, local_search=self._local_search, steps=steps
        )
        self._engine = Inverted(anneal, "scipy's dual annealing")
        self._point: Doubles | None = self._engine.points()[0]
        self._waiting_for: int | None = None
        self._told = 0

    def _natural(self) -> int:
        return 0 if self._point is None else 1

    def _propose(self, ids: Indices) -> Floats:
        if self._point is None or len(ids) == 0:
            return np.empty((0, self.d))
        x = self._box.low.astype(np.float64)
        x[self._free] = self._low + self._width * self._point
        self._point, self._waiting_for = None, int(ids[0])
        return x[None]

    def _learn(self, results: list[Result]) -> None:
        for result in results:
            if self._waiting_for is not None and result.id == self._waiting_for:
                self._waiting_for = None
                self._told += 1
                self._engine.answer(np.array([result.loss]))
                self._point = self._engine.points()[0]

    @property
    def generation(self) -> int:
        """Losses scipy has been given."""
        return self._told


def _anneal(
    objective: Callable[[Doubles], Doubles],
    *,
    d: int,
    seed: int,
    start: Doubles | None,
    local_search: bool,
    steps: Doubles,
) -> None:
    box = [(0.0, 1.0)] * d
    lbfgs = {"method": "L-BFGS-B", "bounds": box, "options": {"maxiter": min(max(6 * d, 100), 1000), "eps": steps}}
    anneal: Any = dual_annealing
    anneal(
        lambda x: float(objective(x[None])[0]), box, x0=start, maxiter=_NO_END, maxfun=math.inf,
        minimizer_kwargs=lbfgs, no_local_search=not local_search, rng=np.random.Generator(np.random.Philox(seed)),
    )  # fmt: skip
