"""jDE: every member carries F and CR of its own (J. Brest, S. Greiner, B. Boskovic, M. Mernik, V. Zumer, 2006).

"Self-adapting control parameters in differential evolution", IEEE Trans. Evolutionary Computation 10 (2006) 646-657.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evoprompt.optim.de.memory import Adaptation
from evoprompt.optim.de.schedule import Members
from evoprompt.optim.de.variant import Variant
from evoprompt.typing import Doubles, Indices

__all__ = ["JDE", "SelfAdaptive"]


class SelfAdaptive(Adaptation):
    """Every member carries its own F and CR, ``f`` and ``cr`` at first, which its successful trial may have changed.

    Eqs. 5 and 6, with F_l = 0.1, F_u = 0.9 and tau_1 = tau_2 = 0.1.
    """

    f: Doubles
    cr: Doubles

    LOWER, RANGE, TAU = 0.1, 0.9, 0.1

    def __init__(self, f: float, cr: float, popsize: int, **_: Any) -> None:
        self.f, self.cr = np.full(popsize, f), np.full(popsize, cr)

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        f = np.where(u[:, 1] < self.TAU, self.LOWER + u[:, 0] * self.RANGE, self.f[target])
        cr = np.where(u[:, 3] < self.TAU, u[:, 2], self.cr[target])
        return f, cr

    def adopt(self, slots: Indices, f: Doubles, cr: Doubles) -> None:
        self.f[slots], self.cr[slots] = f, cr

    def keep(self, members: Indices) -> None:
        self.f, self.cr = self.f[members], self.cr[members]


# NP = 100, and only a better trial replaces its parent.
JDE = Variant("jde", adaptation=SelfAdaptive, f=0.5, cr=0.9, size=Members(100), ties=False)
