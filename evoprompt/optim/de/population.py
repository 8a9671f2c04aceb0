"""The population: how many, where they start, and selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.engine.algorithm import GUEST, Results
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.rows import compact, copy_rows, pieces

__all__ = ["HUGE", "MINIMUM", "Duel", "Population", "checked_popsize", "default_popsize", "initial_points", "ranking"]

MINIMUM = 4
"""DE/rand/1 needs a target and three others."""

HUGE = float(np.finfo(np.float64).max)  # an infinite gain would be all the weight there is, and NaN as a share

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]


def default_popsize(budget: int | None) -> int:
    """A population that the budget can turn over often enough, whatever the dimension: 1.2 budget^(1/3), from 8 to 100.

    At a few hundred or thousand evaluations many generations matter more to DE than many members. On 20-d
    test functions the best sizes were about 14 at 1500 evaluations, 18 at 4000 and 28 at 20 000.

    Examples
    --------
    >>> [default_popsize(b) for b in (6, 100, 1500, 4000, 10**7, None)]
    [6, 8, 14, 19, 100, 50]
    """
    if budget is None:
        return 50
    return max(MINIMUM, min(budget, 100, max(8, round(1.2 * budget ** (1 / 3)))))


def checked_popsize(popsize: int | None, budget: int | None, minimum: int = MINIMUM) -> int:
    """The number of candidates to use; None is :func:`default_popsize`.

    Raises
    ------
    ValueError
        If it is below the minimum, or the budget cannot pay for one population.
    """
    if popsize is None:
        popsize = default_popsize(budget)
    if isinstance(popsize, bool) or not isinstance(popsize, int | np.integer) or popsize < minimum:
        raise ValueError(f"popsize is a number of candidates and must be an integer >= {minimum}, got {popsize!r}")
    if budget is not None and budget < popsize:
        raise ValueError(
            f"a budget of {budget} evaluations cannot pay for one population of {popsize}; "
            f"raise the budget or lower popsize (at least {minimum})"
        )
    return int(popsize)


def initial_points(
    box: Box,
    m: int,
    streams: TrialStreams,
    first: Floats | None = None,
    *,
    stratified: bool = True,
    episode: int = 0,
) -> Floats:
    """Starting points (m, d): the rows of ``first``, then a Latin hypercube over the box.

    Each coordinate's range is cut into m equal strata and every member gets another one (McKay, Beckman &
    Conover 1979); without ``stratified`` members are drawn independently. ``episode`` numbers restarts, each
    with numbers of its own.
    """
    x = np.empty((m, box.d), dtype=box.dtype)
    strata = np.zeros((box.d, 1), dtype=np.uint16)
    if stratified:
        strata = np.tile(np.arange(m, dtype=np.uint16 if m < 1 << 16 else np.uint32), (box.d, 1))
        purpose = Purpose.DESIGN if episode == 0 else Purpose.RESTART
        streams.of(episode, purpose).permuted(strata, axis=1, out=strata)
    centre = None if first is None else first[0]
    for part in pieces(m, box.d * 8):
        u = np.empty((part.stop - part.start, box.d))
        for row, i in zip(u, range(part.start, part.stop), strict=True):
            streams.of(i + (episode << 32), Purpose.INITIAL).random(out=row)
        if stratified:
            u = np.minimum((u + strata[:, part].T) / m, 1 - 2.0**-53)
        x[part] = box.from_unit(u, centre)
    if first is not None:
        x[: len(first)] = first
    return x


def ranking(loss: Doubles, violation: Doubles) -> Indices:
    """Best first: by violation, then by loss; failed ones (inf) last."""
    return np.lexsort((loss, violation)) if violation.any() else np.argsort(loss, kind="stable")


class Duel(NamedTuple):
    """What came of n trials, each against one member."""

    replaced: NDArray[np.bool_]
    parent_id: Indices
    parent_loss: Doubles
    gain: Doubles
    """By how much the trial is better, in violation or else in loss; NaN where a side has failed or is missing."""


class Population:
    """Members and what is known of them.

    Feasibility comes first (Deb 2000, "An efficient constraint handling method for genetic algorithms"): the
    smaller violation wins, then the smaller loss.

    Attributes
    ----------
    x : ndarray, shape (m, d)
    loss, violation : ndarray of float64, shape (m,)
        inf: failed or not evaluated yet.
    id : ndarray of int64, shape (m,)
        Trial numbers; -1: never asked, or not evaluated yet.
    """

    def __init__(self, x: Floats) -> None:
        self.x = x
        self.loss = np.full(len(x), np.inf)
        self.violation = np.full(len(x), np.inf)
        self.id = np.full(len(x), GUEST, dtype=np.int64)
        self._order: Indices | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def order(self) -> Indices:
        """Slots of the members that have not failed, best first."""
        if self._order is None:
            self._order = ranking(self.loss, self.violation)[: np.count_nonzero(np.isfinite(self.loss))]
        return self._order

    def duel(self, slots: Indices, loss: Doubles, violation: Doubles, *, ties: bool) -> Duel:
        """Compare trials with the members at ``slots``; nothing changes. A failed trial never wins."""
        old_loss, old_violation = self.loss[slots], self.violation[slots]
        known = np.isfinite(loss)
        level = violation == old_violation
        no_worse = loss <= old_loss if ties else loss < old_loss
        replaced = known & ((violation < old_violation) | (level & no_worse))
        both = known & np.isfinite(old_loss)
        with np.errstate(invalid="ignore", over="ignore"):
            gain = np.where(both, np.where(level, old_loss - loss, old_violation - violation), np.nan)
        np.minimum(gain, HUGE, out=gain)
        return Duel(replaced, self.id[slots], old_loss, gain)

    def place(self, slots: Indices, results: Results, rows: Indices) -> None:
        """Put the results' ``rows`` at ``slots``, all different."""
        copy_rows(self.x, slots, results.x, rows)
        self.loss[slots], self.id[slots] = results.loss[rows], results.id[rows]
        self.violation[slots] = results.violation[rows]
        self._order = None

    def put(self, slot: int, results: Results, row: int) -> None:
        """Put one result at a slot."""
        self.x[slot] = results.x[row]
        self.loss[slot], self.violation[slot], self.id[slot] = (
            results.loss[row],
            results.violation[row],
            results.id[row],
        )
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

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).copy() for name in ("x", "loss", "violation", "id")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("x", "loss", "violation", "id"):
            setattr(self, name, np.array(state[name]))
        self._order = None
