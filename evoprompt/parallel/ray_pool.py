"""The Ray evaluator: a pool of actors, each with an objective of its own."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from evoprompt.errors import UserError
from evoprompt.optim.protocol import Evaluation, Objective, Trials
from evoprompt.parallel.batching import check_batch_size, cut, describe_error, failed
from evoprompt.parallel.ray_cluster import WorkerRequest, connect, import_path
from evoprompt.parallel.ray_worker import BuildError, Worker

__all__ = ["RayEvaluator"]

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0  # how often a wait looks up, to notice workers that do not come up


@dataclass(eq=False)
class _Job:
    """A micro-batch, and how often a worker died with it."""

    trials: Trials
    deaths: int = 0


@dataclass(eq=False)
class _Slot:
    """A place for a worker; the actor in it is replaced when it dies.

    It is starting while there is a ``call`` and no ``job``, evaluating with both, idle with neither.
    """

    name: str
    actor: Any = None
    greeting: Any = None
    call: Any = None
    job: _Job | None = None
    started: float = 0.0
    failed_starts: int = 0


class RayEvaluator:
    """Evaluates trials on Ray actors, each of which builds its own objective once.

    Only points, losses and metrics travel. Micro-batches are the same as a
    :class:`~evoprompt.parallel.LocalEvaluator` would cut, so losses are too, however many workers there are.

    A worker that dies is replaced, and its micro-batch goes to the head of the queue; nothing that was handed out is
    evaluated again.

    Parameters
    ----------
    factory : callable
        Takes nothing, returns an objective. It is pickled, and called once in each worker's process.
    batch_size : int
        Candidates per micro-batch. A round trip costs some milliseconds: 50 ms of work or more make it not matter.
    num_workers : int
        Number of actors.
    cpus_per_worker, gpus_per_worker : float
        What Ray reserves for each; fractions share a device. A worker computes with as many threads as it has whole
        CPUs, at least one. Ray hides the GPUs from a worker without a GPU share.
    address : str, optional
        ``None`` starts a cluster on this machine, or uses the one this process is already connected to; ``"auto"``,
        ``"host:port"`` and ``"ray://host:port"`` join one.
    timeout_s : float
        Seconds that a worker may take to come up and build its objective.
    max_retries : int
        How often a micro-batch is tried again after the death of a worker before its candidates count as failed, and
        how often in a row a worker may die while it starts.

    Attributes
    ----------
    last_error : str or None
        What an objective raised, or a worker died of, last.
    restarts : int
        Workers replaced so far.
    processes : dict of str to (str, int)
        Host and process id of each worker that is up.

    Raises
    ------
    UserError
        If the workers do not fit into the cluster or do not come up in time, there is no cluster at the address, the
        factory cannot be pickled, or it raised a ``UserError``.
    RuntimeError
        If the factory raised anything else, or its process died.
    ValueError
        If ``batch_size`` is not a whole number of at least 1.
    """

    def __init__(
        self,
        factory: Callable[[], Objective],
        batch_size: int,
        num_workers: int,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0,
        address: str | None = None,
        timeout_s: float = 120,
        max_retries: int = 2,
    ) -> None:
        self.batch_size = check_batch_size(batch_size)
        self.request = WorkerRequest(num_workers, cpus_per_worker, gpus_per_worker)
        self.timeout_s = timeout_s
        self.max_retries = max_retries
        self.last_error: str | None = None
        self.restarts = 0
        self.processes: dict[str, tuple[str, int]] = {}
        self._queue: deque[_Job] = deque()
        self._slots: list[_Slot] = []
        self._closed = False
        self._owns_ray = connect(address, self.request)
        try:
            self._start_workers(factory)
        except BaseException:
            self.close()
            raise

    def submit(self, trials: Trials) -> None:
        """Queue trials; idle workers begin at once.

        Raises
        ------
        RuntimeError
            If the evaluator was closed.
        """
        if self._closed:
            raise RuntimeError("this RayEvaluator was closed; make a new one to evaluate more")
        self._queue.extend(_Job(part) for part in cut(trials, self.batch_size))
        self._refill()

    def collect(self, timeout: float | None = None) -> Iterator[tuple[Trials, Evaluation]]:
        """Yield micro-batches as they finish, until none is outstanding or ``timeout`` seconds have passed.

        With a ``timeout`` of 0 it yields what is finished already. What it did not yield stays outstanding.

        Raises
        ------
        RuntimeError
            If the last worker is lost and cannot be replaced.
        """
        import ray

        deadline = None if timeout is None else time.monotonic() + timeout
        while self._queue or any(slot.job for slot in self._slots):
            self._drop_late_starters()
            if not self._slots:
                raise RuntimeError(
                    f"no Ray worker is left to evaluate with; the last one was lost to: {self.last_error}"
                )
            self._refill()
            left = np.inf if deadline is None else max(0.0, deadline - time.monotonic())
            calls = {slot.call: slot for slot in self._slots if slot.call is not None}
            done, _ = ray.wait(list(calls), num_returns=1, timeout=min(TICK_SECONDS, left))
            if not done and left == 0.0:
                return
            for call in done:
                result = self._finish(calls[call])
                self._refill()
                if result is not None:
                    yield result

    def close(self) -> None:
        """Kill the actors, and shut Ray down if this evaluator started it. What is outstanding is dropped."""
        if self._closed:
            return
        self._closed = True
        import ray

        self._queue.clear()
        if ray.is_initialized():
            for slot in self._slots:
                self._kill(slot)
        self._slots.clear()
        self.processes.clear()
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_workers(self, factory: Callable[[], Objective]) -> None:
        import ray

        try:
            pickled = ray.cloudpickle.dumps(factory)
        except Exception as error:
            raise UserError(
                f"the factory {factory!r:.200} cannot be pickled ({describe_error(error)}); "
                "give a module-level function, a class or a functools.partial of one"
            ) from error
        self._factory = ray.put(pickled)
        threads = str(max(1, int(self.request.cpus)))
        self._actor_class = ray.remote(Worker).options(
            num_cpus=self.request.cpus,
            num_gpus=self.request.gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": threads}},
        )
        self._slots = [_Slot(f"ray-{index}") for index in range(self.request.num_workers)]
        for slot in self._slots:
            self._start(slot)
        self._await_workers()

    def _start(self, slot: _Slot) -> None:
        slot.actor = self._actor_class.remote(slot.name)
        slot.greeting = slot.actor.hello.remote()
        slot.call = slot.actor.build.remote(self._factory)
        slot.started = time.monotonic()

    def _await_workers(self) -> None:
        """Wait until every worker has its objective; here, any that has not is an error to raise."""
        import ray

        starting = {slot.call: slot for slot in self._slots}
        deadline = time.monotonic() + self.timeout_s
        while starting:
            left = max(0.0, deadline - time.monotonic())
            done, _ = ray.wait(list(starting), num_returns=1, timeout=left)
            if not done:
                raise self._too_late()
            for call in done:
                slot = starting.pop(call)
                try:
                    problem = self._take_start(slot)
                except ray.exceptions.RayError as error:
                    raise RuntimeError(
                        f"worker {slot.name} died while it built the objective: {_cause(error)}"
                    ) from error
                if problem is not None:
                    raise _build_error(slot, problem)

    def _too_late(self) -> UserError:
        import ray

        up, _ = ray.wait([s.greeting for s in self._slots], num_returns=len(self._slots), timeout=0)
        free = ray.available_resources()
        return UserError(
            f"{self.request} were not all ready after {self.timeout_s:g} s: {len(up)} of {len(self._slots)} have a "
            f"process, {len(self.processes)} their objective; the cluster has {free.get('CPU', 0):g} CPU and "
            f"{free.get('GPU', 0):g} GPU free; free some, ask for less, or raise timeout_s if the objective loads long"
        )

    def _take_start(self, slot: _Slot) -> BuildError | None:
        """Take in the outcome of a start; raises ``RayError`` if the worker died."""
        import ray

        problem: BuildError | None = ray.get(slot.call)
        if problem is None:
            self.processes[slot.name] = ray.get(slot.greeting)
            slot.call = None
            slot.failed_starts = 0
        return problem

    def _refill(self) -> None:
        for slot in self._slots:
            if not self._queue:
                return
            if slot.call is None:
                slot.job = self._queue.popleft()
                slot.call = slot.actor.evaluate.remote(slot.job.trials.ids, slot.job.trials.x)

    def _finish(self, slot: _Slot) -> tuple[Trials, Evaluation] | None:
        """Take in the outcome of a slot's call; ``None`` if that brought no evaluation."""
        if slot.job is None:
            self._finish_start(slot)
            return None
        import ray

        job = slot.job
        try:
            evaluation, error = ray.get(slot.call)
        except ray.exceptions.RayTaskError as task_error:
            evaluation, error = failed(len(job.trials), slot.name), _cause(task_error)
        except ray.exceptions.RayError as death:
            return self._bury(slot, job, _cause(death))
        slot.call = slot.job = None
        if error is not None:
            self.last_error = error
            logger.warning("the objective raised on one of the trials %s: %s", job.trials.ids.tolist(), error)
        return job.trials, _detached(evaluation)

    def _finish_start(self, slot: _Slot) -> None:
        import ray

        try:
            problem = self._take_start(slot)
        except ray.exceptions.RayError as death:
            slot.failed_starts += 1
            self._note(f"worker {slot.name} died while it started: {_cause(death)}")
            if slot.failed_starts > self.max_retries:
                self._drop(slot)
            else:
                self._replace(slot)
            return
        if problem is not None:
            self._note(str(_build_error(slot, problem)))
            self._drop(slot)

    def _bury(self, slot: _Slot, job: _Job, cause: str) -> tuple[Trials, Evaluation] | None:
        """Replace a worker that died with a job, and requeue the job or give it up."""
        job.deaths += 1
        self._note(f"worker {slot.name} died on the trials {job.trials.ids.tolist()}: {cause}")
        slot.job = None
        self._replace(slot)
        if job.deaths <= self.max_retries:
            self._queue.appendleft(job)
            return None
        return job.trials, failed(len(job.trials), slot.name)

    def _replace(self, slot: _Slot) -> None:
        self._kill(slot)
        self.restarts += 1
        self._start(slot)

    def _drop(self, slot: _Slot) -> None:
        self._kill(slot)
        self._slots.remove(slot)

    def _drop_late_starters(self) -> None:
        """Give up replacements that do not come up, for example because their node is gone."""
        now = time.monotonic()
        for slot in list(self._slots):
            if slot.call is not None and slot.job is None and now - slot.started > self.timeout_s:
                self._note(f"worker {slot.name} was not ready {self.timeout_s:g} s after it was restarted")
                self._drop(slot)

    def _kill(self, slot: _Slot) -> None:
        import ray

        self.processes.pop(slot.name, None)
        if slot.actor is not None:
            ray.kill(slot.actor, no_restart=True)

    def _note(self, error: str) -> None:
        self.last_error = error
        logger.warning("%s", error)


def _build_error(slot: _Slot, problem: BuildError) -> UserError | RuntimeError:
    users, message, trace = problem
    if users:
        return UserError(message)
    error = RuntimeError(f"the factory raised in worker {slot.name}: {message}")
    error.add_note(f"In the worker:\n{trace}")
    return error


def _cause(error: Exception) -> str:
    """Ray's reports run over pages; the line that says what happened is the first one, or that of the exception."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return describe_error(cause)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _detached(evaluation: Evaluation) -> Evaluation:
    """Own, writable arrays: large ones arrive as read-only views that would pin Ray's object store."""
    metrics = {name: np.array(values) for name, values in evaluation.metrics.items()}
    return Evaluation(np.array(evaluation.loss), metrics, evaluation.seconds, evaluation.worker)
