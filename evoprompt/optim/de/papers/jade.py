"""JADE: steps towards p-best with an archive, F and CR around running means.

J. Zhang, A. C. Sanderson, "JADE: adaptive differential evolution with optional external archive", IEEE Trans.
Evolutionary Computation 13 (2009) 945-958.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evoprompt.optim.de.memory import Adaptation, lehmer, normal_rate, positive_cauchy
from evoprompt.optim.de.schedule import Share
from evoprompt.optim.de.variant import Variant
from evoprompt.typing import Doubles, Indices

__all__ = ["JADE", "RunningMeans"]


class RunningMeans(Adaptation):
    """F and CR around two means that follow what succeeded (eqs. 9 to 12, c = 0.1); ``f``, ``cr``: where they begin."""

    f: float
    cr: float

    RATE = 0.1

    def __init__(self, f: float, cr: float, **_: Any) -> None:
        self.f, self.cr = f, cr

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        return positive_cauchy(self.f, 0.1, u[:, 1]), normal_rate(self.cr, 0.1, u[:, 2])

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        # With no success both means stay; the paper leaves open what the mean of nothing is.
        if len(f):
            self.cr = (1 - self.RATE) * self.cr + self.RATE * float(cr.mean())
            self.f = (1 - self.RATE) * self.f + self.RATE * lehmer(f, np.ones(len(f)), self.f)


def _popsize(d: int, budget: int | None) -> float:
    return 30 if d <= 10 else 100 if d <= 30 else 400


# Up to 10, up to 30 and more coordinates: NP = 30, 100, 400; p = 0.05, |A| <= NP, strictly better trials win.
JADE = Variant(
    "jade", "current-to-pbest/1", adaptation=RunningMeans, f=0.5, cr=0.5, size=_popsize, archive=1.0, overwrite=False,
    leaders=Share(0.05), ties=False,
)  # fmt: skip
