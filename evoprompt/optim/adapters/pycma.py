"""CMA-ES by way of pycma (the package ``cma``)."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np

from evoprompt.checks import one_of, real_number
from evoprompt.extras import require
from evoprompt.optim.adapters.base import Inner, ReplayedOptimizer, Result
from evoprompt.optim.adapters.global_rng import PrivateGlobalState
from evoprompt.optim.engine.accounts import Settings
from evoprompt.optim.engine.starting import MINIMUM, default_popsize
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["CMA"]


_MOST_GUESTS = 2  # pycma tolerates so many solutions beyond its population size


class CMA(ReplayedOptimizer):
    """CMA-ES, with full or diagonal covariance.

    Coordinates between two finite bounds are searched as [0, 1] with an initial step of ``sigma``, others as
    they are. pycma updates its distribution whenever ``popsize`` results are in. Points that were told
    without being asked join an update if they beat its median, at most two of them. A batch in which
    everything failed is dropped.

    Parameters
    ----------
    bounds, budget, seed, popsize, dtype, x0, target, seconds
        See :class:`~evoprompt.optim.adapters.base.ReplayedOptimizer`. At least two coordinates must be
        free. The first row of ``x0`` is the initial mean as well. The default population is pycma's 4 + 3 ln
        d, as the budget allows.
    variant : str
        "full" or "separable" (sep-CMA-ES, linear in d; take it beyond some hundred coordinates).
    sigma : float
        Initial step size.

    Raises
    ------
    MissingExtraError
        If the package ``cma`` is not installed; an ``ImportError`` and a ``ValueError``.
    ValueError
        If an argument is out of range, or fewer than two coordinates are free.
    """

    name = "cma"

    def __init__(self, bounds: Any, *, variant: str = "full", sigma: float = 0.3, **settings: Unpack[Settings]) -> None:
        one_of("variant", variant, ("full", "separable"))
        self._variant, self._sigma = variant, real_number("sigma", sigma, 0.0, above=True)
        super().__init__(bounds, config={"variant": variant, "sigma": self._sigma}, **settings)

    def _default_popsize(self, budget: int | None) -> int:
        size = 4 + int(3 * math.log(self.d))
        return size if budget is None else max(MINIMUM, min(size, default_popsize(budget) * 2, budget))

    def _start(self) -> None:
        require("the optimizer 'cma'", "peers", "cma")
        import cma

        low, high = self._box.low.astype(np.float64), self._box.high.astype(np.float64)
        free = np.flatnonzero(low < high)
        if len(free) < 2:
            raise ValueError(f"CMA-ES needs at least 2 coordinates with low < high, got {len(free)}")
        boxed = np.isfinite(low[free]) & np.isfinite(high[free])
        offset, scale = np.where(boxed, low[free], 0.0), np.where(boxed, high[free] - low[free], 1.0)
        self._inner = Inner(free, offset, scale, low)
        start = self._inner.of(self._first[0] if len(self._first) else self._box.from_unit(np.full(self.d, 0.5)))
        low, high = self._inner.of(low), self._inner.of(high)
        # pycma moves starting points that lie on a bound itself, but warns about it.
        mean = np.where(boxed, np.clip(start, 1e-6, 1 - 1e-6), np.clip(start, low, high))
        bounded = np.isfinite(low).any() or np.isfinite(high).any()
        options = {
            "bounds": [low.tolist(), high.tolist()] if bounded else [None, None],
            "popsize": self.popsize, "seed": np.nan, "CMA_diagonal": self._variant == "separable", "CMA_mirrors": 0,
            "verbose": -9, "verb_disp": 0, "verb_log": 0, "signals_filename": "", "maxiter": math.inf,
        }  # fmt: skip
        self._global = PrivateGlobalState(self.seed)
        with self._global.installed():
            self._engine = cma.CMAEvolutionStrategy(mean, self._sigma, options)
        self._queue: list[Doubles] = []
        self._sent: dict[int, Doubles] = {}
        self._results: list[tuple[Doubles, float, bool]] = []
        self._guests: list[tuple[Doubles, float]] = []
        self._drawn_since_update = False
        self._converged = False

    def _natural(self) -> int:
        return max(0, self.popsize - len(self._sent) - len(self._results))

    def _propose(self, ids: Indices) -> Floats:
        drawn = {i: self._draw() for i in ids.tolist()}
        self._sent |= drawn
        return self._inner.points(list(drawn.values()))

    def _draw(self) -> Doubles:
        if not self._queue:
            with self._global.installed():
                self._queue = list(self._engine.ask())
            self._drawn_since_update = True
        return self._queue.pop(0)

    def _learn(self, results: list[Result]) -> None:
        for result in results:
            sent = self._sent.pop(result.id, None)
            if sent is not None:
                self._results.append((sent, result.loss, result.failed))
            elif not result.failed:
                self._guests.append((self._inner.of(result.x), result.loss))
            if len(self._results) == self.popsize:
                self._update()

    def _update(self) -> None:
        points, losses, failed = (list(column) for column in zip(*self._results, strict=True))
        self._results = []
        self._learnt += 1
        if all(failed):
            return
        good = sorted((g for g in self._guests if g[1] < np.median(losses)), key=lambda guest: guest[1])[:_MOST_GUESTS]
        self._guests = []
        if not self._drawn_since_update:  # pycma wants an ask before every tell
            self._queue = []
            self._draw()
        with self._global.installed():
            self._engine.tell(points + [x for x, _ in good], losses + [loss for _, loss in good])
            self._converged = bool(self._engine.stop())
        self._queue, self._drawn_since_update = [], False

    def _engine_reason(self) -> str | None:
        return "converged" if self._converged else None
