"""The two ways to drive an optimizer with an evaluator, by generation and in steady state, and what they ask of one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from evoprompt.optim.protocol import Evaluation, Evaluator, Optimizer, Trials
from evoprompt.parallel.batching import cut

__all__ = ["Notes", "PoolStats", "Pooled", "generational", "steady_state"]


@dataclass(frozen=True)
class PoolStats:
    """What a pool did so far.

    `busy` is the seconds that workers spent on micro-batches, `available` those that they were up; `queued` counts
    candidates that nobody has begun, `outstanding` all that were submitted and not collected.
    """

    workers: int
    busy: float
    available: float
    queued: int
    outstanding: int
    replacements: int

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that was spent evaluating; NaN before there was any."""
        return self.busy / self.available if self.available > 0 else float("nan")


class Pooled(Evaluator, Protocol):
    """An evaluator, local or Ray, that tells what its workers do and can take; a `with` block closes it."""

    batch_size: int

    def submit(self, trials: Trials, more: bool = False) -> None:
        """Queue trials; with ``more``, further ones follow as results come."""

    def stats(self) -> PoolStats:
        """What happened so far."""

    def appetite(self) -> int:
        """Candidates that should be outstanding for no worker to wait."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Notes:
    """An account of a search, taken while it runs; this one takes none and knows nothing."""

    def losses_of(self, trials: Trials) -> dict[int, float]:
        """Losses, by number, of those trials that are known already, from before an interruption."""
        return {}

    def outstanding(self) -> Trials | None:
        """Trials that were asked for before an interruption and not told."""
        return None

    def asked(self, count: int, trials: Trials, optimizer: Optimizer) -> None:
        """`ask(count)` gave these trials, in steady state."""

    def told(self, generation: int, trials: Trials, evaluation: Evaluation, stats: PoolStats) -> None:
        """A micro-batch was evaluated."""

    def settled(self, optimizer: Optimizer, stats: PoolStats) -> None:
        """The optimizer was told all that is known: a moment for a checkpoint."""


_NO_NOTES = Notes()
logger = logging.getLogger(__name__)


def generational(optimizer: Optimizer, evaluator: Pooled, notes: Notes = _NO_NOTES) -> None:
    """Evaluate a generation after the other until the optimizer stops.

    Deterministic: the result depends neither on who evaluates, nor on how many do, nor on the order of their results.
    Only losses are told; for constraints there is ``minimize(evaluator=...)``.

    Examples
    --------
    >>> from evoprompt.optim import DifferentialEvolution
    >>> from evoprompt.parallel import LocalEvaluator
    >>> optimizer = DifferentialEvolution([(-1, 1)] * 2, budget=200, seed=0)
    >>> generational(optimizer, LocalEvaluator(lambda x: (x**2).sum(axis=1), batch_size=4))
    >>> optimizer.evaluations, optimizer.best.loss < 1e-3
    (200, True)
    """
    _require_empty(evaluator)
    first = True
    while optimizer.should_stop() is None:
        generation, trials = optimizer.generation, optimizer.ask()
        if not len(trials):
            return
        losses = notes.losses_of(trials)
        if not losses:
            evaluator.submit(trials)
        for part in cut(trials, evaluator.batch_size) if losses else ():  # as they were cut
            left = [row for row, number in enumerate(part.ids.tolist()) if number not in losses]
            for some in [left] if len(left) == len(part) else [[row] for row in left]:  # as they were tried one by one
                evaluator.submit(part[some])
        for part, evaluation in evaluator.collect():
            losses |= zip(part.ids.tolist(), evaluation.loss.tolist(), strict=True)
            notes.told(generation, part, evaluation, evaluator.stats())
        if first:
            _tell_idle(len(trials), evaluator)
        first = False
        optimizer.tell(trials, np.array([losses[number] for number in trials.ids.tolist()], dtype=np.float64))
        notes.settled(optimizer, evaluator.stats())


def _require_empty(evaluator: Pooled) -> None:
    if left := evaluator.stats().outstanding:
        raise RuntimeError(f"{left} candidates of another search are in this evaluator; collect them or make a new one")


def _tell_idle(size: int, evaluator: Pooled) -> None:
    """Say it where a generation has less than one micro-batch for each worker."""
    workers, parts = evaluator.stats().workers, -(-size // evaluator.batch_size)
    if parts < workers:
        logger.warning(
            "a generation of %d candidates makes %d micro-batches of %d for %d workers: some have nothing to do; use a "
            "larger population, smaller micro-batches or the steady-state loop",
            size, parts, evaluator.batch_size, workers,
        )  # fmt: skip


def steady_state(optimizer: Optimizer, evaluator: Pooled, notes: Notes = _NO_NOTES) -> None:
    """Ask for a new candidate whenever a result arrives, so that no worker ever waits for another.

    What is still being evaluated when the optimizer stops is waited for and told: it counts against the budget.

    Parameters
    ----------
    optimizer : Optimizer
        One that can be asked while candidates are outstanding; best one that learns from each result, such as
        ``DifferentialEvolution(..., updating="immediate")``.
    evaluator : Pooled
        Gets as many candidates as it has appetite for; none of another search may be in it.
    notes : Notes, optional
        Told of what is asked and of each result; knows those of a search that is continued.

    Examples
    --------
    >>> from evoprompt.optim import DifferentialEvolution
    >>> from evoprompt.parallel import LocalEvaluator
    >>> optimizer = DifferentialEvolution([(-1, 1)] * 2, budget=200, seed=0, updating="immediate")
    >>> steady_state(optimizer, LocalEvaluator(lambda x: (x**2).sum(axis=1), batch_size=1))
    >>> optimizer.evaluations, optimizer.best.loss < 1e-3
    (200, True)
    """
    _require_empty(evaluator)
    waiting = 0  # for so many results

    def submit(trials: Trials) -> None:
        nonlocal waiting
        evaluator.submit(trials, more=optimizer.budget is None or optimizer.asked < optimizer.budget)
        waiting += len(trials)

    def refill() -> None:
        while optimizer.should_stop() is None and waiting < evaluator.appetite():
            trials = optimizer.ask(evaluator.batch_size)
            if not len(trials):
                return
            notes.asked(evaluator.batch_size, trials, optimizer)
            submit(trials)

    left = notes.outstanding()
    if left is not None:
        submit(left)
    refill()
    for part, evaluation in evaluator.collect():
        generation = optimizer.generation
        waiting -= len(part)
        optimizer.tell(part, evaluation.loss)
        notes.told(generation, part, evaluation, evaluator.stats())
        refill()
        notes.settled(optimizer, evaluator.stats())
