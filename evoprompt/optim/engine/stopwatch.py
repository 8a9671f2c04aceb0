"""Wall-clock time spent on a search, counted over restarts and repeatable from a log."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from evoprompt.optim.engine.state import Stateful

__all__ = ["Stopwatch"]


class Stopwatch(Stateful):
    """Seconds since the first :meth:`tick`, on top of those of earlier processes.

    Whatever happens within one ask or tell sees one time, that of its tick.

    Parameters
    ----------
    now : callable
        The clock, in seconds.

    Examples
    --------
    >>> clock = iter([10.0, 12.5])
    >>> watch = Stopwatch(lambda: next(clock))
    >>> watch.tick(), watch.tick()
    (0.0, 2.5)
    """

    elapsed: float

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._start: float | None = None
        self.elapsed = 0.0

    def tick(self) -> float:
        """Read the clock and remember the time as ``elapsed``."""
        self.elapsed = self.read()
        return self.elapsed

    def read(self) -> float:
        """The time, without remembering it; 0 before the first tick, which starts the watch."""
        now = self._now()
        if self._start is None:
            self._start = now - self.elapsed
        return now - self._start

    def state_dict(self) -> dict[str, Any]:
        """The time now; another watch goes on from there at its next tick."""
        return {"elapsed": self.elapsed if self._start is None else self.read()}

    def _was_restored(self) -> None:
        self._start = None
