"""The processes of Ray actors, as :class:`evoprompt.parallel.pool.Pool` starts, calls and ends them."""

from __future__ import annotations

import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from evoprompt.errors import UserError
from evoprompt.optim.protocol import Evaluation, Objective, Trials
from evoprompt.parallel.batching import describe_error, evaluate_batch
from evoprompt.parallel.pool import BatchResult, CallFailedError, WorkerDiedError, Workers
from evoprompt.parallel.ray_cluster import WorkerRequest, connect, import_path
from evoprompt.typing import Floats, Indices

__all__ = ["RayProcesses"]


class RayProcesses(Workers):
    """Actors on a cluster with room for them, each of which builds its own objective by `factory`.

    `address` is that of the cluster, as `connect` takes it, and `numerics` what the objectives must compute in. Raises
    `UserError` if there is no such cluster or the factory cannot be pickled.
    """

    label = "ray"

    def __init__(
        self, factory: Callable[[], Objective], request: WorkerRequest, address: str | None, numerics: str | None
    ) -> None:
        self._started, self.request = connect(address, request)
        import ray

        self.ray, self.numerics = ray, numerics
        try:
            self._factory = ray.put(_pickled(factory))
        except BaseException:
            self.close()
            raise
        self.greetings: dict[Any, Any] = {}  # of each actor, its call that tells its process
        self.processes: dict[Any, tuple[str, int]] = {}
        self._probes: dict[Hashable, Any] = {}  # of each call that was sent to an idle worker, the one before it
        self._actor = ray.remote(RayActor).options(
            num_cpus=self.request.cpus,
            num_gpus=self.request.gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": str(self.request.computing)}},
        )

    def close(self) -> None:
        """Shut Ray down, unless it ran before."""
        if self._started:
            self.ray.shutdown()

    def now(self) -> float:
        return time.monotonic()

    def room(self) -> int:
        return sum(self.request.room_in(node["Resources"]) for node in self.ray.nodes() if node["Alive"])

    def start(self, name: str) -> tuple[Any, Hashable]:
        actor = self._actor.remote(name)
        self.greetings[actor] = actor.hello.remote()
        return actor, actor.build.remote(self._factory, self.numerics)

    def started(self, handle: Any, call: Hashable) -> None:
        try:
            problem: UserError | RuntimeError | None = self.ray.get(call)
            self.processes[handle] = self.ray.get(self.greetings[handle])
        except self.ray.exceptions.RayError as error:
            raise WorkerDiedError(_cause(error)) from error
        if problem is not None:
            raise problem

    def evaluate(self, handle: Any, parts: Sequence[Trials], probe: bool) -> Hashable:
        """Begin to evaluate micro-batches; their points travel as one array, a probe before them."""
        probing = handle.hello.remote() if probe else None
        x = parts[0].x if len(parts) == 1 else np.concatenate([part.x for part in parts])
        call: Hashable = handle.evaluate.remote([part.ids for part in parts], x)
        if probe:
            self._probes[call] = probing
        return call

    def reached(self, call: Hashable) -> bool:
        probing = self._probes.pop(call, None)
        try:
            if probing is not None:  # else it was answered
                self.ray.get(probing, timeout=0)
        except self.ray.exceptions.RayError:
            return False
        return True

    def results(self, call: Hashable) -> list[BatchResult]:
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
        self.greetings.pop(handle, None)
        self.processes.pop(handle, None)
        if self.ray.is_initialized():
            self.ray.kill(handle, no_restart=True)


class RayActor:
    """Builds one objective and evaluates micro-batches with it.

    The objective is not built in ``__init__``: an exception there would reach the driver as a dead actor.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.objective: Objective | None = None

    def hello(self) -> tuple[str, int]:
        """Host name and process id."""
        return socket.gethostname(), os.getpid()

    def build(self, pickled_factory: bytes, numerics: str | None) -> UserError | RuntimeError | None:
        """Call the factory; ``None`` if that went well, else what to raise.

        An objective whose ``numerics`` begin with another word than those given is refused.
        """
        try:
            self.objective = pickle.loads(pickled_factory)()
        except UserError as error:
            return UserError(str(error))
        except Exception as error:
            problem = RuntimeError(f"the factory raised in worker {self.name}: {describe_error(error)}")
            problem.add_note(f"In the worker:\n{traceback.format_exc()}")
            return problem
        own = getattr(self.objective, "numerics", None)
        if numerics and own and own.split()[0] != numerics.split()[0]:
            return UserError(
                f"worker {self.name} computes in {own}, the driver, which measures the baselines and the result, in "
                f"{numerics}; run the command where it has the same device, or set model.dtype"
            )
        return None

    def evaluate(self, ids: list[Indices], x: Floats) -> list[BatchResult]:
        """Evaluate micro-batches of these ids, whose points x (n, d) holds one after the other."""
        if self.objective is None:
            raise RuntimeError(f"worker {self.name} was given trials before its objective was built")
        ends = np.cumsum([len(part) for part in ids])[:-1]
        parts = [Trials(numbers, points) for numbers, points in zip(ids, np.split(x, ends), strict=True)]
        return [evaluate_batch(self.objective, part, self.name) for part in parts]


def _pickled(factory: Callable[[], Objective]) -> bytes:
    """Raises `UserError` where it cannot be."""
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(factory))
    except Exception as error:
        raise UserError(
            f"the factory {factory!r:.200} cannot be pickled ({describe_error(error)}); "
            "give a module-level function, a class or a functools.partial of one"
        ) from error


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
