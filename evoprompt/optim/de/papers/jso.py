"""jSO: L-SHADE with weighted steps towards p-best and limits on F and CR by phases of the run.

J. Brest, M. S. Maucec, B. Boskovic, "Single objective real-parameter optimization: algorithm jSO", CEC 2017, 1311-1318.
Their program also draws the p-best member again while it is the target in the first half of the run (iL-SHADE's rule);
the paper does not have that, and neither has this.
"""

from __future__ import annotations

import math

import numpy as np

from evoprompt.optim.de.memory import lehmer
from evoprompt.optim.de.papers.shade import SuccessHistory
from evoprompt.optim.de.schedule import Share, linear
from evoprompt.optim.de.variant import Variant
from evoprompt.typing import Doubles, Indices

__all__ = ["JSO", "PhasedHistory"]


class PhasedHistory(SuccessHistory):
    """New means are averaged with what a cell held, the last cell reads 0.9, F and CR are limited by phases.

    CR >= 0.7 and 0.6 in the first quarter and half of the budget, F <= 0.7 in its first 60 %.
    """

    def _cells(self, r: Indices) -> tuple[Doubles, Doubles]:
        last = r == len(self.m_f) - 1
        return np.where(last, 0.9, self.m_f[r]), np.where(last, 0.9, self.m_cr[r])

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        f, cr = super().draw(u, target, progress)
        if progress < 0.5:
            np.maximum(cr, 0.7 if progress < 0.25 else 0.6, out=cr)
        if progress < 0.6:
            np.minimum(f, 0.7, out=f)
        return f, cr

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        self.m_f[cell] = (lehmer(f, weights, self.m_f[cell]) + self.m_f[cell]) / 2
        self.m_cr[cell] = (lehmer(cr, weights, -1.0) + self.m_cr[cell]) / 2  # -1 as in L-SHADE, where all CR are 0


def _popsize(d: int, budget: int | None) -> float:
    return 25 * math.log(d) * math.sqrt(d)


def weight(progress: float) -> float:
    """F_w / F, the factor on the step towards p-best (eq. 6)."""
    return 0.7 if progress < 0.2 else 0.8 if progress < 0.4 else 1.2


# N = 25 log(D) sqrt(D), |A| = N, H = 5, M_F = 0.3, M_CR = 0.8, p from 0.25 to 0.125.
JSO = Variant(
    "jso", "current-to-pbest/1", adaptation=PhasedHistory, f=0.3, cr=0.8, size=_popsize, schedule=linear, memory=5,
    archive=1.0, leaders=Share(0.25, 0.125), weight=weight,
)  # fmt: skip
