"""Joining or starting a Ray cluster, and checking that the workers fit before waiting for them.

A Ray actor that fits nowhere waits for ever without a word, so the question is asked before.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprompt.errors import UserError

__all__ = ["WorkerRequest", "connect", "import_path", "usable_cpus"]

OBJECT_STORE_BYTES = 256 * 2**20  # only z, losses and the factory pass through it; Ray's default is 30 % of the memory
REACH_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerRequest:
    """How many workers, and what each of them takes.

    Raises
    ------
    UserError
        If the number of workers is not a whole number of at least 1, or a share is negative or not finite.

    Examples
    --------
    >>> str(WorkerRequest(2, 1.0, 0.5))
    '2 Ray workers of 1 CPU and 0.5 GPU each'
    >>> WorkerRequest(3, 2.0, 0.0).room_in({"CPU": 5.0})
    2
    """

    num_workers: int
    cpus: float
    gpus: float

    def __post_init__(self) -> None:
        if isinstance(self.num_workers, bool) or not isinstance(self.num_workers, int) or self.num_workers < 1:
            raise UserError(f"num_workers must be a whole number of at least 1, got {self.num_workers!r}")
        for name, share in (("cpus_per_worker", self.cpus), ("gpus_per_worker", self.gpus)):
            if not (math.isfinite(share) and share >= 0):
                raise UserError(f"{name} must be a number of at least 0, got {share!r}")

    def __str__(self) -> str:
        workers = "1 Ray worker" if self.num_workers == 1 else f"{self.num_workers} Ray workers"
        return f"{workers} of {self.cpus:g} CPU and {self.gpus:g} GPU each"

    def room_in(self, resources: Mapping[str, float]) -> int:
        """How many of the workers a node with these resources can hold; a worker is never spread over nodes."""
        rooms = [
            math.floor(resources.get(name, 0.0) / share + 1e-9)
            for name, share in (("CPU", self.cpus), ("GPU", self.gpus))
            if share > 0
        ]
        return min([self.num_workers, *rooms])


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def connect(address: str | None, request: WorkerRequest) -> bool:
    """Join or start a cluster that has room for the workers.

    Parameters
    ----------
    address : str or None
        ``None`` starts a cluster on this machine, sized for the workers; ``"auto"``, ``"host:port"`` and
        ``"ray://host:port"`` join one. If this process is already connected, that connection is used.
    request : WorkerRequest
        What has to fit.

    Returns
    -------
    bool
        Whether this call made the connection, so that ``ray.shutdown()`` is the caller's to do.

    Raises
    ------
    UserError
        If there is no cluster at the address, or the workers do not fit into it.
    """
    if not _connected() and address is None:
        _check_this_machine(request)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported
    import ray

    started = not ray.is_initialized()
    if started:
        _start(address, request)
    try:
        _check_cluster(request)
    except BaseException:
        if started:
            ray.shutdown()
        raise
    return started


def _connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _start(address: str | None, request: WorkerRequest) -> None:
    import ray

    # Errors come back as results with the trials they belong to; the workers' output would only repeat them.
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        ray.init(
            address="local",
            num_cpus=max(1, math.ceil(request.num_workers * request.cpus)),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
        return
    _check_reachable(address)
    try:
        ray.init(address=address, **quiet)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot join a Ray cluster at address {address!r}: {' '.join(str(error).split())}") from error


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


def _check_this_machine(request: WorkerRequest) -> None:
    cpus = usable_cpus()
    if request.num_workers * request.cpus > cpus + 1e-9:
        raise UserError(
            f"{request} need {request.num_workers * request.cpus:g} CPU, and this machine has {cpus}; "
            "ask for fewer workers, a smaller cpus_per_worker, or give the address of a Ray cluster"
        )


def _check_cluster(request: WorkerRequest) -> None:
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(request.room_in(node) for node in nodes)
    if room < request.num_workers:
        there = ray.cluster_resources()
        raise UserError(
            f"{request} do not fit: the Ray cluster has {there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU on "
            f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}, room for {room}; "
            "ask for fewer workers or less per worker"
        )


def import_path() -> str:
    """A ``PYTHONPATH`` with which a worker imports what this process imports, from a checkout too.

    The workers run the same interpreter, so its own folders are left out. Folders that a worker's machine lacks do
    no harm.
    """
    interpreters = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    folders = [Path(__file__).resolve().parents[2], *(Path(entry or ".").resolve() for entry in sys.path)]
    own = [folder for folder in folders if not any(folder.is_relative_to(prefix) for prefix in interpreters)]
    return os.pathsep.join(dict.fromkeys(str(folder) for folder in own))
