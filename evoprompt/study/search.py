"""The search: an optimizer, an evaluator and a loop, from the newest checkpoint to a result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import numpy as np
import torch
from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.objectives import SurveyAlignment, SurveyAlignmentFactory
from evoprompt.optim import Best, Optimizer, make_optimizer
from evoprompt.optim.engine.state import require_saveable
from evoprompt.parallel import (
    LocalEvaluator,
    RayEvaluator,
    WorkersLostError,
    choose_executor,
    generational,
    steady_state,
)
from evoprompt.parallel.ray_cluster import WorkerRequest, joined, usable_cpus
from evoprompt.study.progress import SearchProgress
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.search_log import SearchLog
from evoprompt.study.settings import Settings


class SearchFailedError(UserError):
    """Too many candidates in a row gave nothing finite; the checkpoint is kept."""


def run_search(
    settings: Settings,
    factory: SurveyAlignmentFactory,
    objective: SurveyAlignment,
    optimizer: Optimizer,
    directory: RunDirectory,
    console: Console,
    saved: Callable[[Optimizer], None],
) -> tuple[Best, str, float | None]:
    """Search until the optimizer says stop; continue from the newest checkpoint if there is one.

    Candidates are evaluated here by `objective`, or by what `factory` builds in Ray workers. `saved` is called
    with the optimizer after each checkpoint. Returns the best candidate, why the search stopped, and the share of
    free-text answers that chose no option or several; None where options were scored.

    Raises
    ------
    SearchFailedError
        Too many candidates in a row failed.
    UserError
        The workers cannot be had, are lost, or compute in another dtype than this process.
    """
    steady, last_error = settings.loop == "steady", None
    with closing(SearchProgress(console, settings.budget, directory.path, settings.optimizer)) as progress:
        log = SearchLog(directory, ordered=not steady, saved=saved, show=progress.update)
        events = log.restore(optimizer)
        if steady:
            log.repeat(optimizer, events)
        stopped = optimizer.should_stop()
        if stopped is None or log.pending:
            progress.begin(len(log))
            try:
                with _evaluator(settings, factory, objective) as evaluator:
                    (steady_state if steady else generational)(optimizer, evaluator, log)
                    stopped = optimizer.should_stop()  # now: the clock may make it another reason later
                last_error = evaluator.last_error
            except WorkersLostError as error:
                how = f"; continue with resume={directory.path}" if len(log) else ""
                raise UserError(f"{error}{how}") from None
        log.checkpoint(optimizer, last=True)
    best = optimizer.best
    if best is None or stopped == "failed":
        last = f" (the last error: {last_error})" if last_error else ""
        if settings.respondent["kind"] == "sampled":
            last += "; in free text a candidate fails that gives no valid answer to an item: raise respondent.samples"
        directory.remember(status="failed")
        raise SearchFailedError(
            f"too many candidates in a row gave no finite loss{last}; "
            f"{optimizer.failed} failed; the checkpoint is kept in {directory.checkpoint}"
        )
    invalid = [float(row["invalid"]) for row in log.known.values() if not np.isnan(row["invalid"])]
    return best, stopped or "budget", float(np.mean(invalid)) if invalid else None


def optimizer_of(settings: Settings, bounds: Any) -> Optimizer:
    """The optimizer that a configuration names.

    Raises
    ------
    UserError
        It cannot be made of its options, or not be saved.
    """
    options = {"dtype": "float32", **settings.optimizer}  # the precision of a soft prompt, at half the memory
    name = options.pop("name")
    try:
        optimizer = make_optimizer(name, bounds=bounds, budget=settings.budget, seed=settings.seed, **options)
        require_saveable(optimizer)
    except (ValueError, TypeError) as error:
        raise UserError(str(error) if isinstance(error, UserError) else f"optimizer {name!r}: {error}") from None
    return optimizer


def _on_ray(settings: Settings) -> bool:
    wanted = settings.executor
    gpus = torch.cuda.device_count() if settings.model.device != "cpu" and torch.cuda.is_available() else 0
    return choose_executor(wanted.kind, wanted.workers, gpus, wanted.address) == "ray"


def worker_request(settings: Settings) -> WorkerRequest:
    """How many workers, and what each takes.

    Unless it is given, a worker takes as many CPUs as the model computes with, or all of the smallest node; where a
    number of workers is asked for on this machine, no more than its share.
    """
    wanted, threads = settings.executor, settings.model.threads
    number = None if wanted.workers in (None, "auto") else int(wanted.workers)
    cpus = wanted.cpus_per_worker
    if cpus is None and wanted.address is None:
        cpus = max(1, min(threads, usable_cpus() // (number or 1)))
    return WorkerRequest(number, cpus, 0 if settings.model.device == "cpu" else wanted.gpus_per_worker, threads)


def cluster(settings: Settings) -> AbstractContextManager[Any]:
    """Be connected to the cluster that the search needs, so that what is wrong with it is told before anything else.

    Raises
    ------
    UserError
        There is none at the address, or the workers do not fit.
    """
    return joined(settings.executor.address, worker_request(settings)) if _on_ray(settings) else nullcontext()


def _evaluator(
    settings: Settings, factory: SurveyAlignmentFactory, objective: SurveyAlignment
) -> LocalEvaluator | RayEvaluator:
    wanted = settings.executor
    if not _on_ray(settings):
        return LocalEvaluator(objective, wanted.batch_size)
    request = worker_request(settings)
    return RayEvaluator(
        factory,
        wanted.batch_size,
        request.num_workers,
        cpus_per_worker=request.cpus,
        gpus_per_worker=request.gpus,
        address=wanted.address,
        timeout_s=wanted.timeout,
        max_retries=wanted.max_retries,
        hang_s=wanted.hang_timeout,
        numerics=objective.numerics,
        threads=request.threads,
    )
