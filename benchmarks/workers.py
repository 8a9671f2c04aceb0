"""Worker processes that survive what runs in them: a crash or a hang costs one result, not the whole benchmark."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

__all__ = ["ONE_THREAD", "Task", "run"]

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


class Task(Protocol):
    """Several results to be made one after another in one process."""

    def results(self) -> Iterator[Any]:
        """The results, in order."""
        ...

    def after(self, done: int, reason: str) -> tuple[Any, Task | None]:
        """What to note for the result after the first ``done`` ones, which killed the process, and what is left."""
        ...


def run(tasks: Iterable[Task], jobs: int, note: Callable[[Any], None], limit: float) -> None:
    """Run tasks in ``jobs`` processes of one thread each.

    Parameters
    ----------
    tasks : iterable of Task
    jobs : int
    note : callable
        Called with each result as it comes.
    limit : float
        Seconds that one result may take before its process is killed.
    """
    os.environ.update(ONE_THREAD)
    queue = deque(tasks)
    workers: list[_Worker] = []
    try:
        while queue or workers:
            while queue and len(workers) < jobs:
                workers.append(_Worker())
                workers[-1].begin(queue.popleft())
            wait([worker.connection for worker in workers], timeout=1.0)
            for worker in list(workers):
                reason = worker.drain(note, limit)
                if reason:
                    row, rest = worker.kill(reason)
                    note(row)
                    workers.remove(worker)
                    if rest is not None:
                        queue.appendleft(rest)
                elif worker.task is None and queue:
                    worker.begin(queue.popleft())
                elif worker.task is None:
                    worker.connection.send(None)
                    worker.process.join()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.process.kill()


class _Worker:
    """One process, the task it is on, and how many results of it have come."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def begin(self, task: Task) -> None:
        self.task, self.done, self.heard = task, 0, time.monotonic()
        self.connection.send(task)

    def drain(self, note: Callable[[Any], None], limit: float) -> str:
        """Take in what has come; why the process has to be given up, or nothing."""
        try:
            while self.task is not None and self.connection.poll():
                kind, value = self.connection.recv()
                self.heard = time.monotonic()
                if kind == "result":
                    self.done += 1
                    note(value)
                else:
                    self.task = None
        except (EOFError, ConnectionResetError):
            self.process.join()
            return f"the process died with code {self.process.exitcode}"
        if self.task is not None and time.monotonic() - self.heard > limit:
            return f"took more than {limit:.0f} s"
        return ""

    def kill(self, reason: str) -> tuple[Any, Task | None]:
        self.process.kill()
        self.process.join()
        assert self.task is not None
        return self.task.after(self.done, reason)


def _serve(connection: Connection) -> None:
    while (task := connection.recv()) is not None:
        for result in task.results():
            connection.send(("result", result))
        connection.send(("done", None))
