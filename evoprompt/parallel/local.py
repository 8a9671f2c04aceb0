"""The in-process evaluator."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from evoprompt.checks import whole_number
from evoprompt.optim.protocol import Evaluation, Objective, Trials
from evoprompt.parallel.batching import cut, evaluate_batch
from evoprompt.parallel.loops import Pooled, PoolStats

__all__ = ["LocalEvaluator"]

logger = logging.getLogger(__name__)


class LocalEvaluator(Pooled):
    """Evaluates trials in this process, micro-batch by micro-batch.

    Parameters
    ----------
    objective : Objective
        Points (n, d) to losses (n,) or an :class:`~evoprompt.optim.Evaluation`.
    batch_size : int
        Candidates per call of the objective.
    threads : int, optional
        Torch threads to evaluate with, if the objective uses torch; by default whatever is set. Where the number of
        threads changes how sums are rounded, giving what the Ray workers have makes results equal to theirs.

    Attributes
    ----------
    last_error : str or None
        What the objective raised last.

    Raises
    ------
    ValueError
        If ``batch_size`` or ``threads`` is not a whole number of at least 1.

    Examples
    --------
    >>> with LocalEvaluator(lambda x: (x**2).sum(axis=1), batch_size=2) as evaluator:
    ...     evaluator.submit(Trials([0, 1, 2], [[1.0], [2.0], [3.0]]))
    ...     for trials, evaluation in evaluator.collect():
    ...         print(trials.ids.tolist(), evaluation.loss.tolist())
    [0, 1] [1.0, 4.0]
    [2] [9.0]
    """

    def __init__(self, objective: Objective, batch_size: int, threads: int | None = None) -> None:
        if threads is not None:
            whole_number("threads", threads, 1, what="None or a whole number")
        self.objective = objective
        self.batch_size = whole_number("batch_size", batch_size, 1, what="a whole number")
        self.threads = threads
        self.last_error: str | None = None
        self._queue: deque[Trials] = deque()
        self._closed = False
        self._began, self._busy = time.perf_counter(), 0.0

    def submit(self, trials: Trials, more: bool = False) -> None:
        """Queue trials; they are evaluated when they are collected. ``more`` makes no difference here.

        Raises
        ------
        RuntimeError
            If the evaluator was closed.
        """
        if self._closed:
            raise RuntimeError("this LocalEvaluator was closed; make a new one to evaluate more")
        self._queue.extend(cut(trials, self.batch_size))

    def collect(self, timeout: float | None = None) -> Iterator[tuple[Trials, Evaluation]]:
        """Evaluate and yield micro-batches until none is left or ``timeout`` seconds have passed.

        A micro-batch is never broken off, and one is evaluated even if ``timeout`` is 0. An interrupted one stays
        queued.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._queue:
            trials = self._queue[0]
            with _torch_threads(self.threads):
                evaluation, error = evaluate_batch(self.objective, trials)
            self._queue.popleft()
            self._busy += evaluation.seconds
            if error is not None:
                self.last_error = error
                logger.warning("the objective raised on one of the trials %s: %s", trials.ids.tolist(), error)
            yield trials, evaluation
            if deadline is not None and time.monotonic() >= deadline:
                return

    def stats(self) -> PoolStats:
        """How busy this process was with evaluating, and what waits."""
        queued = sum(map(len, self._queue))
        return PoolStats(1, self._busy, time.perf_counter() - self._began, queued, queued, 0)

    def appetite(self) -> int:
        """Candidates that should be outstanding: one micro-batch."""
        return self.batch_size

    def close(self) -> None:
        """Drop what is queued."""
        self._queue.clear()
        self._closed = True


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Run with so many torch threads, if torch is in use at all; this room does not import it."""
    torch = sys.modules.get("torch")
    if threads is None or torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
