"""This machine: CPUs, memory, GPUs and the torch that uses them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import torch

from evoprompt.llm.load.memory import free_bytes
from evoprompt.parallel.ray_cluster import usable_cpus
from evoprompt.preflight.findings import Findings, size

__all__ = ["Gpu", "Machine", "show_machine", "this_machine"]


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use, with its bytes of memory."""

    name: str
    total: int
    free: int


@dataclass(frozen=True)
class Machine:
    """CPUs that this process may run on, free bytes of memory, and GPUs."""

    cpus: int
    memory: int
    gpus: tuple[Gpu, ...]


def this_machine() -> Machine:
    """What this machine has: processors, memory and accelerators."""
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        gpus.append(Gpu(torch.cuda.get_device_name(index), total, free))
    return Machine(usable_cpus(), free_bytes(torch.device("cpu")), tuple(gpus))


def show_machine(machine: Machine, findings: Findings) -> None:
    """Print what a machine has."""
    findings.section("machine")
    findings.line("cpu", f"{machine.cpus} usable, {size(machine.memory)} of memory free")
    for index, gpu in enumerate(machine.gpus):
        findings.line(f"cuda:{index}", f"{gpu.name}, {size(gpu.free)} of {size(gpu.total)} free")
    if not machine.gpus:
        findings.line("gpu", "none that torch can use")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
    findings.line("torch", f"{torch.__version__}, {build}")
    if not machine.gpus and shutil.which("nvidia-smi"):
        remedy = "look at what nvidia-smi says" if torch.version.cuda else "install a CUDA build of torch"
        findings.note(f"NVIDIA's driver is installed, but torch sees no GPU: {remedy}")
