"""Who would evaluate: how many workers, whether they and jobs on Ray fit, and whether the search employs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evoprompt.llm.load.spec import POCKET, SHARDED
from evoprompt.parallel.ray_cluster import WorkerRequest, choose_executor
from evoprompt.preflight.cluster import LIMIT_SECONDS, Cluster, ask
from evoprompt.preflight.findings import Findings, counted, size
from evoprompt.preflight.model import Model
from evoprompt.preflight.surroundings import Machine
from evoprompt.study.search import optimizer_of, worker_request
from evoprompt.study.settings import ExecutorSettings, Settings

__all__ = ["check_executor", "check_launcher", "check_optimizer", "coordinates"]

LOADING = 100 * 2**20  # bytes a second that a worker should not have to exceed to be up in time


@dataclass(frozen=True)
class _Pool:
    """The workers that a run would start, and where."""

    request: WorkerRequest
    cluster: Cluster
    here: bool  # on a cluster that the run starts on this machine

    @property
    def room(self) -> int:
        return sum(map(self.request.room_in, self.cluster.nodes))

    @property
    def count(self) -> int:
        return self.request.num_workers or self.room

    @property
    def device(self) -> str:
        return "cuda" if self.request.gpus else "cpu"


def check_executor(settings: Settings, machine: Machine, model: Model | None, findings: Findings) -> int:
    """Print who would evaluate, and note what keeps them from it. Returns the number of workers; 0: this process."""
    wanted, name = settings.executor, settings.model.device
    findings.section("executor")
    kind = choose_executor(wanted.kind, wanted.workers, len(machine.gpus) if name != "cpu" else 0, wanted.address)
    if kind == "local":
        findings.line("kind", "local: this process evaluates")
        if settings.model.threads > machine.cpus:
            findings.note(f"model.threads={settings.model.threads} are more than the {machine.cpus} CPUs here")
        return 0
    with findings.catching():
        pool = _pool(settings, findings, machine)
        _show_workers(pool, settings.model.threads, findings)
        _check_room(pool, wanted, findings)
        _check_devices(pool, settings, model, findings)
        if model is not None and pool.room >= max(1, pool.count):
            _check_memory(pool, machine, model, findings)
            _check_loading(pool, wanted, model, findings)
        return pool.count
    return 1


def _pool(settings: Settings, findings: Findings, machine: Machine) -> _Pool:
    wanted, request = settings.executor, worker_request(settings)
    if wanted.address is None:
        findings.line("kind", "ray: a cluster that the run starts on this machine and takes down at its end")
        resources = {"CPU": machine.cpus, "GPU": len(machine.gpus), "memory": machine.memory}
        cluster = Cluster([resources], resources)
    else:
        findings.line("kind", f"ray: asking the cluster at {wanted.address}, for {LIMIT_SECONDS:g} s at most")
        cluster = ask(wanted.address)
        findings.line("cluster", str(cluster))
        for node in cluster.kinds():
            findings.line("", node)
    return _Pool(request.on(cluster.nodes), cluster, here=wanted.address is None)


def _show_workers(pool: _Pool, threads: int, findings: Findings) -> None:
    cpus, gpus = pool.request.cpus, pool.request.gpus
    findings.line("workers", f"{pool.count}, each with {cpus:g} CPU, {gpus:g} GPU and {counted(threads, 'thread')}")
    if pool.device == "cpu" and threads > max(cpus or 0, 1):
        findings.note(
            f"a worker's model.threads={threads} are more than the CPUs that it reserves, and workers get into each "
            f"other's way; take model.threads={max(1, int(cpus or 1))}, or fewer workers"
        )


def _check_room(pool: _Pool, wanted: ExecutorSettings, findings: Findings) -> None:
    request, cluster = pool.request, pool.cluster
    with findings.catching():
        request.require_room(cluster.nodes, "this machine" if pool.here else "the Ray cluster")
        needed = {"CPU": (request.cpus or 0) * pool.count, "GPU": (request.gpus or 0) * pool.count}
        short = [name for name, amount in needed.items() if amount > cluster.free.get(name, 0) + 1e-9]
        if short:
            findings.note(
                f"others use the cluster: there is not enough free {' and '.join(short)} for all workers now; a run "
                f"waits executor.timeout={wanted.timeout:g} s for it"
            )


def _check_devices(pool: _Pool, settings: Settings, model: Model | None, findings: Findings) -> None:
    """The driver measures baselines and the result: it should compute as its workers do."""
    name = settings.model.device
    if name.startswith(("cuda", SHARDED)) and not pool.request.gpus:
        findings.problem(
            f"model.device={name} but workers get no GPU; set executor.gpus_per_worker=1 where there are GPUs, or "
            "model.device=auto"
        )
    elif name.startswith("cuda:"):
        findings.problem(
            f"model.device={name} is not there for Ray workers, each of which sees its own GPU alone; use auto"
        )
    elif (pool.request.gpus or 0) > 1 and name != SHARDED:
        findings.note(f"a worker uses one of its {pool.request.gpus:g} GPUs; model.device={SHARDED} uses them all")
    if model is None:
        return
    driver, worker = (
        f"{kind} in {str(model.dtype(kind)).removeprefix('torch.')}" for kind in (model.device.type, pool.device)
    )
    same = ", as the workers" if driver == worker else f"; the workers on {worker}"
    findings.line("driver", f"this process, on {driver}{same}")
    if model.dtype(model.device.type) != model.dtype(pool.device):
        findings.problem(
            f"the workers would compute on {worker}, this process, which measures the baselines and the result, on "
            f"{driver}; run the command where it has the same device, or set model.dtype"
        )
    elif driver != worker:
        findings.note("baselines and the result are measured here: slower, and rounded a little differently")


def _check_memory(pool: _Pool, machine: Machine, model: Model, findings: Findings) -> None:
    """Whether the models of all workers fit: into main memory, and where GPUs can be seen, into those."""
    weights, passing = model.weights(pool.device), model.passing(pool.device)
    findings.line("memory", f"about {size(weights)} of weights and {size(passing)} for a pass, in each worker")
    nodes = [dict(node) for node in pool.cluster.nodes]
    if pool.here:
        nodes[0]["memory"] -= model.weights(model.device.type)  # the driver's own
    fitting = sum(min(pool.request.room_in(node), int(max(0, node["memory"]) // weights)) for node in nodes)
    if pool.count > fitting:
        remedy = f"executor.workers={fitting}" if fitting else "a smaller model"
        findings.problem(
            f"{counted(pool.count, 'worker')} of {size(weights)} each do not fit into the memory of "
            f"{'this machine beside the driver' if pool.here else 'the cluster'}, which has room for {fitting}; use "
            f"{remedy}{_or_quantize(model)}"
        )
    if pool.device == "cuda" and pool.here:
        _check_gpus(pool, machine, model, findings)
    elif pool.device == "cuda":
        findings.note("the memory of the cluster's GPUs is not seen from here; compare it with that")


def _or_quantize(model: Model) -> str:
    return "" if model.spec.quantization else ", or model.quantization=8bit or 4bit"


def _check_gpus(pool: _Pool, machine: Machine, model: Model, findings: Findings) -> None:
    """On this machine the driver's model, or its part, shares a GPU with those of workers."""
    share, whole = pool.request.gpus or 1.0, model.weights("cuda")
    spread = model.spec.device == SHARDED
    workers = min(pool.count, int(1 / share + 1e-9)) if share < 1 else 1
    of_workers = workers * whole / (share if spread else 1)
    for index, gpu in enumerate(machine.gpus):
        here = model.device.type == "cuda" and (spread or index == (model.device.index or 0))
        of_driver = here * whole / (len(machine.gpus) if spread else 1)
        if of_workers + of_driver > gpu.free:
            findings.problem(
                f"cuda:{index} has {size(gpu.free)} free; the models of {counted(workers, 'worker')} take "
                f"{size(of_workers)} there and that of the driver {size(of_driver)}; use a larger "
                f"executor.gpus_per_worker or executor=local{_or_quantize(model)}"
            )


