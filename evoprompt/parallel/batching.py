"""Micro-batches: cutting trials, evaluating one piece, putting pieces together again.

Every evaluator goes through these functions. The sums inside a forward pass are rounded differently for different
batch shapes, so a loss is reproducible only if the micro-batch it was computed in is: the layout depends on
``batch_size`` and on the order of the trials, never on who evaluates or how many do.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.checks import whole_number
from evoprompt.optim.protocol import Evaluation, Objective, Trials
from evoprompt.typing import Floats, Indices

__all__ = ["cut", "describe_error", "evaluate_batch", "failed", "merge"]

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
    parts: list[tuple[Indices, Evaluation]] = []
    for row in range(len(trials)):
        evaluation, single_error = _attempt(objective, trials[row : row + 1])
        error = single_error or error
        if evaluation is not None:
            parts.append((np.array([row]), evaluation))
    try:
        return merge(parts, len(trials)), error
    except ValueError as mismatch:
        return None, describe_error(mismatch)


def failed(n: int, worker: str = "local") -> Evaluation:
    """The evaluation of n candidates of which nothing is known but that they failed."""
    return Evaluation(np.full(n, np.nan), worker=worker)


def merge(parts: Sequence[tuple[Indices, Evaluation]], n: int) -> Evaluation:
    """Put evaluations of some rows each together into one of n rows.

    Parameters
    ----------
    parts : sequence of (rows (m,), Evaluation of m candidates)
        Which of the n rows each evaluation belongs to.
    n : int
        Number of rows. A row that no part covers gets a NaN loss and NaN metrics.

    Raises
    ------
    ValueError
        If a metric has not the same trailing shape in all parts.

    Examples
    --------
    >>> late = (np.array([2, 3]), Evaluation([3.0, 4.0], {"score": [30, 40]}))
    >>> early = (np.array([0]), Evaluation([1.0], {"score": [10]}))
    >>> whole = merge([late, early], 4)
    >>> whole.loss.tolist(), whole.metrics["score"].tolist()
    ([1.0, nan, 3.0, 4.0], [10.0, nan, 30.0, 40.0])
    """
    parts = sorted((part for part in parts if len(part[0])), key=lambda part: int(part[0][0]))
    loss = np.full(n, np.nan)
    for rows, evaluation in parts:
        loss[rows] = evaluation.loss
    names = dict.fromkeys(name for _, evaluation in parts for name in evaluation.metrics)
    metrics = {
        name: _merge_metric(name, [(rows, e.metrics[name]) for rows, e in parts if name in e.metrics], n)
        for name in names
    }
    workers = dict.fromkeys(evaluation.worker for _, evaluation in parts)
    seconds = sum(evaluation.seconds for _, evaluation in parts)
    return Evaluation(loss, metrics, seconds, ",".join(sorted(workers)) or "local")


def _merge_metric(name: str, parts: list[tuple[Indices, NDArray[Any]]], n: int) -> NDArray[Any]:
    shapes = sorted({values.shape[1:] for _, values in parts})
    if len(shapes) > 1:
        raise ValueError(f"metric {name!r} must have one shape (n, ...) for all candidates, got {shapes} per candidate")
    dtype = np.result_type(*(values.dtype for _, values in parts))
    if sum(len(rows) for rows, _ in parts) < n:
        dtype = _dtype_with_nan(dtype)
    merged: NDArray[Any] = np.empty((n, *shapes[0]), dtype)
    if dtype.kind in "fcO":
        merged[...] = np.nan
    for rows, values in parts:
        merged[rows] = values
    return merged


def _dtype_with_nan(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind in "fc":
        return dtype
    return np.dtype(np.float64 if dtype.kind in "iub" else object)


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
