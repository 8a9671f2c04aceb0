"""The generational search loop with its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.objectives import SurveyAlignment, SurveyAlignmentFactory
from evoprompt.optim import Best, Evaluator, Optimizer
from evoprompt.parallel import LocalEvaluator, RayEvaluator, choose_executor, evaluate
from evoprompt.study.checkpoint import load_checkpoint, save_checkpoint
from evoprompt.study.history import History
from evoprompt.study.progress import SearchProgress
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.settings import Settings
from evoprompt.surveys import DIMENSIONS


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
    clock: Callable[[], None],
) -> SearchResult:
    """Search until the optimizer says stop; continue from the newest checkpoint if there is one.

    Candidates are evaluated here by `objective`, or by what `factory` builds in Ray workers. `clock` is called after
    each checkpoint, to record the time spent.

    Raises
    ------
    SearchFailedError
        Too many candidates in a row failed.
    """
    history, last_error = _restore(optimizer, directory), None
    if optimizer.should_stop() is None:
        evaluator = _evaluator(settings, factory, objective)
        try:
            _generations(settings, evaluator, optimizer, history, directory, console, clock)
        finally:
            last_error = evaluator.last_error
            evaluator.close()
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
    invalid = history.frame["invalid"].mean() if "invalid" in history.frame else np.nan
    return SearchResult(
        best, optimizer.evaluations, optimizer.failed, reason or "budget", None if np.isnan(invalid) else float(invalid)
    )


def _restore(optimizer: Optimizer, directory: RunDirectory) -> History:
    state = load_checkpoint(directory.checkpoint)
    if state is None:
        return History()
    optimizer.load_state_dict(state["optimizer"])
    history = History.load(directory.history, state["evaluations"])
    if len(history) < state["evaluations"]:
        raise UserError(
            f"{directory.history} holds {len(history)} evaluations, its checkpoint {state['evaluations']}; "
            "the run cannot be continued without them"
        )
    return history


def _evaluator(
    settings: Settings, factory: SurveyAlignmentFactory, objective: SurveyAlignment
) -> LocalEvaluator | RayEvaluator:
    wanted, gpus = settings.executor, _gpus(settings.model.device)
    kind = choose_executor(wanted.kind, wanted.workers, gpus, wanted.address)
    if kind == "local":
        return LocalEvaluator(objective, wanted.batch_size)
    return RayEvaluator(
        factory,
        wanted.batch_size,
        wanted.workers or max(1, gpus),
        cpus_per_worker=wanted.cpus_per_worker,
        gpus_per_worker=min(1, gpus) if wanted.gpus_per_worker is None else wanted.gpus_per_worker,
        address=wanted.address,
        timeout_s=wanted.timeout,
    )


def _gpus(device: str) -> int:
    """GPUs that this machine could give to workers."""
    return torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0


def _generations(
    settings: Settings,
    evaluator: Evaluator,
    optimizer: Optimizer,
    history: History,
    directory: RunDirectory,
    console: Console,
    clock: Callable[[], None],
) -> None:
    with SearchProgress(console, settings.budget, optimizer.evaluations) as progress:
        while optimizer.should_stop() is None:
            generation = optimizer.generation
            trials = optimizer.ask()
            if not len(trials):
                break
            found = evaluate(evaluator, trials)
            optimizer.tell(trials, found.evaluation)
            loss, metrics = found.evaluation.loss, found.evaluation.metrics
            dimensions = metrics.get("dimensions", np.full((len(trials), len(DIMENSIONS)), np.nan))
            invalid = metrics.get("invalid", np.full(len(trials), np.nan))
            history.append(generation, trials.ids, loss, dimensions, invalid, found.seconds, found.workers)
            history.save(directory.history)
            state = {"evaluations": len(history), "optimizer": optimizer.state_dict()}
            save_checkpoint(directory.checkpoint, len(history), state)
            clock()
            best = optimizer.best
            progress.update(len(history), generation, best.loss if best else None, optimizer.failed)
