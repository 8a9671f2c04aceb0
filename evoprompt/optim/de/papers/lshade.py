"""L-SHADE: SHADE whose population shrinks linearly.

R. Tanabe, A. Fukunaga, "Improving the search performance of SHADE using linear population size reduction", CEC 2014,
1658-1665.
"""

from __future__ import annotations

import numpy as np

from evoprompt.optim.de.memory import lehmer, normal_rate, positive_cauchy
from evoprompt.optim.de.papers.shade import SuccessHistory
from evoprompt.optim.de.schedule import FixedShare, nearest
from evoprompt.optim.de.variant import Variant
from evoprompt.typing import Doubles, Indices

__all__ = ["LSHADE", "TerminalHistory", "linear"]


class TerminalHistory(SuccessHistory):
    """L-SHADE's memory (Tanabe & Fukunaga 2014, Algorithm 1): Lehmer means for CR too, and a terminal value.

    A cell of M_CR whose successes all had CR = 0 becomes terminal (here -1): CR is 0 from then on.
    """

    TERMINAL = -1.0

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        r = (u[:, 0] * len(self.m_f)).astype(np.int64)
        m_f, m_cr = self._means(r)
        f, cr = positive_cauchy(m_f, self.SPREAD, u[:, 1]), normal_rate(m_cr, self.SPREAD, u[:, 2])
        cr[m_cr < 0] = 0.0
        return f, cr

    def _means(self, r: Indices) -> tuple[Doubles, Doubles]:
        return self.m_f[r], self.m_cr[r]

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        self.m_f[cell] = lehmer(f, weights, self.m_f[cell])
        terminal = self.m_cr[cell] == self.TERMINAL or cr.max() == 0
        self.m_cr[cell] = self.TERMINAL if terminal else lehmer(cr, weights, self.TERMINAL)


def linear(initial: int, minimum: int, progress: float, d: int) -> int:
    """Linear population size reduction (eq. 10).

    Examples
    --------
    >>> [linear(100, 4, progress, 10) for progress in (0, 0.5, 1)]
    [100, 52, 4]
    """
    return nearest((minimum - initial) * progress + initial)


def _popsize(d: int, budget: int | None) -> float:
    return 18 * d


# Table I: N = 18 D, |A| = 2.6 N, p = 0.11, H = 6.
LSHADE = Variant(
    "lshade", "current-to-pbest/1", adaptation=TerminalHistory, cr=0.5, size=_popsize, schedule=linear, memory=6,
    archive=2.6, leaders=FixedShare(0.11),
)  # fmt: skip
