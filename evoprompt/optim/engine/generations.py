"""Generation after generation: slots handed out, results in any order, selection when it is time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from evoprompt.optim.engine.algorithm import GUEST, Algorithm, Made, Results, Selection
from evoprompt.optim.engine.ledger import FOREIGN, Ledger, Received
from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["GenerationRecord", "Generations"]


@dataclass(frozen=True, eq=False)
class GenerationRecord:
    """The selections of one generation, each array (n,), in the order they were made.

    Attributes
    ----------
    generation : int
        Which generation; 0 is the initial population.
    id, slot : ndarray of int64
        Trial numbers and the slots they were made for; -1 for a point told without being asked.
    loss, parent_loss : ndarray of float64
        Losses of the two sides; inf for a failure, the parent's also where the slot held nothing.
    violation : ndarray of float64
        By how much the trial violates constraints; 0 without any.
    replaced : ndarray of bool
        Whether the trial took a member's place.
    parent_id : ndarray of int64
        Trial number of the member that was there; -1 if it was known without being asked, or not evaluated.
    tags : mapping of str to ndarray of float64
        What the algorithm noted for each trial, such as "f" and "cr", its scale factor and crossover rate; NaN
        where it was not made by mutation.
    """

    generation: int
    id: Indices
    slot: Indices
    loss: Doubles
    violation: Doubles
    replaced: Bools
    parent_id: Indices
    parent_loss: Doubles
    tags: dict[str, Doubles]

    @classmethod
    def of(
        cls, generation: int, tags: Sequence[str], selections: Sequence[tuple[Results, Selection]]
    ) -> GenerationRecord:
        """The record of what an algorithm selected, call by call."""
        rows: list[Any] = [(r.id, r.slot, r.loss, r.violation, *selection, r.tags) for r, selection in selections]
        columns = rows[0] if len(rows) == 1 else map(np.concatenate, zip(*rows, strict=True))
        id, slot, loss, violation, replaced, parent_id, parent_loss, values = columns
        named = {name: values[:, k] for k, name in enumerate(tags)}
        return cls(generation, id, slot, loss, violation, replaced, parent_id, parent_loss, named)

    def __len__(self) -> int:
        return len(self.id)


class Selected(NamedTuple):
    """What an algorithm selected in one call."""

    results: Results
    selection: Selection


class Generations(Stateful):
    """Drives an algorithm through its generations.

    Parameters
    ----------
    algorithm : Algorithm
    ledger : Ledger
    draw : callable
        Fresh points (n, d) for trial numbers (n,), for those asked for beyond the starting points.
    immediate : bool
        Whether results are selected as they come; otherwise a whole generation at a time, in the order of its
        slots.
    """

    number: int
    """Generations closed."""
    record: GenerationRecord | None
    """Of the last one closed."""
    _algorithm: Algorithm
    _todo: Indices
    """Slots whose trial has not been handed out."""
    _untouched: bool
    """Nothing of the generation has been handed out."""
    _ahead: int
    """Slot of the next trial that no generation waits for."""
    _awaited: int
    """Outstanding trials that the generation waits for."""
    _known: list[Results]
    """To be selected when the generation closes: blocks of it that were told, and members that need no evaluation."""
    _aside: list[Results]
    """Guests and trials asked ahead, to be selected between generations."""
    _selected: list[Selected]
    """In this generation, without points."""
    _count: int
    """How many those are."""

    def __init__(
        self, algorithm: Algorithm, ledger: Ledger, draw: Callable[[Indices], Floats], *, immediate: bool
    ) -> None:
        self._algorithm, self._ledger, self._draw, self._immediate = algorithm, ledger, draw, immediate
        self.number, self.record = 0, None
        self._todo, self._untouched = np.arange(algorithm.size), True
        self._ahead = self._awaited = self._count = 0
        self._known, self._aside, self._selected = [], [], []

    @property
    def natural(self) -> int:
        """How many trials are the rest of the generation."""
        if self._immediate and self.number > 0:
            return self._algorithm.size - self._ahead % self._algorithm.size
        return len(self._todo)

    def make(self, ids: Indices) -> tuple[Made, Indices, int]:
        """Points for trials, their slots, and how many of them, at the front, the generation will wait for."""
        n = len(ids)
        slots, self._todo = self._todo[:n], self._todo[n:]
        ordinary, ahead = len(slots), n - len(slots)
        self._untouched &= ordinary == 0
        self._awaited += ordinary
        if ahead == 0:
            return self._algorithm.make(ids, slots), slots, ordinary
        if self.number > 0:
            size = self._algorithm.size
            slots = np.concatenate([slots, (self._ahead + np.arange(ahead)) % size])
            self._ahead = (self._ahead + ahead) % size
            return self._algorithm.make(ids, slots), slots, ordinary
        # The algorithm has nothing but starting points to give yet.
        made = Made(self._draw(ids[ordinary:]), np.full((ahead, len(self._algorithm.tags)), np.nan), 0)
        if ordinary:
            first = self._algorithm.make(ids[:ordinary], slots)
            made = Made(np.concatenate([first.x, made.x]), np.concatenate([first.tags, made.tags]), 0)
        return made, np.concatenate([slots, np.full(ahead, GUEST)]), ordinary

    def take(self, received: Received) -> None:
        """Take in results that came back."""
        for block, which, offsets in received.pieces:
            if block.awaited:
                self._awaited -= len(received.loss[which])
            if self._immediate or not block.awaited:
                self._aside.append(block.results(offsets))
            elif block.left == 0:
                self._known.append(block.results(slice(None)))
        if len(received.guests):
            self.admit(received.guest_x, received.loss[received.guests], received.violation[received.guests])

    def admit(self, x: Floats, loss: Doubles, violation: Doubles) -> None:
        """Let points compete that were never asked, (n, d)."""
        self._aside.append(self._strangers(x, loss, violation))

    def prefill(self, first: int, last: int, x: Floats, loss: Doubles, violation: Doubles) -> int:
        """Fill slots of the initial population from ``last`` down to ``first``; how many points were taken."""
        free = self._todo[(self._todo >= first) & (self._todo < last)][::-1][: len(x)]
        n = len(free)
        if n:
            members = self._strangers(x[:n], loss[:n], violation[:n])._replace(slot=free.copy())
            (self._aside if self._immediate else self._known).append(members)
            self._todo = np.setdiff1d(self._todo, free)
        return n

    def _strangers(self, x: Floats, loss: Doubles, violation: Doubles) -> Results:
        n = len(x)
        tags = np.full((n, len(self._algorithm.tags)), np.nan)
        return Results(np.full(n, FOREIGN), np.full(n, GUEST), x, loss, violation, tags)

    def settle(self) -> bool:
        """Select what can be selected now; close the generation and say so if it is complete."""
        if self._immediate or (self.number > 0 and self._untouched):
            self._select_aside()
        complete = self._is_complete()
        if complete:
            self._close()
        return complete

    def go_on_half_known(self) -> bool:
        """Without a barrier, half of the starting points are enough to go on from; the others come late."""
        waits = self._immediate and self.number == 0 and len(self._todo) == 0 and self._awaited > 0
        if not waits or 2 * self._count < self._algorithm.size:
            return False
        for block in self._ledger.blocks.values():
            block.awaited = False
        self._awaited = 0
        self._close()
        return True

    def _is_complete(self) -> bool:
        spent = self._ledger.exhausted
        if self._immediate and self.number > 0:
            return self._count >= self._algorithm.size or (spent and self._count > 0 and self._ledger.in_flight == 0)
        if self._awaited or not (self._known or self._aside or self._count):
            return False
        return len(self._todo) == 0 or (spent and (self.number == 0 or not self._untouched))

    def _close(self) -> None:
        if self._known:
            known, self._known = concatenated(self._known), []
            self._select(in_order(known))
        self._select_aside()
        self.record = GenerationRecord.of(self.number, self._algorithm.tags, self._selected)
        self._algorithm.end_generation(self._ledger.progress)
        self.number += 1
        self._selected, self._count = [], 0
        self._todo = np.arange(0 if self._immediate else self._algorithm.size)
        self._untouched = True

    def _select_aside(self) -> None:
        if self._aside:
            waiting, self._aside = concatenated(self._aside), []
            for results in distinct_slots(waiting):
                self._select(results)

    def _select(self, results: Results) -> None:
        selection = self._algorithm.select(results)
        self._selected.append(Selected(results._replace(x=results.x[:, :0].copy()), selection))
        self._count += len(results.id)


def concatenated(parts: Sequence[Results]) -> Results:
    """Several results as one; a single one is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    columns: Any = zip(*parts, strict=True)
    return Results(*(np.concatenate(column) for column in columns))


def in_order(results: Results) -> Results:
    """Results in the order of their slots; without a copy if they are."""
    if (results.slot[1:] >= results.slot[:-1]).all():
        return results
    order = np.argsort(results.slot, kind="stable")
    return _rows(results, order)


def distinct_slots(results: Results) -> Iterator[Results]:
    """The results in rounds, each without two results for one slot; guests are in the first.

    Examples
    --------
    >>> zeros = np.zeros(4)
    >>> results = Results(np.arange(4), np.array([2, 0, 2, -1]), zeros[:, None], zeros, zeros, zeros[:, None])
    >>> [part.id.tolist() for part in distinct_slots(results)]
    [[0, 1, 3], [2]]
    """
    n = len(results.slot)
    if n == 1:
        yield results
        return
    slots, left = np.where(results.slot == GUEST, -1 - np.arange(n), results.slot), np.arange(n)
    while len(left):
        first = np.sort(np.unique(slots[left], return_index=True)[1])
        yield results if len(first) == n else _rows(results, left[first])
        left = np.delete(left, first)


def _rows(results: Results, index: Indices) -> Results:
    columns: Any = results
    return Results(*(column[index] for column in columns))
