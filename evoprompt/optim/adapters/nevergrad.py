"""Any optimizer registered in nevergrad."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from evoprompt.extras import require
from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.optim.adapters.global_rng import PrivateGlobalState
from evoprompt.optim.capabilities import CAPABILITIES
from evoprompt.typing import Floats, Indices

__all__ = ["Nevergrad"]


class Nevergrad(ReplayedOptimizer):
    """An optimizer of nevergrad, by its registered name.

    Every coordinate is searched as [0, 1], so all bounds must be finite. Points told without being asked are
    passed on where the optimizer takes such points.

    Parameters
    ----------
    bounds, budget, seed, popsize, dtype, x0, target, seconds, updating
        See :class:`~evoprompt.optim.adapters.base.ReplayedOptimizer`; popsize is what nevergrad calls
        ``num_workers``.
    optimizer : str
        A name in ``nevergrad.optimizers.registry``, for example "TwoPointsDE", "CMA", "NGOpt".

    Raises
    ------
    MissingExtraError
        If the package ``nevergrad`` is not installed; an ``ImportError`` and a ``ValueError``.
    ValueError
        If the optimizer is unknown, a bound is infinite, or no coordinate is free.
    """

    name = "nevergrad"
    _plans_by_budget = True
    capabilities = CAPABILITIES["nevergrad"]

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
        updating: str = "deferred",
        optimizer: str = "TwoPointsDE",
    ) -> None:
        self._optimizer = optimizer
        super().__init__(
            bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, x0=x0, target=target,
            seconds=seconds, updating=updating, config={"optimizer": optimizer},
        )  # fmt: skip

    def _start(self) -> None:
        require("the optimizer 'nevergrad'", "peers", "nevergrad")
        self._global = PrivateGlobalState(self.seed)
        with self._global.installed():
            import nevergrad

            self._not_supported = nevergrad.errors.TellNotAskedNotSupportedError
            registry = nevergrad.optimizers.registry
            if self._optimizer not in registry:
                raise ValueError(f"nevergrad has no optimizer {self._optimizer!r}; see nevergrad.optimizers.registry")
            self._free, self._low, high = self._free_box()
            self._width = high - self._low
            start = np.full(len(self._free), 0.5)
            array = nevergrad.p.Array(init=start, lower=0.0, upper=1.0)
            array.random_state = np.random.RandomState(np.random.SeedSequence(self.seed).generate_state(8))
            self._engine = registry[self._optimizer](
                parametrization=array, budget=self.budget, num_workers=self.popsize
            )
        self._sent: dict[int, Any] = {}
        self._told = 0

    def _natural(self) -> int:
        return max(0, self.popsize - len(self._sent))

    def _propose(self, ids: Indices) -> Floats:
        x = np.tile(self._box.low.astype(np.float64), (len(ids), 1))
        with self._global.installed():
            for row, i in zip(x, ids.tolist(), strict=True):
                self._sent[i] = self._engine.ask()
                row[self._free] = self._low + self._width * self._sent[i].value
        return x

    def _learn(self, results: list[Result]) -> None:
        with self._global.installed():
            for result in results:
                candidate = self._sent.pop(result.id, None)
                self._told += candidate is not None
                if candidate is not None:
                    self._engine.tell(candidate, result.loss)
                elif not result.failed:
                    self._suggest(result)

    def _suggest(self, result: Result) -> None:
        inner = np.clip((np.asarray(result.x, dtype=np.float64)[self._free] - self._low) / self._width, 0.0, 1.0)
        try:
            self._engine.tell(self._engine.parametrization.spawn_child(new_value=inner), result.loss)
        except self._not_supported:
            return

    @property
    def generation(self) -> int:
        """Batches of popsize told to the engine."""
        return self._told // self.popsize
