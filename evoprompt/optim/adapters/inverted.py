"""Turning a library's ``minimise(objective)`` inside out, so that its points can be asked for and its losses told."""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

from evoprompt.optim.adapters.base import ReplayedOptimizer, Result
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["Inverted", "InvertedOptimizer", "Minimise"]

Minimise = Callable[[Callable[[Doubles], Doubles]], Any]
"""``minimise(objective)`` calls ``objective`` with points (n, d), gets losses (n,), and never returns."""


class _AbandonedError(BaseException):
    """Ends the thread of an optimizer that nobody needs any more."""


class Inverted:
    """A minimiser on its own thread; its objective hands the points out and waits for the losses.

    Parameters
    ----------
    minimise : callable
        It must not hold a reference to whoever owns this object, whose end is what ends the thread.
    what : str
        What to call it in errors.

    Examples
    --------
    >>> def downhill(objective):
    ...     x = np.array([[8.0]])
    ...     while True:
    ...         x = x / 2 if objective(x / 2)[0] < objective(x)[0] else x
    >>> search = Inverted(downhill, "downhill")
    >>> first = search.points()
    >>> search.answer(first[:, 0] ** 2)
    >>> first.tolist(), search.points().tolist()
    ([[4.0]], [[8.0]])
    """

    def __init__(self, minimise: Minimise, what: str) -> None:
        self._points: SimpleQueue[Doubles | BaseException] = SimpleQueue()
        self._losses: SimpleQueue[Doubles | None] = SimpleQueue()
        arguments = (self._points, self._losses, minimise, what)
        threading.Thread(target=_run, args=arguments, daemon=True, name=what).start()
        weakref.finalize(self, self._losses.put, None)

    def points(self) -> Doubles:
        """The points (n, d) it wants evaluated next; an exception that ended it is raised here."""
        points = self._points.get()
        if isinstance(points, BaseException):
            self._points.put(points)  # for whoever asks again: nothing else will come
            raise points
        return points

    def answer(self, losses: Doubles) -> None:
        """The losses (n,) of the points it gave last."""
        self._losses.put(losses)


class InvertedOptimizer(ReplayedOptimizer):
    """An adapter whose engine evaluates batches of points; nothing is asked while a loss of a batch is missing."""

    @abstractmethod
    def _minimise(self) -> Minimise:
        """What proposes points of the box."""

    def _start(self) -> None:
        self._engine = Inverted(self._minimise(), f"the engine of {self.name!r}")
        self._slots: dict[int, int] = {}
        self._await_batch()

    def _await_batch(self) -> None:
        self._queue = self._engine.points()
        self._losses = np.full(len(self._queue), np.nan)

    def _natural(self) -> int:
        return len(self._queue)

    def _propose(self, ids: Indices) -> Floats:
        start = len(self._losses) - len(self._queue)
        handed, self._queue = self._queue[: len(ids)], self._queue[len(ids) :]
        self._slots.update(zip(ids.tolist(), range(start, start + len(handed)), strict=False))
        return handed

    def _learn(self, results: list[Result]) -> None:
        for result in results:
            slot = self._slots.pop(result.id, None)
            if slot is not None:
                self._losses[slot] = result.loss
        if len(self._queue) == 0 and not self._slots:
            self._engine.answer(self._losses)
            self._await_batch()
            self._learnt += 1


def _run(
    points: SimpleQueue[Doubles | BaseException], losses: SimpleQueue[Doubles | None], minimise: Minimise, what: str
) -> None:
    def objective(x: Doubles) -> Doubles:
        points.put(np.array(x))
        answer = losses.get()
        if answer is None:
            raise _AbandonedError
        return answer

    try:
        minimise(objective)
    except _AbandonedError:
        return
    except BaseException as error:
        points.put(error)
    else:
        points.put(RuntimeError(f"{what} ended by itself"))
