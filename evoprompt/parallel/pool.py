"""A pool of workers: who evaluates what, and when, whatever and wherever the workers are.

Nothing here knows of Ray or of a clock of its own, so that `benchmarks/scaling.py` can run the same code on a virtual
clock with a thousand workers.
"""

from __future__ import annotations

import logging
import textwrap
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from evoprompt.checks import whole_number
from evoprompt.errors import UserError
from evoprompt.optim.protocol import Evaluation, Trials
from evoprompt.parallel.batching import cut, failed
from evoprompt.parallel.loops import Pooled, PoolStats

__all__ = [
    "BatchResult",
    "CallFailedError",
    "Pool",
    "WorkerDiedError",
    "Workers",
    "WorkersLostError",
]

logger = logging.getLogger(__name__)

SECONDS_PER_CALL = 0.05  # of work that a call should carry, so that its round trip does not matter
DRIVER_SECONDS_PER_CALL = 0.002  # of the driver for a call, with room to spare: many workers need longer calls
PREFETCH_BELOW = 0.5  # seconds of a call: a worker with shorter ones gets the next before it is done
TICK_SECONDS = 1.0  # how often the pool looks after workers that hang, are lost or could be added
HANG_SECONDS, HANG_FACTOR = 600.0, 20.0  # a micro-batch hangs after the first, or so many times the longest one
FIRST_HANG_SECONDS = 3600.0  # while nobody knows how long one takes
REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 60.0  # before a failed start is tried again, twice as long every time
SILENT_SECONDS = 20.0  # until it is said again how long a wait for workers still is
SUSPECT = 2  # micro-batches on which a worker raised and another did not: then it is the worker
PACE_MEMORY = 0.5  # weight of the past in a worker's mean seconds per micro-batch

BatchResult = tuple[Evaluation, str | None]  # of one micro-batch, and what the objective raised


class WorkerDiedError(Exception):
    """A worker's process is gone; the text says of what."""


class WorkersLostError(RuntimeError):
    """No worker is left, and none can be had."""


class CallFailedError(Exception):
    """A worker lives but its call came to nothing; the text says why."""


class Workers(Protocol):
    """Where workers come from. Calls are hashable tokens; each worker works its calls off in their order."""

    label: str  # what workers are called, with a number behind it

    def now(self) -> float:
        """Seconds on the clock of the workers."""

    def room(self) -> int:
        """How many workers there could be now."""

    def start(self, name: str) -> tuple[Any, Hashable]:
        """Begin to start a worker: its handle, and the call that builds its objective."""

    def started(self, handle: Any, call: Hashable) -> None:
        """Take in a finished start. Raises `WorkerDiedError`, or what the factory of the objective raised."""

    def evaluate(self, handle: Any, parts: Sequence[Trials], probe: bool) -> Hashable:
        """Begin to evaluate micro-batches; with `probe`, so that `reached` can tell of it."""

    def reached(self, call: Hashable) -> bool:
        """Whether the worker is known to have come to a probed call."""

    def results(self, call: Hashable) -> list[BatchResult]:
        """What became of a finished evaluation. Raises `WorkerDiedError` or `CallFailedError`."""

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[Hashable]:
        """Those of the calls that are finished, at the latest after so many seconds."""

    def kill(self, handle: Any) -> None:
        """End a worker at once, whatever it does."""


@dataclass(eq=False)
class _Job:
    """A micro-batch, and what happened to it."""

    trials: Trials
    deaths: int = 0  # of workers that died of it
    missed: int = 0  # workers that perhaps were dead before they came to it
    alone: bool = False  # whether it must travel alone, to tell what a worker dies of
    doubted: Any = None  # the worker that raised on all of it, whereupon another one is asked


@dataclass(eq=False)
class _Call:
    token: Hashable
    jobs: list[_Job]
    begun: float  # when the worker came to it, as far as the driver knows
    probed: bool  # whether its worker had nothing to do, and so might have been dead for long


