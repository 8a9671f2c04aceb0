"""The external archive: parents that were beaten, kept for difference vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evoprompt.optim.de.population import Population
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.rows import compact, copy_rows
from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["Archive"]


class Archive(Stateful):
    """JADE's external archive (Zhang & Sanderson 2009, section III-A): at most ``capacity`` parents that lost.

    Parameters
    ----------
    capacity, d : int
    dtype : numpy dtype
    overwrite : bool
        What happens to a parent that comes when the archive is full: it takes the place of a random one
        (Tanabe & Fukunaga 2013, "randomly selected elements are deleted to make space for the newly inserted
        elements"), or, as in JADE, all are added and then random ones are removed, new ones among them.
    """

    def __init__(self, capacity: int, d: int, dtype: np.dtype[Any], *, overwrite: bool = True) -> None:
        self.capacity = capacity
        self._rows: Floats = np.empty((capacity, d), dtype=dtype)
        self._loss, self._violation = np.empty(capacity), np.empty(capacity)
        self._size = 0
        self._overwrite = overwrite

    @property
    def x(self) -> Floats:
        """Archived parents, (a, d); a view."""
        return self._rows[: self._size]

    @property
    def parents(self) -> Population:
        """Archived parents and their losses and violations; views."""
        return Population(self.x, self._loss[: self._size], self._violation[: self._size])

    def add(self, parents: Population, rows: Indices, ids: Indices, beaten: Bools, streams: TrialStreams) -> None:
        """Keep the members ``rows[beaten]`` of ``parents``, in this order.

        Parameters
        ----------
        parents : Population
        rows, ids : ndarray of int64, shape (n,)
            Each trial's parent, and the trial numbers, whose streams say what makes room.
        beaten : ndarray of bool, shape (n,)
        streams : TrialStreams
        """
        won = beaten.nonzero()[0]
        if self.capacity == 0 or len(won) == 0:
            return
        added = len(won)
        over = self._size + added - self.capacity
        place = np.arange(self._size, self._size + added)
        if over > 0:
            u = streams.uniforms(ids, 1, Purpose.ARCHIVE)[won[-over:], 0]
            if self._overwrite:
                place[-over:] = (u * self.capacity).astype(np.int64)
            else:
                place = self._after_removal(u, added)
            # Of several for one place the last one stays; place -1 is nowhere.
            place, last = np.unique(place[::-1], return_index=True)
            won = won[::-1][last][place >= 0]
            place = place[place >= 0]
        members = rows[won]
        copy_rows(self._rows, place, parents.x, members)
        self._loss[place], self._violation[place] = parents.loss[members], parents.violation[members]
        self._size = min(self._size + added, self.capacity)

    def _after_removal(self, u: Doubles, new: int) -> Indices:
        """Where each new row ends up when random rows are removed, the last row filling each gap."""
        content = list(range(self._size + new))
        for value in u.tolist():
            gap = int(value * len(content))
            content[gap] = content[-1]
            content.pop()
        place = np.full(new, -1, dtype=np.int64)
        for where, which in enumerate(content):
            if which >= self._size:
                place[which - self._size] = where
        return place

    def resize(self, capacity: int, rng: np.random.Generator) -> None:
        """Set the capacity; random rows are removed one by one until the rest fits."""
        self._grow(capacity)
        self.capacity = capacity
        if self._size <= self.capacity:
            return
        keep = list(range(self._size))
        for value in rng.random(self._size - self.capacity).tolist():
            del keep[int(value * len(keep))]
        kept = np.array(keep, dtype=np.int64)
        compact(self._rows, kept)
        self._loss[: len(kept)], self._violation[: len(kept)] = self._loss[kept], self._violation[kept]
        self._size = self.capacity

    def _grow(self, capacity: int) -> None:
        if capacity <= len(self._rows):
            return
        rows = np.empty((capacity, self._rows.shape[1]), dtype=self._rows.dtype)
        rows[: self._size] = self.x
        self._rows = rows
        self._loss, self._violation = (np.resize(known, capacity) for known in (self._loss, self._violation))

    def clear(self) -> None:
        """Remove all rows."""
        self._size = 0

    def state_dict(self) -> dict[str, Any]:
        known = self.parents.state_dict()
        return {name: known[name] for name in ("x", "loss", "violation")} | {"capacity": self.capacity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._size, self.capacity = 0, int(state["capacity"])
        self._grow(self.capacity)
        self._size = len(state["x"])
        self._rows[: self._size], self._loss[: self._size] = state["x"], state["loss"]
        self._violation[: self._size] = state["violation"]
