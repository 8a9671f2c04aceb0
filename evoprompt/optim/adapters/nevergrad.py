"""Any optimizer registered in nevergrad."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Unpack

import numpy as np

from evoprompt.extras import require
from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.optim.adapters.global_rng import PrivateGlobalState
from evoprompt.optim.engine.accounts import Settings
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

    def __init__(
        self,
        bounds: Any,
        *,
        updating: str = "deferred",
        optimizer: str = "TwoPointsDE",
        **settings: Unpack[Settings],
    ) -> None:
        self._optimizer = optimizer
        super().__init__(bounds, updating=updating, config={"optimizer": optimizer}, **settings)

    def _start(self) -> None:
        require("the optimizer 'nevergrad'", "peers", "nevergrad")
        self._global = PrivateGlobalState(self.seed)
        with self._global.installed():
            import nevergrad

            self._not_supported = nevergrad.errors.TellNotAskedNotSupportedError
            registry = nevergrad.optimizers.registry
            if self._optimizer not in registry:
                raise ValueError(f"nevergrad has no optimizer {self._optimizer!r}; see nevergrad.optimizers.registry")
            self._inner = self._unit_cube()
            array = nevergrad.p.Array(init=np.full(len(self._inner.free), 0.5), lower=0.0, upper=1.0)
            array.random_state = np.random.RandomState(np.random.SeedSequence(self.seed).generate_state(8))
            self._engine = registry[self._optimizer](
                parametrization=array, budget=self.budget, num_workers=self.popsize
            )
        self._sent: dict[int, Any] = {}

    def _natural(self) -> int:
        return max(0, self.popsize - len(self._sent))

    def _propose(self, ids: Indices) -> Floats:
        with self._global.installed():
            asked = {i: self._engine.ask() for i in ids.tolist()}
        self._sent |= asked
        return self._inner.points([candidate.value for candidate in asked.values()])

    def _learn(self, results: list[Result]) -> None:
        with self._global.installed():
            for result in results:
                candidate = self._sent.pop(result.id, None)
                if candidate is not None:
                    self._learnt += 1
                    self._engine.tell(candidate, result.loss)
                elif not result.failed:
                    inner = np.clip(self._inner.of(result.x), 0.0, 1.0)
                    with suppress(self._not_supported):
                        self._engine.tell(self._engine.parametrization.spawn_child(new_value=inner), result.loss)

    @property
    def generation(self) -> int:
        """Batches of popsize told to the engine."""
        return self._learnt // self.popsize
