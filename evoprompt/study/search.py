"""The search: an optimizer, an evaluator and a loop, from the newest checkpoint to a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.objectives import SurveyAlignment, SurveyAlignmentFactory
from evoprompt.optim import Best, Optimizer
from evoprompt.parallel import WorkersLostError, generational, steady_state
from evoprompt.study.evaluators import make_evaluator
from evoprompt.study.progress import SearchProgress
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.search_log import SearchLog
from evoprompt.study.settings import Settings


class SearchFailedError(UserError):
    """Too many candidates in a row gave nothing finite; the checkpoint is kept."""


@dataclass(frozen=True)
class SearchResult:
    """The best candidate, how many were evaluated and failed, and why the search stopped.

    `invalid_rate` is the share of free-text answers that chose no option or several; None where options were scored.
    """

    best: Best
    evaluations: int
    failed: int
    reason: str
    invalid_rate: float | None


def run_search(
    settings: Settings,
    factory: SurveyAlignmentFactory,
    objective: SurveyAlignment,
    optimizer: Optimizer,
    directory: RunDirectory,
    console: Console,
    saved: Callable[[Optimizer], None],
) -> SearchResult:
    """Search until the optimizer says stop; continue from the newest checkpoint if there is one.

    Candidates are evaluated here by `objective`, or by what `factory` builds in Ray workers. `saved` is called
    with the optimizer after each checkpoint.

    Raises
    ------
    SearchFailedError
        Too many candidates in a row failed.
    """
    steady, last_error = settings.loop == "steady", None
    with SearchProgress(console, settings.budget, directory.path, settings.optimizer) as progress:
        log = SearchLog(directory, ordered=not steady, saved=saved, show=progress.update)
        events = log.restore(optimizer)
        if steady:
            log.repeat(optimizer, events)
        if optimizer.should_stop() is None or log.pending:
            progress.begin(len(log))
            try:
                with make_evaluator(settings, factory, objective) as evaluator:
                    (steady_state if steady else generational)(optimizer, evaluator, log)
                last_error = evaluator.last_error
            except WorkersLostError as error:
                how = f"; continue with resume={directory.path}" if len(log) else ""
                raise UserError(f"{error}{how}") from None
        log.checkpoint(optimizer, last=True)
    reason, best = optimizer.should_stop(), optimizer.best
    if best is None or reason == "failed":
        last = f" (the last error: {last_error})" if last_error else ""
        if settings.respondent["kind"] == "sampled":
            last += "; in free text a candidate fails that gives no valid answer to an item: raise respondent.samples"
        directory.remember(status="failed")
        raise SearchFailedError(
            f"too many candidates in a row gave no finite loss{last}; "
            f"{optimizer.failed} failed; the checkpoint is kept in {directory.checkpoint}"
        )
    invalid = [float(row["invalid"]) for row in log.known.values() if not np.isnan(row["invalid"])]
    return SearchResult(
        best, optimizer.evaluations, optimizer.failed, reason or "budget", float(np.mean(invalid)) if invalid else None
    )
