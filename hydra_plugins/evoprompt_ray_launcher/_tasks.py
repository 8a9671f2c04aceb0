"""Composing jobs, waiting for a cluster that can hold them, and running each as a Ray task until it is done."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from evoprompt.checks import real_number
from evoprompt.errors import UserError
from evoprompt.parallel import choose_executor
from evoprompt.parallel.ray_cluster import WorkerRequest, import_path, joined, usable_cpus
from evoprompt.study.sweepdir import SweepDirectory, job_entry, note_failure

TICK_SECONDS = 2.0  # how often a wait looks whether the cluster can still hold a job


@dataclass(frozen=True)
class Options:
    """What `EvopromptRayConf` documents, checked.

    Raises
    ------
    UserError
        One of them is out of range.
    """

    address: str | None
    cpus_per_job: float | None
    gpus_per_job: float
    jobs_at_once: int | None
    max_retries: int
    timeout: float

    def __post_init__(self) -> None:
        gpus = self.gpus_per_job
        if gpus > 1 and gpus != int(gpus):
            raise UserError(f"hydra.launcher.gpus_per_job={gpus!r} must be a whole number or less than 1")
        for name, least in (("cpus_per_job", 0), ("gpus_per_job", 0), ("jobs_at_once", 1), ("max_retries", 0)):
            value = getattr(self, name)
            if value is not None:
                real_number(f"hydra.launcher.{name}", value, least)

    def check_address(self, wanted: Sequence[str | None]) -> None:
        """Refuse jobs that would join a cluster while the launcher starts one of its own.

        Raises
        ------
        UserError
            One of the jobs has an `executor.address`.
        """
        given = next((address for address in wanted if address is not None), None)
        if given is not None and self.address is None:
            raise UserError(
                f"executor.address={given} needs the launcher on that cluster too; add hydra.launcher.address={given}"
            )


@dataclass(eq=False)
class Job:
    """A job, what it reserves, and how often its process died."""

    number: int
    overrides: list[str]
    name: str
    config: DictConfig
    folder: Path
    cpus: float
    threads: int
    alone: bool
    deaths: int = 0


def compose(loader: ConfigLoader, master: DictConfig, number: int, overrides: Sequence[str], options: Options) -> Job:
    """Compose one job's configuration and decide what it reserves."""
    config = loader.load_sweep_config(master, list(overrides))
    with open_dict(config.hydra):
        config.hydra.job.num, config.hydra.job.id = number, str(number)
        config.hydra.sweep.dir = str(Path(config.hydra.sweep.dir).absolute())
        config.hydra.sweep.subdir = str(config.hydra.sweep.subdir)  # the same folder whenever the job is tried again
    threads = OmegaConf.select(config, "model.threads", default=1)
    cpus = threads if options.cpus_per_job is None else options.cpus_per_job
    on_ray = _uses_ray(OmegaConf.select(config, "executor", default={}), options)
    given = list(config.hydra.overrides.task)
    return Job(
        number=number,
        overrides=given,
        name=SweepDirectory(config.hydra.sweep.dir).name(number, given),
        config=config,
        folder=Path(config.hydra.sweep.dir, config.hydra.sweep.subdir),
        cpus=0 if on_ray else cpus,
        threads=max(1, int(cpus)),
        alone=on_ray and options.jobs_at_once is None,
    )


def _uses_ray(executor: Any, options: Options) -> bool:
    """Whether a job will have Ray workers of its own; it sees the GPUs that are reserved for it and no others."""
    kind, gpus = executor.get("kind"), int(options.gpus_per_job)
    if kind == "auto":
        kind = choose_executor(kind, executor.get("workers"), gpus, executor.get("address"))
    return bool(kind == "ray")


@contextmanager
def cluster(options: Options, jobs: Sequence[Job]) -> Iterator[None]:
    """Be connected to a cluster that can hold each of the jobs.

    Raises
    ------
    UserError
        There is no cluster at the address, or it cannot hold a job.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    connected = ray.is_initialized()
    here = options.address is None
    options.check_address([OmegaConf.select(job.config, "executor.address", default=None) for job in jobs])
    with joined(options.address, WorkerRequest(usable_cpus(), 1, 0) if here else WorkerRequest(1, 0, 0)):
        _fit(jobs, options)
        _await_room(max(job.cpus for job in jobs), options, 0 if here and not connected else options.timeout)
        yield


def _fit(jobs: Sequence[Job], options: Options) -> None:
    """Let no job reserve more CPUs than a node has unless that was asked for, and tell of GPUs that none will see."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max((node.get("CPU", 0) for node in nodes), default=0)
    for job in jobs if options.cpus_per_job is None and largest else ():
        job.cpus = min(job.cpus, largest)
    gpus = sum(node.get("GPU", 0) for node in nodes)
    wanting = [job for job in jobs if OmegaConf.select(job.config, "model.device", default="auto") != "cpu"]
    if gpus and wanting and not options.gpus_per_job:
        print(
            f"evoprompt: jobs see none of the cluster's {gpus:g} GPUs; hydra.launcher.gpus_per_job=1 gives each one",
            file=sys.stderr,
        )


