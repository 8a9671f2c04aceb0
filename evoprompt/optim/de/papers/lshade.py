"""L-SHADE: SHADE whose population shrinks linearly.

R. Tanabe, A. Fukunaga, "Improving the search performance of SHADE using linear population size reduction", CEC 2014,
1658-1665.
"""

from __future__ import annotations

from evoprompt.optim.de.memory import lehmer
from evoprompt.optim.de.papers.shade import SuccessHistory
from evoprompt.optim.de.schedule import Members, Share, linear
from evoprompt.optim.de.variant import Variant
from evoprompt.typing import Doubles

__all__ = ["LSHADE", "TerminalHistory"]


class TerminalHistory(SuccessHistory):
    """Algorithm 1: Lehmer means for CR too, and a terminal value.

    A cell of M_CR whose successes all had CR = 0 becomes terminal (here -1): CR is 0 from then on.
    """

    TERMINAL = -1.0

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        self.m_f[cell] = lehmer(f, weights, self.m_f[cell])
        terminal = self.m_cr[cell] == self.TERMINAL or cr.max() == 0
        self.m_cr[cell] = self.TERMINAL if terminal else lehmer(cr, weights, self.TERMINAL)


# Size by eq. 10; table I: N = 18 D, |A| = 2.6 N, p = 0.11, H = 6.
LSHADE = Variant(
    "lshade", "current-to-pbest/1", adaptation=TerminalHistory, cr=0.5, size=Members(each=18), schedule=linear,
    memory=6, archive=2.6, leaders=Share(0.11),
)  # fmt: skip
