"""Micro-batches: cutting trials, and evaluating one piece.

Every evaluator goes through these functions. The sums inside a forward pass are rounded differently for different
batch shapes, so a loss is reproducible only if the micro-batch it was computed in is: the layout depends on
``batch_size`` and on the order of the trials, never on who evaluates or how many do.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.checks import whole_number
from evoprompt.optim.protocol import Evaluation, Objective, Trials
from evoprompt.typing import Floats

__all__ = ["cut", "describe_error", "evaluate_batch", "failed"]

ALIGNMENT = 64  # bytes: a cache line; vectorised kernels may round differently on memory aligned differently


def cut(trials: Trials, batch_size: int) -> Iterator[Trials]:
    """Cut trials into micro-batches ``[0:b], [b:2b], ...`` in their own order; the last one may be shorter.

    Raises
    ------
    ValueError
        If ``batch_size`` is not a whole number of at least 1.

    Examples
    --------
    >>> trials = Trials([7, 8, 9], [[0.0], [1.0], [2.0]])
    >>> [part.ids.tolist() for part in cut(trials, 2)]
    [[7, 8], [9]]
    """
    size = whole_number("batch_size", batch_size, 1, what="a whole number")
    return (trials[start : start + size] for start in range(0, len(trials), size))


def evaluate_batch(objective: Objective, trials: Trials, worker: str = "local") -> tuple[Evaluation, str | None]:
    """Evaluate one micro-batch; an exception costs the candidate that raised it and no other.

    The objective is called once with ``x (n, d)``. If it raises, the candidates are tried one by one: those that
    raise again get a NaN loss and NaN metrics. Losses that are not finite are left as they are. The objective is given
    a copy of ``x`` that it may write to.

    Parameters
    ----------
    objective : Objective
        Points (n, d) to losses (n,) or an :class:`~evoprompt.optim.Evaluation`.
    trials : Trials
        The micro-batch.
    worker : str
        Name that the evaluation will carry.

    Returns
    -------
    evaluation : Evaluation
        Of all n candidates in the order of ``trials``, with the wall seconds spent, retries included.
    error : str or None
        The last exception's type, text and place, if there was one.

    Examples
    --------
    >>> def reciprocal(x):
    ...     return [1 / value for value in x[:, 0].tolist()]
    >>> evaluation, error = evaluate_batch(reciprocal, Trials([0, 1, 2], [[2.0], [0.0], [4.0]]))
    >>> evaluation.loss.tolist(), error.split(" (")[0]
    ([0.5, nan, 0.25], 'ZeroDivisionError: float division by zero')
    """
    started = time.perf_counter()
    evaluation, error = _attempt(objective, trials)
    if evaluation is None and len(trials) > 1:
        evaluation, error = _one_by_one(objective, trials, error)
    if evaluation is None:
        evaluation = failed(len(trials))
    return replace(evaluation, seconds=time.perf_counter() - started, worker=worker), error


def _attempt(objective: Objective, trials: Trials) -> tuple[Evaluation | None, str | None]:
    try:
        return Evaluation.of(objective(_aligned_copy(trials.x)), len(trials)), None
    except Exception as error:  # whatever an objective raises is the candidate's failure, not the run's
        return None, describe_error(error)


def _one_by_one(objective: Objective, trials: Trials, error: str | None) -> tuple[Evaluation | None, str | None]:
    loss = np.full(len(trials), np.nan)
    columns: dict[str, dict[int, NDArray[Any]]] = {}  # of each metric, its values by row
    for row in range(len(trials)):
        evaluation, single_error = _attempt(objective, trials[row : row + 1])
        error = single_error or error
        if evaluation is not None:
            loss[row] = evaluation.loss[0]
            for name, values in evaluation.metrics.items():
                columns.setdefault(name, {})[row] = values[0]
    try:
        return Evaluation(loss, {name: _column(name, rows, len(trials)) for name, rows in columns.items()}), error
    except ValueError as mismatch:
        return None, describe_error(mismatch)


def _column(name: str, rows: Mapping[int, NDArray[Any]], n: int) -> NDArray[Any]:
    """A metric of n candidates from that of single ones; those without it get NaN."""
    shapes = sorted({np.shape(values) for values in rows.values()})
    if len(shapes) > 1:
        raise ValueError(f"metric {name!r} must have one shape (n, ...) for all candidates, got {shapes} per candidate")
    dtype = np.result_type(*(values.dtype for values in rows.values()))
    if len(rows) < n and dtype.kind not in "fc":
        dtype = np.dtype(np.float64 if dtype.kind in "iub" else object)
    column: NDArray[Any] = np.empty((n, *shapes[0]), dtype)
    if dtype.kind in "fcO":
        column[...] = np.nan
    for row, values in rows.items():
        column[row] = values
    return column


def failed(n: int, worker: str = "local") -> Evaluation:
    """The evaluation of n candidates of which nothing is known but that they failed."""
    return Evaluation(np.full(n, np.nan), worker=worker)


def _aligned_copy(x: Floats) -> Floats:
    buffer = np.empty(x.nbytes + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    copy = buffer[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def describe_error(error: BaseException) -> str:
    """One line on an exception: type, text, and the file, line and function that raised it."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    last = frames[-1]
    return f"{text} ({last.filename}:{last.lineno}, in {last.name})"
