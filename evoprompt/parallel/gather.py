"""Evaluate a set of trials and get one evaluation back, in the order asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.protocol import Evaluation, Evaluator, Trials
from evoprompt.parallel.batching import merge

__all__ = ["Gathered", "evaluate"]


@dataclass(frozen=True, eq=False)
class Gathered:
    """An evaluation of n candidates, and who spent how long on each.

    Attributes
    ----------
    evaluation : Evaluation
        Losses (n,) and metrics (n, ...) in the order of the trials. Its ``seconds`` are the sum over micro-batches.
    seconds : array, shape (n,)
        Wall seconds of a candidate's micro-batch, divided by the number of candidates in it.
    workers : array of str, shape (n,)
        Who evaluated each candidate.
    """

    evaluation: Evaluation
    seconds: NDArray[np.float64]
    workers: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.evaluation)


def evaluate(
    evaluator: Evaluator, trials: Trials, on_batch: Callable[[Trials, Evaluation], object] | None = None
) -> Gathered:
    """Evaluate trials and merge the micro-batches in the order of ``trials``, in whatever order they arrive.

    Parameters
    ----------
    evaluator : Evaluator
        With nothing else outstanding.
    trials : Trials
        Candidates with ids that differ from each other.
    on_batch : callable, optional
        Called as ``on_batch(trials, evaluation)`` with each micro-batch as it arrives.

    Raises
    ------
    ValueError
        If two trials have one id, or a metric changes its shape from one micro-batch to another.
    RuntimeError
        If the evaluator hands back trials that were not among these, one of them twice, or not all of them.

    Examples
    --------
    >>> from evoprompt.parallel.local import LocalEvaluator
    >>> evaluator = LocalEvaluator(lambda x: x[:, 0], batch_size=2)
    >>> gathered = evaluate(evaluator, Trials([5, 3, 4], [[0.5], [0.3], [0.4]]))
    >>> gathered.evaluation.loss.tolist(), gathered.workers.tolist()
    ([0.5, 0.3, 0.4], ['local', 'local', 'local'])
    """
    row_of = {int(number): row for row, number in enumerate(trials.ids)}
    if len(row_of) != len(trials):
        raise ValueError(f"trials must have ids that differ from each other, got {trials.ids.tolist()}")
    seconds = np.zeros(len(trials))
    workers = [""] * len(trials)
    parts = []
    evaluator.submit(trials)
    for part, evaluation in evaluator.collect():
        strangers = [int(number) for number in part.ids if int(number) not in row_of]
        if strangers:
            raise RuntimeError(
                f"the evaluator handed back trials {strangers} that were not asked for here or came twice; "
                "collect what is outstanding before evaluating more"
            )
        rows = np.array([row_of.pop(int(number)) for number in part.ids])
        parts.append((rows, evaluation))
        seconds[rows] = evaluation.seconds / len(rows)
        for row in rows:
            workers[row] = evaluation.worker
        if on_batch is not None:
            on_batch(part, evaluation)
    if row_of:
        raise RuntimeError(f"the evaluator never handed back the trials {sorted(row_of)}")
    return Gathered(merge(parts, len(trials)), seconds, np.array(workers, dtype=np.str_))