@dataclass(eq=False)
class _Slot:
    """A place for a worker that is starting, is up, or rests until it is tried again, and is replaced when it dies."""

    name: str
    handle: Any = None
    starting: Hashable | None = None
    up: bool = False
    since: float = 0.0  # when it began to start, or may again
    calls: deque[_Call] = field(default_factory=deque)
    pace: float | None = None  # seconds per micro-batch
    failed_starts: int = 0
    contradicted: int = 0  # micro-batches on which it raised and another worker did not
    suspicions: int = 0  # how often that was taken for a fault of the worker in this place
    wants: int = 1  # micro-batches that should be its own at any time

    @property
    def head(self) -> Hashable | None:
        """The call that is waited for: its start, or the first of its calls."""
        return self.calls[0].token if self.calls else self.starting

    def free_at(self, now: float) -> float:
        """When its calls are likely done; one that is late already is expected to take as long again."""
        if not self.calls:
            return now
        head, pace = self.calls[0], self.pace or 0.0
        due = head.begun + pace * len(head.jobs)
        waiting = sum(len(call.jobs) for call in self.calls) - len(head.jobs)
        return max(due, 2 * now - due) + pace * waiting


class Pool(Pooled):
    """Hands micro-batches to workers and takes results back, through the death of any of them.

    - A fast worker gets several micro-batches a call, and the next call before it is done with one; a slow worker
      gets less, and near the end of the queue nothing that others would finish sooner.
    - A micro-batch that a worker died with goes to the head of the queue. After `max_retries` more deaths its
      candidates are tried one by one, and one that kills a worker again has failed.
    - A micro-batch on which a worker raised is given to another one before it counts as failed. A worker that dies,
      hangs, or raises where others do not is replaced; a start that fails is tried again, later every time. Workers
      are given up where no node has room for them, and added where one has.

    Parameters
    ----------
    workers : Workers
    most : int or None
        How many workers to keep; None for as many as there is room for.
    batch_size, timeout_s, max_retries, hang_s
        As `RayEvaluator` takes them.
    """

    def __init__(
        self,
        workers: Workers,
        batch_size: int,
        most: int | None,
        timeout_s: float,
        max_retries: int,
        hang_s: float | None = None,
    ) -> None:
        self.batch_size = whole_number("batch_size", batch_size, 1, what="a whole number")
        self.workers, self.most = workers, most
        self.timeout_s, self.max_retries, self.hang_s = timeout_s, max_retries, hang_s
        self.last_error: str | None = None
        self.replacements = 0
        self.slots: list[_Slot] = []
        self._queue: deque[_Job] = deque()
        self._names = self._up = self._queued = 0
        self._more = self._closed = False
        self._bare_since: float | None = None
        self._said = 0.0  # when it was said last that no worker is up
        self._looked_after = workers.now()
        self._longest = 0.0
        self._ready: deque[tuple[Trials, Evaluation]] = deque()
        self._unfinished = 0
        self._busy = self._available = 0.0
        self._counted = workers.now()

    def start(self, count: int) -> None:
        """Start so many workers, without waiting for them."""
        for _ in range(count):
            self._add()

    def submit(self, trials: Trials, more: bool = False) -> None:
        """Queue trials; idle workers begin at once.

        ``more`` says that further ones follow as results come; without it, a slow worker gets none of the last ones.

        Raises
        ------
        RuntimeError
            If the evaluator was closed.
        """
        self._require_open()
        self._put([_Job(part) for part in cut(trials, self.batch_size)])
        self._unfinished += len(trials)
        self._more = more
        self._refill()

    def collect(self, timeout: float | None = None) -> Iterator[tuple[Trials, Evaluation]]:
        """Yield micro-batches as they finish, until none is outstanding or ``timeout`` seconds have passed.

        With a ``timeout`` of 0 it yields what is finished already. What it did not yield stays outstanding.

        Raises
        ------
        WorkersLostError
            If the last worker is lost and cannot be replaced.
        RuntimeError
            If the evaluator was closed.
        """
        self._require_open()
        deadline = None if timeout is None else self.workers.now() + timeout
        while self._unfinished:
            if not self._ready:
                left = np.inf if deadline is None else max(0.0, deadline - self.workers.now())
                heads = {slot.head: slot for slot in self.slots if slot.head is not None}
                for token in self.workers.wait(list(heads), min(TICK_SECONDS, left)):
                    if heads[token].head == token:  # else its worker was ended over another one
                        self._finish(heads[token])
                self._look_after()
                self._refill()
            while self._ready:  # a caller may leave between any two
                trials, evaluation = self._ready.popleft()
                self._unfinished -= len(trials)
                yield trials, evaluation
            if deadline is not None and self.workers.now() >= deadline:
                return

    def stats(self) -> PoolStats:
        """Workers, how busy they were, and what waits."""
        self._count_time()
        return PoolStats(self._up, self._busy, self._available, self._queued, self._unfinished, self.replacements)

    def appetite(self) -> int:
        """Candidates that should be outstanding for no worker to wait."""
        return self.batch_size * max(1, sum(slot.wants for slot in self.slots))

    def close(self) -> None:
        """Kill the workers; what is outstanding is dropped."""
        self._queue.clear()
        self._queued = 0
        for slot in self.slots:
            self._kill(slot)
        self.slots.clear()
        self._ready.clear()
        self._unfinished = 0
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"this {type(self).__name__} was closed; make a new one to evaluate more")

    def _take_start(self, slot: _Slot) -> None:
        """Take in a finished start. Raises what `Workers.started` does."""
        self.workers.started(slot.handle, slot.starting)
        self._count_time()
        self._up += 1
        slot.up, slot.starting, slot.failed_starts = True, None, 0

    # -- giving work out

    def _refill(self) -> None:
        """First to those that have nothing to do, then to those that soon will have."""
        for idle in (True, False):
            for slot in self.slots if self._queue else ():
                if self._queue and slot.up and idle == (not slot.calls) and len(slot.calls) < self._most_calls(slot):
                    self._give(slot)

    def _give(self, slot: _Slot) -> None:
        if not self._put_forward(slot):
            return
        size = self._batches_per_call(slot)
        if self._others_sooner(slot, size):
            return
        jobs = [self._queue.popleft() for _ in range(size)]
        self._queued -= sum(len(job.trials) for job in jobs)
        idle = not slot.calls
        token = self.workers.evaluate(slot.handle, [job.trials for job in jobs], probe=idle)
        slot.calls.append(_Call(token, jobs, self.workers.now(), idle))

    def _put_forward(self, slot: _Slot) -> bool:
        """Bring a job that is not for others alone to the head of the queue; whether there is one."""
        others = self._up > slot.up
        for place, job in enumerate(self._queue):
            if job.doubted is None or job.doubted is not slot.handle or not others:
                if place:
                    del self._queue[place]
                    self._queue.appendleft(job)
                return True
        return False

    def _put(self, jobs: list[_Job], first: bool = False) -> None:
        """Queue jobs, at the end or before all others."""
        self._queued += sum(len(job.trials) for job in jobs)
        if first:
            self._queue.extendleft(reversed(jobs))
        else:
            self._queue.extend(jobs)

    def _most_calls(self, slot: _Slot) -> int:
        """The one that it is at and, if they are short, the next."""
        return 2 if slot.pace is not None and slot.pace < PREFETCH_BELOW else 1

    def _batches_per_call(self, slot: _Slot) -> int:
        """How many micro-batches to send at once: more of shorter ones, but nobody's share of what is left."""
        if self._queue[0].alone:
            return 1
        share = len(self._queue) if self._more else len(self._queue) // (2 * len(self.slots))
        most = max(1, min(self._worthwhile(slot), share))
        return next((count for count in range(1, most) if self._queue[count].alone), most)

    def _worthwhile(self, slot: _Slot) -> int:
        """Micro-batches that make a call worth it."""
        seconds = max(SECONDS_PER_CALL, DRIVER_SECONDS_PER_CALL * len(self.slots))
        return max(1, int(seconds / slot.pace)) if slot.pace else 1

    def _others_sooner(self, slot: _Slot, size: int) -> bool:
        """Whether the others would be done with all that is left clearly before this slot with so many more."""
        now, left = self.workers.now(), len(self._queue)
        if self._more or slot.pace is None or left >= 2 * len(self.slots) or self._queue[0].doubted is not None:
            return False
        end = slot.free_at(now) + (size - 0.2) * slot.pace
        for other in self.slots:
            if other is not slot and other.pace and other.up:
                left -= max(0, int((end - other.free_at(now)) / other.pace))
                if left <= 0:
                    return True
        return False

    # -- taking results in

    def _finish(self, slot: _Slot) -> None:
        if slot.starting is not None:
            try:
                self._take_start(slot)
            except WorkerDiedError as death:
                self._rest(slot, f"worker {slot.name} died while it started: {death}")
            except (UserError, RuntimeError) as problem:
                self._rest(slot, f"worker {slot.name} could not build its objective: {problem}")
            return
        call = slot.calls[0]
        try:
            results = self.workers.results(call.token)
        except WorkerDiedError as death:
            self._bury(slot, f"died: {death}")
            return
        except CallFailedError as failure:
            results = [(failed(len(job.trials), slot.name), str(failure)) for job in call.jobs]
            if len(call.jobs) > 1:  # which of them it was is found out one by one
                results = []
                self._put([_Job(job.trials, job.deaths, job.missed, alone=True) for job in call.jobs], first=True)
        slot.calls.popleft()
        if slot.calls:
            slot.calls[0].begun = self.workers.now()
        self._learn_pace(slot, [evaluation.seconds for evaluation, error in results if error is None])
        for job, (evaluation, error) in zip(call.jobs, results, strict=False):
            self._judge(slot, job, evaluation, error)

    def _judge(self, slot: _Slot, job: _Job, evaluation: Evaluation, error: str | None) -> None:
        """Take a result; where a worker raised on a whole micro-batch, another is asked whether it does too."""
        if error is not None:
            self.last_error = error
            if job.doubted is None and self._up > slot.up and not np.isfinite(evaluation.loss).any():
                job.doubted, job.alone = slot.handle, True
                self._put([job], first=True)
                return
            logger.warning("the objective raised on one of the trials %s: %s", job.trials.ids.tolist(), error)
        elif job.doubted is not None:
            for other in self.slots:
                if other.handle is job.doubted:  # else it is gone already
                    self._suspect(other)
        self._ready.append((job.trials, evaluation))

    def _suspect(self, slot: _Slot) -> None:
        """Replace a worker that raised where another did not, at once if it happens again; later every time."""
        slot.contradicted += 1
        if slot.contradicted < SUSPECT:
            return
        self._put([job for call in slot.calls for job in call.jobs], first=True)
        slot.suspicions += 1
        self.replacements += 1
        self._rest(slot, f"worker {slot.name} raised where others did not: {self.last_error}", slot.suspicions)

    def _learn_pace(self, slot: _Slot, seconds: list[float]) -> None:
        """From micro-batches that were evaluated to their ends."""
        if not seconds:
            return
        self._busy += sum(seconds)
        self._longest = max(self._longest, *seconds)
        mean = sum(seconds) / len(seconds)
        slot.pace = mean if slot.pace is None else PACE_MEMORY * slot.pace + (1 - PACE_MEMORY) * mean
        slot.wants = self._worthwhile(slot) * self._most_calls(slot)

    def _bury(self, slot: _Slot, what: str) -> None:
        """Restart a worker that is gone, and queue what it had, or give it up."""
        head, *later = slot.calls
        ids = np.concatenate([job.trials.ids for job in head.jobs]).tolist()
        self._note(f"worker {slot.name} {what}; it had the trials {textwrap.shorten(str(ids), 80)}")
        missed = head.probed and not self.workers.reached(head.token)
        again = []
        for job in head.jobs:
            if len(head.jobs) > 1:  # nobody knows which one it died of
                again.append(_Job(job.trials, job.deaths, job.missed, alone=True))
                continue
            job.missed += missed
            job.deaths += not missed or job.missed > len(self.slots)
            if job.deaths <= self.max_retries:
                again.append(job)
            elif len(job.trials) > 1:
                again += [_Job(one, self.max_retries, job.missed, alone=True) for one in cut(job.trials, 1)]
            else:
                logger.warning("trial %d has failed: no worker survives it (%s)", job.trials.ids[0], what)
                self._ready.append((job.trials, failed(1, slot.name)))
        self._put(again + [job for call in later for job in call.jobs], first=True)
        self._replace(slot)

    # -- looking after the workers

    def _look_after(self) -> None:
        """Every second: end what hangs, try starts again, fit the number of workers to the room."""
        now = self.workers.now()
        if now - self._looked_after < TICK_SECONDS:
            return
        self._looked_after = now
        longest = max(HANG_SECONDS, HANG_FACTOR * self._longest) if self._longest else FIRST_HANG_SECONDS
        for slot in self.slots:
            limit = self.hang_s or longest
            if slot.calls and now - slot.calls[0].begun > limit * len(slot.calls[0].jobs):
                self._bury(slot, f"gave no answer for {now - slot.calls[0].begun:.0f} s (hang_timeout)")
            elif slot.starting is not None and now - slot.since > self.timeout_s:
                self._rest(slot, f"worker {slot.name} was not ready {self.timeout_s:g} s after its start (timeout)")
            elif slot.starting is None and not slot.up and now >= slot.since:
                self._begin(slot)
        self._fit()
        self._require_workers(now)

    def _fit(self) -> None:
        """Drop workers that no node has room for, and add some where nodes have come."""
        room = self.workers.room()
        for slot in [slot for slot in self.slots if not slot.up][: max(0, len(self.slots) - room)]:
            self._note(f"no node has room for worker {slot.name} any more")
            self._kill(slot)
            self.slots.remove(slot)
        for _ in range((room if self.most is None else min(room, self.most)) - len(self.slots)):
            self._add()

    def _require_workers(self, now: float) -> None:
        """Raise if there has been no worker for so long that none will come."""
        if self._up:
            self._bare_since = None
            return
        if self._bare_since is None:
            self._bare_since = self._said = now
        if now - self._bare_since > self.timeout_s:
            raise WorkersLostError(f"no worker is left to evaluate with; the last one was lost to: {self.last_error}")
        if now - self._said > SILENT_SECONDS:
            self._said = now
            left = self.timeout_s - (now - self._bare_since)
            logger.warning("no worker is up; waiting %.0f s more for one (executor.timeout)", left)

    def _rest(self, slot: _Slot, why: str, times: int | None = None) -> None:
        """Let a worker that did not come up, or is suspected, rest before it is tried again."""
        self._note(why)
        self._kill(slot)
        if times is None:
            times = slot.failed_starts = slot.failed_starts + 1
        slot.since = self.workers.now() + min(REST_SECONDS * 2 ** (times - 1), LONGEST_REST_SECONDS)

    def _add(self) -> None:
        slot = _Slot(f"{self.workers.label}-{self._names}")
        self._names += 1
        self.slots.append(slot)
        self._begin(slot)

    def _begin(self, slot: _Slot) -> None:
        slot.handle, slot.starting = self.workers.start(slot.name)
        slot.since = self.workers.now()

    def _replace(self, slot: _Slot) -> None:
        self._kill(slot)
        self.replacements += 1
        self._begin(slot)

    def _kill(self, slot: _Slot) -> None:
        self._count_time()
        self._up -= slot.up
        slot.calls.clear()
        slot.up, slot.pace, slot.starting, slot.contradicted = False, None, None, 0
        if slot.handle is not None:
            self.workers.kill(slot.handle)
            slot.handle = None

    def _count_time(self) -> None:
        """Add the time since the last count to every worker that is up; called before their number changes."""
        now = self.workers.now()
        self._available += (now - self._counted) * self._up
        self._counted = now

    def _note(self, error: str) -> None:
        self.last_error = error
        logger.warning("%s", error)
