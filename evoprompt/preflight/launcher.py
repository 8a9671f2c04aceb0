"""Whether jobs of a sweep find room with `hydra/launcher=evoprompt_ray`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evoprompt.preflight.cluster import ask
from evoprompt.preflight.findings import Findings, counted
from evoprompt.preflight.machine import Machine
from evoprompt.study.settings import Settings

__all__ = ["check_launcher"]


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
