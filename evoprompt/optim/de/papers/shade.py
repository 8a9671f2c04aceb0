"""SHADE: F and CR around cells of a history of what succeeded.

R. Tanabe, A. Fukunaga, "Success-history based parameter adaptation for differential evolution", CEC 2013, 71-78.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evoprompt.optim.de.memory import Adaptation, lehmer, normal_rate, positive_cauchy
from evoprompt.optim.de.schedule import Members, random_share
from evoprompt.optim.de.variant import Variant
from evoprompt.typing import Doubles, Indices

__all__ = ["SHADE", "SuccessHistory"]


class SuccessHistory(Adaptation):
    """The F and CR that worked: ``memory`` cells (the paper's H) of M_F and M_CR, all ``f`` and ``cr`` at first.

    Examples
    --------
    >>> history = SuccessHistory(0.5, 0.5, memory=2)
    >>> history.learn(np.array([0.4, 0.8]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    >>> history.m_f.round(3).tolist(), history.m_cr.tolist()
    ([0.743, 0.5], [0.75, 0.5])
    """

    SPREAD = 0.1

    m_f: Doubles
    m_cr: Doubles
    _next: int

    def __init__(self, f: float, cr: float, memory: int, **_: Any) -> None:
        self.m_f, self.m_cr = np.full(memory, f), np.full(memory, cr)
        self._next = 0

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        """F_i = randc(M_F,r, 0.1), CR_i = randn(M_CR,r, 0.1) with a random cell r; CR_i = 0 where M_CR,r < 0."""
        m_f, m_cr = self._cells((u[:, 0] * len(self.m_f)).astype(np.int64))
        f, cr = positive_cauchy(m_f, self.SPREAD, u[:, 1]), normal_rate(m_cr, self.SPREAD, u[:, 2])
        return f, np.where(m_cr < 0, 0.0, cr)

    def _cells(self, r: Indices) -> tuple[Doubles, Doubles]:
        return self.m_f[r], self.m_cr[r]

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Write one cell, M_F = mean_WL(S_F) and M_CR = mean(S_CR), weighted by the improvements."""
        if len(gains):
            weights = gains / gains.max()  # first, so that the sum of huge improvements stays finite
            self._write(self._next, f, cr, weights / weights.sum())
            self._next = (self._next + 1) % len(self.m_f)

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        self.m_f[cell] = lehmer(f, weights, self.m_f[cell])
        self.m_cr[cell] = float((weights * cr).sum())


# NP = H = |A| = 100, p drawn for each trial (eq. 8).
SHADE = Variant(
    "shade", "current-to-pbest/1", adaptation=SuccessHistory, cr=0.5, size=Members(100), archive=1.0,
    leaders=random_share,
)  # fmt: skip