def _check_loading(pool: _Pool, wanted: ExecutorSettings, model: Model, findings: Findings) -> None:
    weights, several = model.weights(pool.device), len(pool.cluster.nodes) > 1
    if weights > wanted.timeout * LOADING:
        findings.note(
            f"a worker has executor.timeout={wanted.timeout:g} s to load {size(weights)}; raise it where disk or "
            "network are slow"
        )
    if several and model.local:
        findings.note(f"the folder {model.spec.name} has to be on every node")
    elif several and model.spec.name != POCKET:
        where = os.environ.get("HF_HOME") or "the cache"
        findings.note(
            f"each node reads the model from {where}: let it be a shared folder, or fetch the model there first"
        )


def check_launcher(options: Mapping[str, Any], settings: Settings, machine: Machine, findings: Findings) -> None:
    """Check the launcher's options, and compare what a job reserves with what its cluster's nodes have."""
    from hydra_plugins.evoprompt_ray_launcher._tasks import Options

    with findings.catching():
        known = Options(**{key: value for key, value in options.items() if key != "_target_"})
        known.check_address([settings.executor.address])
        if known.address is None:
            nodes: list[Mapping[str, float]] = [{"CPU": machine.cpus, "GPU": len(machine.gpus)}]
        else:
            nodes = list(ask(known.address).nodes)
        largest = max((node.get("CPU", 0) for node in nodes), default=0)
        cpus = min(settings.model.threads, largest) if known.cpus_per_job is None else known.cpus_per_job
        gpus = known.gpus_per_job
        fitting = sum(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes)
        findings.line("a job", f"{cpus:g} CPU and {gpus:g} GPU; {counted(fitting, 'node')} could hold one")
        if not fitting:
            findings.problem(
                f"no node can hold a job of {cpus:g} CPU and {gpus:g} GPU; lower hydra.launcher.cpus_per_job or "
                "gpus_per_job"
            )
        if not gpus and any(node.get("GPU", 0) for node in nodes) and settings.model.device != "cpu":
            findings.note("there are GPUs, of which jobs see none; hydra.launcher.gpus_per_job=1 gives each job one")


