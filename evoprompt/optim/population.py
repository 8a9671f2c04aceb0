"""The population: how many, where they start, and one-to-one selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.bounds import Box
from evoprompt.optim.ledger import FOREIGN, Told
from evoprompt.optim.record import Selection
from evoprompt.optim.rng import Purpose, TrialStreams

__all__ = ["MINIMUM", "Population", "checked_popsize", "default_popsize", "initial_points"]

MINIMUM = 4
"""DE/rand/1 needs a target and three others."""

Floats = NDArray[np.floating[Any]]


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


def checked_popsize(popsize: int | None, budget: int | None) -> int:
    """The number of candidates to use.

    Raises
    ------
    ValueError
        If it is below 4, or the budget cannot pay for one population.
    """
    if popsize is None:
        popsize = default_popsize(budget)
    if isinstance(popsize, bool) or not isinstance(popsize, int | np.integer) or popsize < MINIMUM:
        raise ValueError(f"popsize is a number of candidates and must be an integer >= {MINIMUM}, got {popsize!r}")
    if budget is not None and budget < popsize:
        raise ValueError(
            f"a budget of {budget} evaluations cannot pay for one population of {popsize}; "
            f"raise the budget or lower popsize (at least {MINIMUM})"
        )
    return int(popsize)


def initial_points(box: Box, m: int, streams: TrialStreams, first: Floats | None, *, stratified: bool = True) -> Floats:
    """Starting points (m, d): the rows of ``first``, then a Latin hypercube over the box.

    Each coordinate's range is cut into m equal strata and every member gets another one (McKay, Beckman &
    Conover 1979); without ``stratified`` members are drawn independently.
    """
    u = np.empty((m, box.d))
    for i in range(m):
        streams.of(i, Purpose.INITIAL).random(out=u[i])
    if stratified:
        strata = np.tile(np.arange(m, dtype=np.int32), (box.d, 1))
        streams.of(0, Purpose.DESIGN).permuted(strata, axis=1, out=strata)
        u = np.minimum((u + strata.T) / m, 1 - 2.0**-53)
    x = box.from_unit(u, None if first is None else first[0])
    if first is not None:
        x[: len(first)] = first
    return x


class Population:
    """Members and what is known of them.

    Attributes
    ----------
    x : ndarray, shape (m, d)
    loss : ndarray of float64, shape (m,)
        inf: failed or not evaluated yet.
    id : ndarray of int64, shape (m,)
        Trial numbers; -1: never asked, or not evaluated yet.
    """

    def __init__(self, x: Floats) -> None:
        self.x = x
        self.loss = np.full(len(x), np.inf)
        self.id = np.full(len(x), FOREIGN, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.x)

    def ranked(self) -> NDArray[np.int64]:
        """Slots of the members with a finite loss, best first."""
        order = np.argsort(self.loss, kind="stable")
        return order[: int(np.isfinite(self.loss).sum())]

    def spread(self) -> float:
        """Largest minus smallest loss; inf while a member has none."""
        high, low = float(self.loss.max()), float(self.loss.min())
        return high - low if np.isfinite(high) else np.inf

    def compete(self, told: Told, slot: int, f: float = np.nan, cr: float = np.nan) -> Selection:
        """Selection: the trial takes the slot unless it is worse; a failed trial never does.

        Tanabe & Fukunaga 2013 let an equal trial in (Zhang & Sanderson 2009, eq. 5, do not); it moves on
        plateaus.
        """
        parent_id, parent_loss = int(self.id[slot]), float(self.loss[slot])
        replaced = bool(np.isfinite(told.loss) and told.loss <= parent_loss)
        if replaced:
            self.x[slot], self.loss[slot], self.id[slot] = told.x, told.loss, told.id
        return Selection(told.id, slot, told.loss, replaced, parent_id, parent_loss, f, cr)

    def admit(self, told: Told) -> Selection:
        """A guest takes the worst member's place if it is better."""
        slot = int(np.argmax(self.loss))
        parent_id, parent_loss = int(self.id[slot]), float(self.loss[slot])
        if np.isfinite(told.loss) and told.loss < parent_loss:
            return self.compete(told, slot)
        return Selection(told.id, slot, told.loss, False, parent_id, parent_loss, np.nan, np.nan)

    def state_dict(self) -> dict[str, Any]:
        return {"x": self.x.copy(), "loss": self.loss.copy(), "id": self.id.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.x, self.loss, self.id = np.array(state["x"]), np.array(state["loss"]), np.array(state["id"])
