"""An evaluator that calls a function in this thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import numpy as np

from evoprompt.optim.protocol import Evaluation, Trials
from evoprompt.typing import Floats

__all__ = ["Calls"]

_HURRY = 0.1


class Calls:
    """Calls a user's function for one candidate at a time, or for all at once.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` with x of shape (d,), or (n, d) if vectorized. What it gets is its own to write to.
    args : tuple
    vectorized : bool
    hurried : bool
        Give results every tenth of a second, between calls for one candidate, since a deadline may pass.

    Attributes
    ----------
    last_error : str or None
        The last exception, which cost its candidate.
    """

    def __init__(
        self, fun: Callable[..., Any] | None, args: tuple[Any, ...], vectorized: bool, *, hurried: bool = False
    ) -> None:
        if not callable(fun):
            raise ValueError(f"fun must be callable, got {fun!r:.200}")
        self._fun, self._args, self._vectorized, self._hurried = fun, args, vectorized, hurried
        self._queue: list[Trials] = []
        self.last_error: str | None = None

    def submit(self, trials: Trials) -> None:
        self._queue.append(trials)

    def collect(self, timeout: float | None = None) -> Iterator[tuple[Trials, Evaluation]]:
        """Evaluate what was submitted; leaving the iteration early forgets the rest."""
        queue, self._queue = self._queue, []
        for trials in queue:
            if self._vectorized:
                yield trials, self._together(trials.x)
                continue
            losses: list[float] = []
            start, since = 0, monotonic()
            for row in trials.x:
                value = self._call(row.copy())
                losses.append(np.nan if value is None else float(Evaluation.of(value, 1).loss[0]))
                if self._hurried and monotonic() - since > _HURRY:
                    yield trials[start : start + len(losses)], Evaluation(np.array(losses))
                    start, losses, since = start + len(losses), [], monotonic()
            if losses:
                yield trials[start:], Evaluation(np.array(losses))

    def close(self) -> None:
        """Nothing to release."""

    def _together(self, x: Floats) -> Evaluation:
        value = self._call(x.copy())
        if value is not None:
            return Evaluation.of(value, len(x))
        single = [self._call(row[None].copy()) for row in x] if len(x) > 1 else [None]
        return Evaluation(np.array([np.nan if loss is None else Evaluation.of(loss, 1).loss[0] for loss in single]))

    def _call(self, x: Floats) -> Any:
        """What the function returns, or None if it raised."""
        try:
            value = self._fun(x, *self._args)
        except Exception as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return None
        if value is None:
            raise ValueError("fun must return a loss, got None")
        return value
