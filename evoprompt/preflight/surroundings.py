"""What a run needs beside a model and workers: this machine, optional packages, and a folder to write to."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from evoprompt.extras import EXTRAS, advice, installed
from evoprompt.llm.load.memory import free_bytes
from evoprompt.parallel.ray_cluster import usable_cpus
from evoprompt.preflight.findings import Findings, size
from evoprompt.study.rundir import RunDirectory

__all__ = [
    "Gpu",
    "Machine",
    "check_output",
    "check_packages",
    "existing",
    "lacks_launcher",
    "show_machine",
    "this_machine",
]

NEEDED_BYTES = 100 * 2**20  # of a run's folder: report, expert and history are smaller


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


def lacks_launcher(name: str) -> bool:
    """Whether a Hydra launcher comes with a package that is not installed."""
    module = f"hydra_plugins.hydra_{name.split('_')[0]}_launcher"
    return module in EXTRAS["launchers"] and not installed(module)


def check_packages(launcher: str, findings: Findings) -> None:
    """Those that a run can do without, unless its launcher is one of them."""
    findings.section("packages")
    if lacks_launcher(launcher):
        findings.problem(f"hydra/launcher={launcher} needs a plugin; {advice('launchers')}")
    absent = f"tensorboard is not installed: a run writes no scalars; {advice('telemetry')}"
    there = "tensorboard is installed: a run writes scalars for it"
    findings.line("optional", there if installed("tensorboard") else absent)


def check_output(folder: Path, resumed: bool, findings: Findings) -> None:
    """Whether a run could write to its folder, which is not made here."""
    findings.section("output")
    parent = existing(folder)
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        findings.line("folder", f"{parent} cannot be written")
        findings.problem(
            f"cannot write to {parent}: {error.strerror}; choose another folder with hydra.run.dir=<folder>"
        )
        return
    free = shutil.disk_usage(parent).free
    findings.line("folder", f"{parent} can be written, {size(free)} free")
    if free < NEEDED_BYTES:
        findings.problem(f"{parent} has {size(free)} left; free some, or choose another with hydra.run.dir=<folder>")
    if not resumed and RunDirectory(folder).config.exists():
        findings.problem(f"{folder} holds a run already; continue it with resume={folder}, or choose another folder")


def existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