def _await_room(cpus: float, options: Options, timeout: float) -> None:
    """Wait until a node of the cluster could hold a job, were it free; Ray itself would wait for ever in silence."""
    import ray

    deadline = time.monotonic() + timeout
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= options.gpus_per_job for node in nodes):
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
    largest = ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes[:8]) or "none"
    waited = f" after {timeout:g} s" if timeout else ""
    raise UserError(
        f"no node of the Ray cluster can hold a job of {cpus:g} CPU and {options.gpus_per_job:g} GPU{waited}; "
        f"its nodes: {largest}; lower hydra.launcher.cpus_per_job or gpus_per_job, or join another cluster by "
        "hydra.launcher.address"
    )


def run(jobs: Sequence[Job], task_function: TaskFunction, options: Options) -> list[JobReturn]:
    """Run the jobs; one whose process dies is begun again, and in its folder finds what it had."""
    import ray

    waiting, running, values = deque(jobs), dict[Any, Job](), dict[int, float]()
    while waiting or running:
        while waiting and _may_begin(waiting[0], list(running.values()), options):
            job = waiting.popleft()
            running[_submit(job, task_function, options)] = job
        done, _ = ray.wait(list(running), num_returns=1, timeout=TICK_SECONDS)
        if not done:
            _await_room(min(job.cpus for job in running.values()), options, options.timeout)
        for task in done:
            job = running.pop(task)
            value = _value(task, job, options)
            if value is None:
                waiting.appendleft(job)
                continue
            values[job.number] = value
            told = "no result" if math.isnan(value) else f"held-out loss {value:.1f}"
            print(f"{job.name}: {told}; {len(values)} of {len(jobs)} jobs are over", flush=True)
    return [_returned(job, values[job.number]) for job in jobs]


def _value(task: Any, job: Job, options: Options) -> float | None:
    """What a task returned, NaN if it is given up, None if its process died and it may be tried again."""
    import ray

    try:
        value: float = ray.get(task)
        return value
    except ray.exceptions.RayTaskError as error:
        reason = str(error.cause or error)
    except ray.exceptions.RayError as death:
        job.deaths += 1
        cause = f"{type(death).__name__}: {str(death).strip().splitlines()[0].split('. ')[0]}"
        if job.deaths <= options.max_retries:
            print(f"evoprompt: {job.name}: its process died ({cause}); it goes on in another", file=sys.stderr)
            return None
        reason = f"its process died, once more than hydra.launcher.max_retries={options.max_retries} allows ({cause})"
    note_failure(job.folder, job_entry(job.number, job.overrides), "crashed", " ".join(reason.split()))
    return math.nan


def _may_begin(job: Job, running: Sequence[Job], options: Options) -> bool:
    if options.jobs_at_once is not None:
        return len(running) < options.jobs_at_once
    return not running or not (job.alone or any(other.alone for other in running))


def _submit(job: Job, task_function: TaskFunction, options: Options) -> Any:
    import ray

    remote = ray.remote(_run_here).options(
        name=job.name,
        num_cpus=job.cpus,
        num_gpus=options.gpus_per_job,
        max_retries=0,
        runtime_env={"env_vars": {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": str(job.threads)}},
    )
    return remote.remote(OmegaConf.to_yaml(job.config), str(Path.cwd()), task_function)


def _run_here(text: str, folder: str, task_function: TaskFunction) -> Any:
    """In a worker: run one job in the folder that the command was given in, and return its value."""
    with suppress(OSError):  # another machine may not have it
        os.chdir(folder)
    setup_globals()
    config = OmegaConf.create({"hydra": OmegaConf.structured(HydraConf)})
    OmegaConf.set_struct(config.hydra, False)
    config.merge_with(OmegaConf.create(text))
    context = HydraContext(config_loader=None, callbacks=Callbacks(config))  # type: ignore[arg-type]
    return run_job(task_function, config, "hydra.sweep.dir", "hydra.sweep.subdir", context).return_value


def _returned(job: Job, value: float) -> JobReturn:
    returned = JobReturn(overrides=job.overrides, cfg=job.config, working_dir=str(Path.cwd()))
    returned.status, returned.return_value = JobStatus.COMPLETED, value
    return returned
