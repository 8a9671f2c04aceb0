"""The population, and selection."""

from __future__ import annotations

import numpy as np

from evoprompt.optim.engine.algorithm import GUEST, Results, Selection
from evoprompt.optim.engine.rows import compact, copy_rows
from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["HUGE", "Population", "ranking"]

HUGE = float(np.finfo(np.float64).max)  # an infinite gain would be all the weight there is, and NaN as a share


def ranking(loss: Doubles, violation: Doubles) -> Indices:
    """Best first: by violation, then by loss; failed ones (inf) last."""
    return np.lexsort((loss, violation)) if violation.any() else np.argsort(loss, kind="stable")


class Population(Stateful):
    """Members and what is known of them.

    Feasibility comes first (Deb 2000, "An efficient constraint handling method for genetic algorithms"): the
    smaller violation wins, then the smaller loss.
    """

    x: Floats
    """(m, d)."""
    loss: Doubles
    violation: Doubles
    """(m,), both inf where failed or not evaluated yet."""
    id: Indices
    """Trial numbers (m,); -1: never asked, or not evaluated yet."""

    def __init__(
        self, x: Floats, loss: Doubles | None = None, violation: Doubles | None = None, id: Indices | None = None
    ) -> None:
        self.x = x
        self.loss = np.full(len(x), np.inf) if loss is None else loss
        self.violation = np.full(len(x), np.inf) if violation is None else violation
        self.id = np.full(len(x), GUEST, dtype=np.int64) if id is None else id
        self._was_restored()

    @classmethod
    def joined(cls, *parts: Population) -> Population:
        """The members of several populations, one after the other."""
        columns = zip(*((part.x, part.loss, part.violation, part.id) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def taken(self, rows: Indices) -> Population:
        """Copies of these members, in this order."""
        return Population(self.x[rows], self.loss[rows], self.violation[rows], self.id[rows])

    def best_first(self, n: int) -> Population:
        """Copies of the n best members."""
        return self.taken(ranking(self.loss, self.violation)[:n])

    @property
    def reached(self) -> tuple[float, float]:
        """Violation and loss of the best member; infinite if all have failed."""
        if len(self.order) == 0:
            return np.inf, np.inf
        return float(self.violation[self.order[0]]), float(self.loss[self.order[0]])

    def _was_restored(self) -> None:
        self._order: Indices | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def order(self) -> Indices:
        """Slots of the members that have not failed, best first."""
        if self._order is None:
            self._order = ranking(self.loss, self.violation)[: np.count_nonzero(np.isfinite(self.loss))]
        return self._order

    def duel(self, slots: Indices, loss: Doubles, violation: Doubles, *, ties: bool) -> tuple[Selection, Doubles]:
        """Compare n trials with the members at ``slots``; nothing changes. A failed trial never wins.

        Returns
        -------
        Selection
        ndarray, shape (n,)
            By how much each trial is better, in violation or else in loss; NaN where a side has failed or is missing.
        """
        old_loss, old_violation = self.loss[slots], self.violation[slots]
        known = np.isfinite(loss)
        level = violation == old_violation
        no_worse = loss <= old_loss if ties else loss < old_loss
        replaced = known & ((violation < old_violation) | (level & no_worse))
        both = known & np.isfinite(old_loss)
        with np.errstate(invalid="ignore", over="ignore"):
            gain = np.where(both, np.where(level, old_loss - loss, old_violation - violation), np.nan)
        np.minimum(gain, HUGE, out=gain)
        return Selection(replaced, self.id[slots], old_loss), gain

    def place(self, slots: Indices, results: Results, rows: Indices) -> None:
        """Put the results' ``rows`` at ``slots``, all different."""
        copy_rows(self.x, slots, results.x, rows)
        self.loss[slots], self.id[slots] = results.loss[rows], results.id[rows]
        self.violation[slots] = results.violation[rows]
        self._order = None

    def reassess(self, slot: int, loss: float) -> None:
        """Another estimate of a member's loss."""
        self.loss[slot] = loss
        self._order = None

    def worst(self) -> int:
        """The slot that a guest takes if it is better."""
        failed = np.flatnonzero(~np.isfinite(self.loss))
        return int(failed[0]) if len(failed) else int(self.order[-1])

    def keep(self, members: Indices) -> None:
        """Drop all but these members (ascending)."""
        compact(self.x, members)
        self.x = self.x[: len(members)]
        self.loss, self.violation, self.id = self.loss[members], self.violation[members], self.id[members]
        self._order = None

    def best(self, n: int) -> Indices:
        """The n best members in the order of their slots, failed ones last."""
        failed = np.flatnonzero(~np.isfinite(self.loss))
        return np.sort(np.concatenate([self.order, failed])[:n])
