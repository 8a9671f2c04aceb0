"""CMA-ES by way of pycma (the package ``cma``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from evoprompt.checks import one_of, real_number
from evoprompt.extras import require
from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.optim.adapters.global_rng import PrivateGlobalState
from evoprompt.optim.capabilities import CAPABILITIES
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
        If an argument is out of range.
    """

    name = "cma"
    capabilities = CAPABILITIES["cma"]

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
        variant: str = "full",
        sigma: float = 0.3,
    ) -> None:
        one_of("variant", variant, ("full", "separable"))
        self._variant, self._sigma = variant, real_number("sigma", sigma, 0.0, above=True)
        super().__init__(
            bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, x0=x0, target=target,
            seconds=seconds, config={"variant": variant, "sigma": self._sigma},
        )  # fmt: skip

    def _default_popsize(self, budget: int | None) -> int:
        size = 4 + int(3 * math.log(self.d))
        return size if budget is None else max(MINIMUM, min(size, default_popsize(budget) * 2, budget))

    def _start(self) -> None:
        require("the optimizer 'cma'", "peers", "cma")
        import cma

        low, high = self._box.low.astype(np.float64), self._box.high.astype(np.float64)
        self._free = np.flatnonzero(low < high)
        if len(self._free) < 2:
            raise ValueError(f"CMA-ES needs at least 2 coordinates with low < high, got {len(self._free)}")
        low, high = low[self._free], high[self._free]
        boxed = np.isfinite(low) & np.isfinite(high)
        self._offset = np.where(boxed, low, 0.0)
        self._scale = np.where(boxed, high - low, 1.0)
        start = self._first[0] if len(self._first) else self._box.from_unit(np.full(self.d, 0.5))
        low, high = (low - self._offset) / self._scale, (high - self._offset) / self._scale
        # pycma moves starting points that lie on a bound itself, but warns about it.
        mean = np.where(boxed, np.clip(self._inner(start), 1e-6, 1 - 1e-6), np.clip(self._inner(start), low, high))
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
        self._updates = 0

    def _inner(self, x: Floats) -> Doubles:
        inner: Doubles = (np.asarray(x, dtype=np.float64)[self._free] - self._offset) / self._scale
        return inner

    def _natural(self) -> int:
        return max(0, self.popsize - len(self._sent) - len(self._results))

    def _propose(self, ids: Indices) -> Floats:
        x = np.tile(self._box.low.astype(np.float64), (len(ids), 1))
        for row, i in zip(x, ids.tolist(), strict=True):
            self._sent[i] = self._draw()
            row[self._free] = self._offset + self._scale * self._sent[i]
        return x

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
                self._guests.append((self._inner(result.x), result.loss))
            if len(self._results) == self.popsize:
                self._update()

    def _update(self) -> None:
        points, losses, failed = (list(column) for column in zip(*self._results, strict=True))
        self._results = []
        self._updates += 1
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

    @property
    def generation(self) -> int:
        """Updates of the search distribution."""
        return self._updates
