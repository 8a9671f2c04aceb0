"""Optional packages, and a folder to write to: what a run needs beside a model and workers."""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from evoprompt.extras import advice
from evoprompt.preflight.findings import Findings, size
from evoprompt.preflight.model import existing
from evoprompt.study.rundir import RunDirectory

__all__ = ["check_output", "check_packages", "lacks_launcher"]

LAUNCHERS = ("joblib", "submitit")
NEEDED_BYTES = 100 * 2**20  # of a run's folder: report, expert and history are smaller


def lacks_launcher(name: str) -> bool:
    """Whether a Hydra launcher comes with a package that is not installed."""
    kind = name.split("_")[0]
    return kind in LAUNCHERS and not (find_spec("hydra_plugins") and find_spec(f"hydra_plugins.hydra_{kind}_launcher"))


def check_packages(launcher: str, findings: Findings) -> None:
    """Those that a run can do without, unless its launcher is one of them."""
    findings.section("packages")
    if lacks_launcher(launcher):
        findings.line("launcher", f"{launcher} is not installed")
        findings.problem(f"hydra/launcher={launcher} needs a plugin; {advice('launchers')}")
    if find_spec("tensorboard"):
        findings.line("optional", "tensorboard is installed: a run writes scalars for it")
    else:
        findings.line("optional", f"tensorboard is not installed: a run writes no scalars; {advice('telemetry')}")


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
