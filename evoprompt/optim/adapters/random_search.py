"""Random search: the baseline everything else has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.adapters.replay import ReplayedOptimizer, Result
from evoprompt.optim.rng import Purpose, TrialStreams

__all__ = ["RandomSearch"]


class RandomSearch(ReplayedOptimizer):
    """Independent points from the distribution of starting points: uniform in a finite box.

    Examples
    --------
    >>> search = RandomSearch([(0, 1)], budget=5, popsize=4, seed=3)
    >>> len(search.ask()), len(search.ask()), len(search.ask())
    (4, 1, 0)
    """

    name = "random"

    def _start(self) -> None:
        self._streams = TrialStreams(self.seed)

    def _natural(self) -> int:
        return self.popsize - max(0, self.asked - len(self._first)) % self.popsize

    def _propose(self, ids: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        return self._box.from_unit(self._streams.uniforms(ids, self.d, Purpose.REDRAW))

    def _learn(self, results: list[Result]) -> None:
        """Random search does not learn."""

    @property
    def generation(self) -> int:
        return self.evaluations // self.popsize
