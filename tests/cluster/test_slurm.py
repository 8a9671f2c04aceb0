"""The SLURM script, run here: `srun` and `scontrol` are stand-ins, Ray's head and second node and the run are real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "experiments" / "cluster" / "slurm.sh"
SMALL = ["+culture=arab", "optimizer.popsize=16", "survey.respondents=2", "survey.constant=none", "report=false"]
STAND_INS = {
    "scontrol": "printf 'localhost\\nlocalhost\\n'",  # two nodes, both of them this machine
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Path]:
    """A folder whose `bin` holds the stand-ins; short, as Ray has sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    (folder / "bin").mkdir()
    for name, text in STAND_INS.items():
        stand_in = folder / "bin" / name
        stand_in.write_text(f"#!/bin/bash\n{text}\n")
        stand_in.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def submitted(machine: Path, job: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The script at work, as SLURM would start it on the first of two nodes."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"},  # the job makes its own
        "PATH": f"{machine / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(machine),
        "RAY_TMPDIR": str(machine),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "1",
    }
    with (machine / "log.txt").open("w") as log:
        process = subprocess.Popen(
            ["bash", str(SCRIPT), *SMALL, *arguments],
            cwd=machine,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(120)


def left_behind(machine: Path) -> list[str]:
    """Processes that still have the folder in their command line."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(machine) in line]


@pytest.mark.system
def test_a_job_runs_on_two_nodes_and_leaves_nothing_behind(machine: Path) -> None:
    with submitted(machine, os.getpid(), "budget=32", "hydra.run.dir=run") as process:
        assert process.wait(600) == 0, (machine / "log.txt").read_text()
    history = pd.read_parquet(machine / "run" / "history.parquet")
    assert len(history) == 32
    assert set(history["worker"]) == {"ray-0", "ray-1"}
    assert (machine / ".ray" / "auth_token").is_file()
    assert left_behind(machine) == []


@pytest.mark.system
def test_a_job_that_slurm_ends_says_how_to_go_on(machine: Path) -> None:
    with submitted(machine, os.getpid() + 1, "budget=4000", "hydra.run.dir=run") as process:
        deadline = time.monotonic() + 600
        while not (machine / "run" / "journal.bin").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 130
    assert "interrupted; continue with: python -m evoprompt.run resume=" in (machine / "log.txt").read_text()
    assert left_behind(machine) == []


def test_the_script_is_sound_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
