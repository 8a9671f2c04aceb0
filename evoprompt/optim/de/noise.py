"""Noisy objectives: members are evaluated again now and then, so that a lucky loss does not survive for ever.

Selection compares means. A member's lifetime without a new look is limited, as in M-LOOP's differential
evolution; how many are looked at follows from how strong the noise is beside the differences that selection
has to tell apart.
"""

from __future__ import annotations

import numpy as np

from evoprompt.optim.de.population import HUGE, Population
from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Floats, Indices

__all__ = ["Lifetimes"]

_PROBES = 3
_SHARE = 0.2
_NEGLIGIBLE = 0.05
_FORGETTING = 0.1
_HIDDEN = 4.0
_FEW = 6


class Lifetimes(Stateful):
    """Whom to evaluate again, and what the losses amount to.

    Parameters
    ----------
    noise : "auto" or float
        The standard deviation of a loss if it is known. "auto" evaluates the best starting point three more
        times: if nothing differs, the objective counts as free of noise and costs no more; otherwise the
        deviation is estimated from every repeated evaluation.
    popsize : int
    """

    evaluations: Indices
    """Of each member, (m,)."""
    seen: Indices
    """The generation of each member's last evaluation, (m,)."""
    planned: Indices
    """Members to evaluate again in this generation; a member may stand there more than once."""
    _variance: float
    _probing: bool

    def __init__(self, noise: str | float, popsize: int) -> None:
        self._known = None if noise == "auto" else float(noise)
        self._variance = np.nan if self._known is None else self._known**2
        self._probing = self._known is None
        self.planned = np.empty(0, dtype=np.int64)
        self.begin_again(popsize)

    @property
    def deviation(self) -> float:
        """The noise's standard deviation as far as it is known; 0 if there is none."""
        return float(np.sqrt(self._variance)) if np.isfinite(self._variance) else 0.0

    def begin_again(self, popsize: int) -> None:
        """All members are new."""
        self.evaluations = np.ones(popsize, dtype=np.int64)
        self.seen = np.zeros(popsize, dtype=np.int64)

    def replaced(self, slots: Indices, generation: int) -> None:
        """New members at ``slots``."""
        self.evaluations[slots], self.seen[slots] = 1, generation

    def keep(self, members: Indices) -> None:
        """Only these members are left."""
        self.evaluations, self.seen = self.evaluations[members], self.seen[members]

    def learn(self, members: Population, slot: int, loss: float, generation: int) -> None:
        """One more loss of a member: its mean and the estimate of the noise follow."""
        n, mean = int(self.evaluations[slot]), float(members.loss[slot])
        self.seen[slot] = generation
        if not np.isfinite(loss) or not np.isfinite(mean):
            return
        if self._known is None:
            variance = min((loss - mean) * (loss - mean) * n / (n + 1), HUGE)
            start = self._variance if np.isfinite(self._variance) else variance
            self._variance = start + _FORGETTING * (variance - start)
        self.evaluations[slot] = n + 1
        members.reassess(slot, mean * (n / (n + 1)) + loss / (n + 1))

    def plan(self, members: Population, generation: int) -> None:
        """Choose whom to evaluate again in the generation that begins: those not seen for longest."""
        self.planned = np.empty(0, dtype=np.int64)
        order = members.order
        if len(order) == 0:
            return
        if self._probing:
            self.planned = np.full(_PROBES, order[0])
            self._probing = False
            return
        good = members.loss[order[: max(2, len(order) // 2)]]
        if self.deviation > _NEGLIGIBLE * (float(good[-1]) - float(good[0])) and self.deviation > 0:
            oldest = order[np.argsort(self.seen[order], kind="stable")]
            oldest = oldest[self.seen[oldest] < generation - 1]
            self.planned = np.sort(oldest[: int(np.ceil(_SHARE * len(members)))])

    def recommended(self, members: Population) -> Floats | None:
        """The centroid of the best half where noise hides the differences between members; else the best mean.

        Measured on a noisy sphere and Rosenbrock function, 10-d, 5000 evaluations: the centroid was 2 to 10
        times nearer than the member with the best mean, drawing means together changed nothing. On a noisy
        Rastrigin function it lay between the basins as long as members differed by more than the noise, hence
        the condition. None without noise.
        """
        order = members.order
        if self.deviation == 0 or len(order) == 0:
            return None
        order = order[members.violation[order] == members.violation[order[0]]]
        within = self._variance * float((1 / self.evaluations[order]).mean())
        with np.errstate(over="ignore", invalid="ignore"):
            hidden = bool(members.loss[order].var() <= _HIDDEN * within)
        if not hidden:
            return members.x[order[0]].copy()
        half = order[: max(len(order) // 2, min(len(order), _FEW))]
        centroid: Floats = members.x[half].mean(axis=0, dtype=np.float64).astype(members.x.dtype)
        return centroid