def check_optimizer(settings: Settings, hidden: int, workers: int, findings: Findings) -> None:
    """Print what the optimizer asks for at a time, and note where workers would have nothing to do."""
    findings.section("search")
    d, batch = coordinates(settings.space, hidden), settings.executor.batch_size
    with findings.catching():
        optimizer = optimizer_of(settings, [(-1, 1)] * d)
        findings.line("space", f"{settings.space['kind']}, {d} coordinates")
        if settings.loop == "steady":
            findings.line("loop", f"steady: {batch} candidates for every {batch} results")
            return
        generation = len(optimizer.ask())
        parts = -(-generation // batch)
        findings.line("loop", f"generational: {generation} candidates at a time, {batch} of them a piece of work")
        if parts < workers:
            findings.note(
                f"that is work for {parts} of {workers} workers; a larger optimizer.popsize, a smaller "
                "executor.batch_size or loop=steady employs all"
            )


def coordinates(space: Mapping[str, Any], hidden: int) -> int:
    """The number of coordinates of a space.

    >>> coordinates({"kind": "low_rank", "tokens": 4, "rank": 2}, hidden=128)
    264
    """
    tokens = space["tokens"]
    if space["kind"] == "random_projection":
        return int(space["dimensions"])
    each = {"low_rank": tokens + hidden, "vocab_pca": tokens, "full": tokens * hidden}[space["kind"]]
    return int(each * space.get("rank", space.get("components", 1)))
