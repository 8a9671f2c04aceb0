"""Whether to use Ray, joining or starting a cluster, and checking that the workers fit before waiting for them.

A Ray actor that fits nowhere waits for ever without a word, so the question is asked before.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evoprompt.checks import real_number, whole_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.extras import require

__all__ = ["WorkerRequest", "choose_executor", "connect", "import_path", "joined", "usable_cpus"]

OBJECT_STORE_BYTES = 256 * 2**20  # only z, losses and the factory pass through it; Ray's default is 30 % of the memory
REACH_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerRequest:
    """How many workers, and what each of them takes.

    `num_workers` None stands for as many as there is room for, `gpus` None for one each where there are GPUs, `cpus`
    None for as many as `threads`, or all of the smallest node. `threads` None is as many as there are whole CPUs.

    Raises
    ------
    UserError
        If the number of workers is not a whole number of at least 1, or a share is not one that Ray can give.

    Examples
    --------
    >>> str(WorkerRequest(2, 1.0, 0.5))
    '2 Ray workers of 1 CPU and 0.5 GPU each'
    >>> WorkerRequest(3, 2.0, 0.0).room_in({"CPU": 5.0})
    2
    """

    num_workers: int | None
    cpus: float | None
    gpus: float | None
    threads: int | None = None

    def __post_init__(self) -> None:
        number = self.num_workers
        if number is not None:
            whole_number("num_workers", number, 1, what="None for auto or a whole number")
        for name, share in (("cpus_per_worker", self.cpus), ("gpus_per_worker", self.gpus)):
            if share is not None:
                real_number(name, share, 0)
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise UserError(f"gpus_per_worker must be a whole number or less than 1, got {self.gpus!r}")
        if number is None and self.cpus == 0 and self.gpus == 0:
            raise UserError("workers that take no CPU and no GPU fit in without end; give num_workers")

    def __str__(self) -> str:
        workers = "1 Ray worker" if self.num_workers == 1 else f"{self.num_workers or 'as many'} Ray workers"
        cpus = self.computing if self.cpus is None else self.cpus
        return f"{workers} of {cpus:g} CPU and {self.gpus or 0:g} GPU each"

    @property
    def computing(self) -> int:
        """Threads that a worker computes with."""
        return self.threads or max(1, int(self.cpus or 1))

    def on(self, nodes: Sequence[Mapping[str, float]]) -> WorkerRequest:
        """The same with the shares that nodes of these resources make of what was left open."""
        smallest = min((node["CPU"] for node in nodes if node.get("CPU", 0) >= 1), default=1)
        cpus = min(self.computing, int(smallest)) if self.cpus is None else self.cpus
        there = float(any(node.get("GPU", 0) >= 1 for node in nodes))
        return replace(self, cpus=cpus, gpus=there if self.gpus is None else self.gpus)

    def room_in(self, resources: Mapping[str, float]) -> int:
        """How many workers a node with these resources can hold; none is spread over nodes, no fraction over GPUs."""
        rooms, gpus = [], resources.get("GPU", 0.0)
        cpus = self.computing if self.cpus is None else self.cpus
        if cpus > 0:
            rooms.append(math.floor(resources.get("CPU", 0.0) / cpus + 1e-9))
        if self.gpus:
            rooms.append(math.floor(gpus / self.gpus) if self.gpus >= 1 else int(gpus) * math.floor(1 / self.gpus))
        return min([*rooms] if self.num_workers is None else [self.num_workers, *rooms])

    def require_room(self, nodes: Sequence[Mapping[str, float]], where: str) -> None:
        """Raise `UserError` if nodes of these resources, called `where`, cannot hold the workers."""
        room = sum(map(self.room_in, nodes))
        if room < (self.num_workers or 1):
            cpus, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
            raise UserError(
                f"{self} do not fit: {where} has {cpus:g} CPU and {gpus:g} GPU on {len(nodes)} "
                f"{'node' if len(nodes) == 1 else 'nodes'}, room for {room}; ask for fewer workers "
                "(executor.workers), or for less by executor.cpus_per_worker and executor.gpus_per_worker"
            )


def choose_executor(
    kind: str = "auto", num_workers: int | str | None = None, gpus: int = 0, address: str | None = None
) -> Literal["local", "ray"]:
    """Choose between evaluating in this process and on Ray.

    Parameters
    ----------
    kind : {"auto", "local", "ray"}
        ``auto`` takes Ray if more than one worker is asked for, or as many as possible, or if more than one GPU is
        there, or a cluster address is given; the others are taken at their word.
    num_workers : int or "auto", optional
        Workers asked for.
    gpus : int
        GPUs that this machine has.
    address : str, optional
        Ray cluster to join.

    Raises
    ------
    UserError
        If ``kind`` is none of the three.

    Examples
    --------
    >>> choose_executor("auto"), choose_executor("auto", num_workers=4), choose_executor("local", num_workers=4)
    ('local', 'ray', 'local')
    """
    if kind == "local":
        return "local"
    if kind == "ray":
        return "ray"
    if kind != "auto":
        raise unknown_name("executor", kind, ("auto", "local", "ray"))
    several = num_workers == "auto" or (isinstance(num_workers, int) and num_workers > 1)
    return "ray" if several or gpus > 1 or address else "local"


def usable_cpus() -> int:
    """CPUs that this process may run on: those that are its own, or a container's quota if that is less."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return own if quota == "max" else max(1, min(own, int(quota) // int(period)))
    except (OSError, ValueError):
        return own


