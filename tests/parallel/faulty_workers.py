"""Workers on a virtual clock that die, hang, raise and fail to start, as a seeded generator decides."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from evoprompt.optim import Evaluation, Trials
from evoprompt.parallel.pool import BatchResult, CallFailedError, WorkerDiedError

NEVER = float("inf")


@dataclass
class Chances:
    """Of what happens to a micro-batch, or to a start."""

    die: float = 0.0
    hang: float = 0.0
    refuse: float = 0.0
    fail: float = 0.0
    start: float = 0.0
    poison: frozenset[int] = frozenset()


@dataclass(eq=False)
class Faulty:
    """One worker: when it is free, when it died, and its calls with the time and fate of each."""

    name: str
    pace: float
    free: float
    died: float = NEVER
    calls: dict[int, tuple[float, Any]] = field(default_factory=dict)


class FaultyWorkers:
    """What a pool asks of workers; `killed` counts those that the pool ended, `done` every micro-batch that was."""

    label = "faulty"

    def __init__(self, seed: int, seconds: float, chances: Chances, rooms: Sequence[tuple[float, int]]) -> None:
        self.random, self.seconds, self.chances, self.rooms = random.Random(seed), seconds, chances, rooms
        self.clock = 0.0
        self.workers: list[Faulty] = []
        self._numbers = count()
        self._worker: dict[Hashable, Faulty] = {}

    def now(self) -> float:
        return self.clock

    def room(self) -> int:
        return [room for since, room in self.rooms if since <= self.clock][-1]

    def start(self, name: str) -> tuple[Any, Hashable]:
        worker = Faulty(name, self.seconds * self.random.choice([1, 1, 1, 4, 10]), self.clock)
        self.workers.append(worker)
        fate = self.random.choice(["died", "raised"]) if self.random.random() < self.chances.start else None
        return worker, self._call(worker, self.random.uniform(0.1, 3), fate)

    def started(self, handle: Any, call: Hashable) -> None:
        fate = self._taken(call)
        if fate == "died":
            raise WorkerDiedError("while it started")
        if fate == "raised":
            raise RuntimeError("no memory")

    def evaluate(self, handle: Any, parts: Sequence[Trials], probe: bool) -> Hashable:
        if handle.died <= self.clock:
            return self._call(handle, 0.01, "died")
        took, answers = 0.0, []
        for part in parts:
            fate = self._fate(part)
            if fate in ("died", "failed"):
                return self._call(handle, took, fate)
            if fate == "hangs":
                return self._call(handle, NEVER, None)
            seconds = handle.pace * len(part) * self.random.uniform(0.5, 1.5)
            took += seconds
            if fate == "raised":
                answers.append((Evaluation(np.full(len(part), np.nan), seconds=seconds), "an error"))
            else:
                answers.append((Evaluation(part.x[:, 0], seconds=seconds, worker=handle.name), None))
        return self._call(handle, took, answers)

    def reached(self, call: Hashable) -> bool:
        return self._worker[call].died > self.clock

    def results(self, call: Hashable) -> list[BatchResult]:
        fate = self._taken(call)
        if fate == "died":
            raise WorkerDiedError("in the middle")
        if fate == "failed":
            raise CallFailedError("cannot travel")
        return fate

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[Hashable]:
        times = {call: self._worker[call].calls[call][0] for call in calls}
        self.clock = max(self.clock, min([self.clock + timeout, *times.values()]))
        return [call for call, time in times.items() if time <= self.clock]

    def kill(self, handle: Any) -> None:
        handle.died = min(handle.died, self.clock)

    def lose(self) -> None:
        """Some worker dies now, busy or idle."""
        alive = [worker for worker in self.workers if worker.died > self.clock]
        if alive:
            worker = self.random.choice(alive)
            worker.died = self.clock
            for call, (time, _) in worker.calls.items():
                if time > self.clock:
                    worker.calls[call] = (self.clock, "died")

    def _fate(self, part: Trials) -> str:
        chances, drawn = self.chances, self.random.random()
        if chances.poison & set(part.ids.tolist()):
            return "died"
        for fate, chance in (("died", chances.die), ("hangs", chances.hang), ("raised", chances.refuse)):
            if drawn < chance:
                return fate
            drawn -= chance
        return "failed" if drawn < chances.fail else "done"

    def _call(self, worker: Faulty, seconds: float, fate: Any) -> int:
        number = next(self._numbers)
        worker.free = max(worker.free, self.clock) + seconds
        worker.calls[number] = (worker.free, fate)
        if fate == "died":
            worker.died = min(worker.died, worker.free)
        self._worker[number] = worker
        return number

    def _taken(self, call: Hashable) -> Any:
        worker = self._worker[call]
        time, fate = worker.calls.pop(int(str(call)))
        return "died" if time > worker.died else fate
