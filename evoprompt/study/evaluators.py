"""The evaluator of a study: this process or Ray workers, and what these take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evoprompt.objectives import SurveyAlignment, SurveyAlignmentFactory
from evoprompt.parallel import LocalEvaluator, RayEvaluator, choose_executor
from evoprompt.parallel.ray_cluster import WorkerRequest, joined, usable_cpus
from evoprompt.study.settings import Settings

__all__ = ["cluster", "make_evaluator", "on_ray", "worker_request"]


def on_ray(settings: Settings) -> bool:
    """Whether the candidates go to Ray workers."""
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


@contextmanager
def cluster(settings: Settings) -> Iterator[None]:
    """Be connected to the cluster that the search needs, so that what is wrong with it is told before anything else.

    Raises
    ------
    UserError
        There is none at the address, or the workers do not fit.
    """
    if not on_ray(settings):
        yield
        return
    with joined(settings.executor.address, worker_request(settings)):
        yield


def make_evaluator(
    settings: Settings, factory: SurveyAlignmentFactory, objective: SurveyAlignment
) -> LocalEvaluator | RayEvaluator:
    """Candidates are evaluated by `objective`, or by what `factory` builds in Ray workers.

    Raises
    ------
    UserError
        The workers cannot be had, or compute in another dtype than this process.
    """
    wanted = settings.executor
    if not on_ray(settings):
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
