"""Random search: the baseline everything else has to beat."""

from __future__ import annotations

from typing import Any, Unpack

from numpy.typing import ArrayLike

from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.optim.engine.accounts import Settings
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.typing import Floats, Indices

__all__ = ["RandomSearch"]


class RandomSearch(ReplayedOptimizer):
    """Independent points from the distribution of starting points: uniform in a finite box.

    Parameters
    ----------
    bounds, budget, seed, popsize, dtype, x0, target, seconds
        See :class:`~evoprompt.optim.adapters.base.ReplayedOptimizer`.
    integrality : array_like of bool, shape (d,), optional
        Which coordinates are whole numbers.

    Examples
    --------
    >>> search = RandomSearch([(0, 1)], budget=5, popsize=4, seed=3)
    >>> len(search.ask()), len(search.ask()), len(search.ask())
    (4, 1, 0)
    """

    name = "random"

    def __init__(self, bounds: Any, *, integrality: ArrayLike | None = None, **settings: Unpack[Settings]) -> None:
        super().__init__(bounds, integrality=integrality, **settings)

    def _start(self) -> None:
        self._streams = TrialStreams(self.seed)

    def _given(self) -> Floats:
        return self._first if self._rounding is None else self._rounding(self._first.copy())

    def _natural(self) -> int:
        return self.popsize - max(0, self.asked - len(self._first)) % self.popsize

    def _propose(self, ids: Indices) -> Floats:
        u = self._streams.uniforms(ids, self.d, Purpose.REDRAW)
        return self._box.from_unit(u) if self._rounding is None else self._rounding(self._rounding.box.from_unit(u))

    def _learn(self, results: list[Result]) -> None:
        """Random search does not learn."""

    @property
    def generation(self) -> int:
        return self.evaluations // self.popsize
