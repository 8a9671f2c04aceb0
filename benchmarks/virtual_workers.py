"""Workers on a virtual clock, for the real scheduling code: a thousand of them in a second."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.protocol import Evaluation, Trials
from evoprompt.parallel.pool import BatchResult

__all__ = ["VirtualWorkers"]


@dataclass(eq=False)
class _Worker:
    slowness: float
    free: float = 0.0
    calls: deque[tuple[float, int]] = field(default_factory=deque)  # when each is answered, in order


class VirtualWorkers:
    """What `evoprompt.parallel.pool.Pool` asks of workers, without processes and without waiting.

    Parameters
    ----------
    seconds
        Points (n, d) to the seconds (n,) that each takes a worker.
    slowness
        Of each worker: 4 takes four times as long.
    driver_s
        Seconds that the driver needs to send a call and to take its answer in, together.
    latency_s
        Seconds until what was sent arrives.
    charged
        Whether the CPU time that this process takes between two answers, for scheduling and for the optimizer, passes
        on the virtual clock too.

    Attributes
    ----------
    calls
        Evaluation calls so far.
    """

    label = "virtual"

    def __init__(
        self,
        seconds: Callable[[NDArray[Any]], NDArray[np.float64]],
        slowness: Sequence[float],
        driver_s: float,
        latency_s: float,
        charged: bool = False,
    ) -> None:
        self.seconds, self.slowness, self.driver_s, self.latency_s = seconds, list(slowness), driver_s, latency_s
        self.charged = charged
        self.clock, self._left = 0.0, process_time()
        self.calls = 0
        self._numbers = count()
        self._heads: list[tuple[float, int]] = []
        self._worker: dict[int, _Worker] = {}
        self._answers: dict[int, list[BatchResult]] = {}

    def now(self) -> float:
        """Seconds on the virtual clock."""
        return self.clock

    def room(self) -> int:
        """All of them."""
        return len(self.slowness)

    def start(self, name: str) -> tuple[Any, Hashable]:
        """Start at once."""
        worker = _Worker(self.slowness[int(name.rsplit("-", 1)[1])], self.clock)
        return worker, self._call(worker, self.clock)

    def started(self, handle: Any, call: Hashable) -> None:
        """Never fails."""
        self._done(call)

    def evaluate(self, handle: Any, parts: Sequence[Trials], probe: bool) -> Hashable:
        """Work that ends when the worker has come to it and done it."""
        self.clock += self.driver_s / 2
        self.calls += 1
        took = [float(self.seconds(part.x).sum()) * handle.slowness for part in parts]
        handle.free = max(handle.free, self.clock + self.latency_s) + sum(took)
        number = self._call(handle, handle.free + self.latency_s)
        self._answers[number] = [
            (Evaluation(part.x[:, 0].astype(np.float64), seconds=seconds), None)
            for part, seconds in zip(parts, took, strict=True)
        ]
        return number

    def reached(self, call: Hashable) -> bool:
        """Nobody dies here."""
        return True

    def results(self, call: Hashable) -> list[BatchResult]:
        """The losses, the first coordinates."""
        self.clock += self.driver_s / 2
        self._done(call)
        return self._answers.pop(int(str(call)))

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[Hashable]:
        """Let the clock run to the next answer."""
        if self.charged:
            self.clock += process_time() - self._left
        done = self._arrived(timeout)
        self._left = process_time()
        return done

    def _arrived(self, timeout: float) -> list[Hashable]:
        if not self._heads or self._heads[0][0] > self.clock + timeout:
            self.clock += timeout
            return []
        self.clock = max(self.clock, self._heads[0][0])
        done: list[Hashable] = []
        while self._heads and self._heads[0][0] <= self.clock:
            done.append(heapq.heappop(self._heads)[1])
        return done

    def kill(self, handle: Any) -> None:
        """Nothing to end."""

    def _call(self, worker: _Worker, answered: float) -> int:
        number = next(self._numbers)
        self._worker[number] = worker
        worker.calls.append((answered, number))
        if len(worker.calls) == 1:
            heapq.heappush(self._heads, (answered, number))
        return number

    def _done(self, call: Hashable) -> None:
        """The next call of the same worker is its head now."""
        worker = self._worker.pop(int(str(call)))
        worker.calls.popleft()
        if worker.calls:
            heapq.heappush(self._heads, worker.calls[0])