def connect(address: str | None, request: WorkerRequest) -> tuple[bool, WorkerRequest]:
    """Join or start a cluster that has room for the workers; a connection that was there before is used.

    An ``address`` of ``None`` starts a cluster on this machine, sized for the workers; ``"auto"``, ``"host:port"`` and
    ``"ray://host:port"`` join one. Returns whether this call made the connection, so that ``ray.shutdown()`` is the
    caller's to do, and the request with the shares that the cluster makes it. Raises `UserError` if there is no cluster
    at the address, or the workers do not fit into it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported
    require("an evaluation by Ray", "lm", "ray")
    import ray

    started = not ray.is_initialized()
    if started:
        _start(address, request)
    elif address not in (None, "auto") and not str(address).startswith("ray://"):  # which names no cluster
        _require_same_cluster(str(address))
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        request = request.on(nodes)
        request.require_room(nodes, "the Ray cluster")
    except BaseException:
        if started:
            ray.shutdown()
        raise
    return started, request


@contextmanager
def joined(address: str | None, request: WorkerRequest) -> Iterator[None]:
    """Be connected, as `connect` does it; a connection that was there before is left alone."""
    started, _ = connect(address, request)
    try:
        yield
    finally:
        if started:
            import ray

            ray.shutdown()


def _require_same_cluster(address: str) -> None:
    """Refuse an address other than that of the cluster to which this process is connected."""
    import ray

    here = str(ray.get_runtime_context().gcs_address)
    if address.rpartition(":")[2] != here.rpartition(":")[2]:  # of the port alone: a machine has many names
        raise UserError(
            f"this process is connected to the Ray cluster at {here}, not {address}; leave the address out, or with "
            "hydra/launcher=evoprompt_ray give it as hydra.launcher.address"
        )


def _start(address: str | None, request: WorkerRequest) -> None:
    import ray

    # Errors come back as results with the trials they belong to; the workers' output would only repeat them.
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        ray.init(
            address="local",
            num_cpus=_cpus_here(request),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
        return
    _check_reachable(address)
    try:
        ray.init(address=address, **quiet)
    except (ImportError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"cannot join a Ray cluster at address {address!r}: {textwrap.shorten(str(error), 300)}; run this on one "
            "of its nodes, or from elsewhere with ray://<host>:10001; if it asks for a token, set RAY_AUTH_MODE=token"
        ) from error


def _check_reachable(address: str) -> None:
    """Ray retries a dead address for a minute; a plain connection attempt knows at once."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"nothing answers at the Ray address {address!r} ({error}); start a cluster there with "
            "'ray start --head', or leave the address out to use this machine"
        ) from error


def _cpus_here(request: WorkerRequest) -> int:
    """CPUs of a cluster that this machine holds for the workers. Raises `UserError` if it has fewer."""
    cpus = usable_cpus()
    needed = (request.num_workers or 1) * (1 if request.cpus is None else request.cpus)
    if needed > cpus + 1e-9:
        raise UserError(
            f"{request} need {needed:g} CPU, and this machine has {cpus}; "
            "ask for fewer workers (executor.workers), a smaller executor.cpus_per_worker, or give the address of a "
            "Ray cluster"
        )
    return cpus if request.num_workers is None else max(1, math.ceil(needed))


def import_path() -> str:
    """A ``PYTHONPATH`` with which a worker imports what this process imports, from a checkout too.

    The workers run the same interpreter, so its own folders are left out. Folders that a worker's machine lacks do
    no harm.
    """
    interpreters = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    folders = [Path(__file__).resolve().parents[2], *(Path(entry or ".").resolve() for entry in sys.path)]
    own = [folder for folder in folders if not any(folder.is_relative_to(prefix) for prefix in interpreters)]
    return os.pathsep.join(dict.fromkeys(str(folder) for folder in own))
