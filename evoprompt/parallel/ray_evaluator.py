"""The Ray evaluator: a pool of actors, each with an objective of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable

from evoprompt.checks import whole_number
from evoprompt.errors import UserError
from evoprompt.optim.protocol import Objective
from evoprompt.parallel.pool import SILENT_SECONDS, Pool, WorkerDiedError, WorkersLostError
from evoprompt.parallel.ray_cluster import WorkerRequest
from evoprompt.parallel.ray_processes import RayProcesses

__all__ = ["RayEvaluator"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0  # for the rest, once some of as many workers as possible are up


class RayEvaluator(Pool):
    """Evaluates trials on Ray actors, each of which builds its own objective once.

    Only points, losses and metrics travel. Micro-batches are the same as a
    :class:`~evoprompt.parallel.LocalEvaluator` would cut, so losses are too, however many workers there are. How they
    are given out, and what happens when a worker dies or hangs, is told at :class:`evoprompt.parallel.pool.Pool`.

    Parameters
    ----------
    factory : callable
        Takes nothing, returns an objective. It is pickled, and called once in each worker's process.
    batch_size : int
        Candidates per micro-batch.
    num_workers : int, optional
        Number of actors; by default as many as the cluster has room for, also when nodes join later.
    cpus_per_worker : float, optional
        What Ray reserves for each; ``None`` for as many as ``threads``, or all of the smallest node.
    gpus_per_worker : float, optional
        By default 1 if the cluster has GPUs, else 0. A fraction shares a GPU. Ray hides the GPUs from a worker without
        a share.
    address : str, optional
        ``None`` starts a cluster on this machine, or uses the one this process is already connected to; ``"auto"``,
        ``"host:port"`` and ``"ray://host:port"`` join one.
    timeout_s : float
        Seconds that a worker may take to come up and build its objective.
    max_retries : int
        How often a micro-batch is tried again after the death of a worker before its candidates are tried one by one,
        and how often a worker may die while it first starts.
    hang_s : float, optional
        Seconds after which a micro-batch counts as hung and its worker is killed; by default 600, or 20 times the
        longest so far, and 3600 before the first is done.
    numerics : str, optional
        What the objective computes in, such as "torch.bfloat16 on cuda", if it tells so by its attribute ``numerics``;
        workers that compute in another dtype are refused.
    threads : int, optional
        That a worker computes with; by default as many as it has whole CPUs, at least one.

    Attributes
    ----------
    last_error : str or None
        What an objective raised, or a worker died of, last.
    replacements : int
        Workers replaced so far.
    processes : dict of str to (str, int)
        Host and process id of each worker that is up.

    Raises
    ------
    UserError
        If the workers do not fit into the cluster or do not come up in time, there is no cluster at the address, the
        factory cannot be pickled, or it raised a ``UserError``.
    WorkersLostError
        If a worker's process died again and again while it started.
    RuntimeError
        If the factory raised anything else.
    ValueError
        If ``batch_size`` is not a whole number of at least 1.
    """

    workers: RayProcesses

    def __init__(
        self,
        factory: Callable[[], Objective],
        batch_size: int,
        num_workers: int | None = None,
        cpus_per_worker: float | None = 1,
        gpus_per_worker: float | None = 0,
        address: str | None = None,
        timeout_s: float = 600,
        max_retries: int = 2,
        hang_s: float | None = None,
        numerics: str | None = None,
        threads: int | None = None,
    ) -> None:
        whole_number("batch_size", batch_size, 1, what="a whole number")  # before a cluster is started
        wanted = WorkerRequest(num_workers, cpus_per_worker, gpus_per_worker, threads)
        workers = RayProcesses(factory, wanted, address, numerics)
        super().__init__(workers, batch_size, num_workers, timeout_s, max_retries, hang_s)
        try:
            self.start(num_workers or workers.room())
            self._await_workers()
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> dict[str, tuple[str, int]]:
        where = self.workers.processes
        return {slot.name: where[slot.handle] for slot in self.slots if slot.starting is None and slot.handle in where}

    def close(self) -> None:
        """Kill the actors, and shut Ray down if this evaluator started it. What is outstanding is dropped."""
        if not self._closed:
            super().close()
            self.workers.close()

    def _await_workers(self) -> None:
        """Wait until every worker has its objective; here, any that cannot build it is an error to raise.

        Where their number was left to the cluster, some of which others may use, those that are slow may come later.
        """
        began = self.workers.now()
        deadline = began + self.timeout_s
        while starting := {slot.starting: slot for slot in self.slots if slot.starting is not None}:
            left = max(0.0, deadline - self.workers.now())
            done = self.workers.wait(list(starting), min(left, SILENT_SECONDS))
            if not done and left > SILENT_SECONDS:
                logger.warning("waiting for %s: %s", self.workers.request, self._readiness())
                continue
            if not done:
                if self.most is None and len(starting) < len(self.slots):
                    return
                raise UserError(
                    f"{self.workers.request} were not all ready after {self.timeout_s:g} s: {self._readiness()}; free "
                    "some, ask for less, or wait longer where the objective loads long (executor.timeout, timeout_s)"
                )
            for slot in [starting[token] for token in done]:
                try:
                    self._take_start(slot)
                except WorkerDiedError as death:
                    if slot.failed_starts == self.max_retries:
                        raise WorkersLostError(
                            f"worker {slot.name} dies whenever it builds the objective: {death}"
                        ) from death
                    slot.failed_starts += 1
                    self._note(f"worker {slot.name} died while it started: {death}")
                    self._replace(slot)
            if self.most is None:
                deadline = min(deadline, self.workers.now() + max(PATIENCE_SECONDS, self.workers.now() - began))

    def _readiness(self) -> str:
        ray, calls = self.workers.ray, list(self.workers.greetings.values())
        up, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        free = ray.available_resources()
        return (
            f"{len(up)} of {len(calls)} have a process, {len(self.processes)} their objective; the cluster has "
            f"{free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU free"
        )
