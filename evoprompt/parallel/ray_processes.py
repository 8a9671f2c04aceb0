"""The processes of Ray actors, as :class:`evoprompt.parallel.pool.Pool` starts, calls and ends them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from evoprompt.errors import UserError
from evoprompt.extras import require
from evoprompt.optim.protocol import Evaluation, Objective, Trials
from evoprompt.parallel.batching import describe_error
from evoprompt.parallel.pool import BatchResult, BuildError, CallFailedError, WorkerDiedError
from evoprompt.parallel.ray_actor import RayActor
from evoprompt.parallel.ray_cluster import WorkerRequest, import_path

__all__ = ["RayProcesses"]


class RayProcesses:
    """Starts actors, each of which builds its own objective, and calls them.

    Parameters
    ----------
    factory : callable
        Takes nothing, returns an objective.
    request : WorkerRequest
        What each actor takes.
    numerics : str, optional
        What its objective must compute in.

    Raises
    ------
    UserError
        The factory cannot be pickled.
    """

    label = "ray"

    def __init__(self, factory: Callable[[], Objective], request: WorkerRequest, numerics: str | None = None) -> None:
        require("an evaluation by Ray", "lm", "ray")
        import ray

        self.ray, self.request, self.numerics = ray, request, numerics
        try:
            pickled = ray.cloudpickle.dumps(factory)
        except Exception as error:
            raise UserError(
                f"the factory {factory!r:.200} cannot be pickled ({describe_error(error)}); "
                "give a module-level function, a class or a functools.partial of one"
            ) from error
        self._factory = ray.put(pickled)
        self.greetings: dict[Any, Any] = {}  # of each actor, its call that tells its process
        self.processes: dict[Any, tuple[str, int]] = {}
        self._probes: dict[Hashable, Any] = {}  # of each call that was sent to an idle worker, the one before it
        self._actor = ray.remote(RayActor).options(
            num_cpus=request.cpus,
            num_gpus=request.gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": str(request.computing)}},
        )

    def now(self) -> float:
        """Seconds on this process's clock."""
        return time.monotonic()

    def room(self) -> int:
        """Workers that the cluster's nodes could hold if nobody else used them."""
        return sum(self.request.room_in(node["Resources"]) for node in self.ray.nodes() if node["Alive"])

    def start(self, name: str) -> tuple[Any, Hashable]:
        """Begin to start an actor."""
        actor = self._actor.remote(name)
        self.greetings[actor] = actor.hello.remote()
        return actor, actor.build.remote(self._factory, self.numerics)

    def started(self, handle: Any, call: Hashable) -> BuildError | None:
        """What became of a start. Raises `WorkerDiedError`."""
        try:
            problem: BuildError | None = self.ray.get(call)
            self.processes[handle] = self.ray.get(self.greetings[handle])
        except self.ray.exceptions.RayError as error:
            raise WorkerDiedError(_cause(error)) from error
        return problem

    def evaluate(self, handle: Any, parts: Sequence[Trials], probe: bool) -> Hashable:
        """Begin to evaluate micro-batches; their points travel as one array, a probe before them."""
        probing = handle.hello.remote() if probe else None
        x = parts[0].x if len(parts) == 1 else np.concatenate([part.x for part in parts])
        call: Hashable = handle.evaluate.remote([part.ids for part in parts], x)
        if probe:
            self._probes[call] = probing
        return call

    def reached(self, call: Hashable) -> bool:
        """Whether the probe before a call was answered."""
        probing = self._probes.pop(call, None)
        if probing is None:
            return True  # it was answered
        if not self.ray.wait([probing], timeout=0)[0]:
            return False
        try:
            self.ray.get(probing)
        except self.ray.exceptions.RayError:
            return False
        return True

    def results(self, call: Hashable) -> list[BatchResult]:
        """What became of a call. Raises `WorkerDiedError` or `CallFailedError`."""
        try:
            found = [(_detached(evaluation), error) for evaluation, error in self.ray.get(call)]
        except self.ray.exceptions.RayTaskError as error:
            self._probes.pop(call, None)
            raise CallFailedError(_cause(error)) from error
        except self.ray.exceptions.RayError as error:
            raise WorkerDiedError(_cause(error)) from error  # `reached` asks the probe
        self._probes.pop(call, None)
        return found

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[Hashable]:
        """Those of the calls that are finished: one as soon as there is one, and what else is by then."""
        if not calls:
            time.sleep(timeout)
            return []
        done, others = self.ray.wait(calls, num_returns=1, timeout=timeout)
        if done and others:
            done += self.ray.wait(others, num_returns=len(others), timeout=0)[0]
        return list(done)

    def kill(self, handle: Any) -> None:
        """End an actor's process."""
        self.greetings.pop(handle, None)
        self.processes.pop(handle, None)
        if self.ray.is_initialized():
            self.ray.kill(handle, no_restart=True)


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
