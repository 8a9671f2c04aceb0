"""Sweeps: many jobs by one command, whatever the launcher, and what becomes of those that fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from evoprompt.study.journal import Journal

from .conftest import REPOSITORY, SMALL, Command, begin
from .test_run import same_result

TINY = [*SMALL, "budget=16", "space.dimensions=8", "report=false"]
RAY = "hydra/launcher=evoprompt_ray"


@pytest.fixture(scope="module")
def sweep(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over two seeds, its jobs one after the other in the command's own process."""
    folder = tmp_path_factory.mktemp("serial")
    done = command(folder, "-m", "+culture=usa", "seed=range(2)", *TINY, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    return folder / "sweep"


def kill_in(run: Path, process: subprocess.Popen[str]) -> None:
    """Kill the process that works in a run directory, in the middle of its search."""
    lock = str(run / ".lock")
    command = psutil.Process(process.pid)
    working: list[psutil.Process] = []
    while not working:  # it has the lock long before it searches
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
        working = [one for one in (command, *command.children(recursive=True)) if lock in _open_files(one)]
    while not len(Journal(run / "journal.bin").told()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.kill(working[0].pid, signal.SIGKILL)
    assert not (run / "metrics.json").exists(), "the job must not be over for this to be a test"


def _open_files(process: psutil.Process) -> list[str]:
    try:
        return [file.path for file in process.open_files()]
    except psutil.Error:
        return []


def test_jobs_of_a_sweep_ask_baselines_once(sweep: Path, command: Command, tmp_path: Path) -> None:
    kept = sorted((sweep / "answers").iterdir())
    assert len(kept) == 6, "three baselines on two splits, for both seeds"
    alone = command(tmp_path, "+culture=usa", "seed=1", *TINY, "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    assert not (tmp_path / "alone" / "answers").exists()
    same_result(tmp_path / "alone", sweep / "usa-seed1-1")


@pytest.mark.system
def test_a_sweep_on_ray_ends_with_every_result_though_a_worker_is_killed(sweep: Path, tmp_path: Path) -> None:
    process = begin(tmp_path, "-m", "+culture=usa", "seed=range(5)", *TINY, RAY, "hydra.sweep.dir=sweep")
    kill_in(tmp_path / "sweep" / "usa-seed1-1", process)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    (line,) = said.splitlines()
    assert line.startswith("evoprompt: job 1 (seed=1): its process died (")
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 5
    assert "continuing" in (tmp_path / "sweep" / "usa-seed1-1" / "log.txt").read_text()
    for run in ("usa-seed0-0", "usa-seed1-1"):
        same_result(tmp_path / "sweep" / run, sweep / run)


@pytest.mark.system
def test_a_job_whose_process_dies_too_often_is_listed_and_leaves_the_others_alone(tmp_path: Path) -> None:
    options = [RAY, "hydra.launcher.max_retries=0", "hydra.sweep.dir=sweep"]
    process = begin(tmp_path, "-m", "+culture=usa", "seed=range(2)", *TINY, *options)
    kill_in(tmp_path / "sweep" / "usa-seed0-0", process)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith(
        "evoprompt: job 0 (seed=0): its process died, once more than hydra.launcher.max_retries=0 allows ("
    )
    assert (tmp_path / "sweep" / "usa-seed1-1" / "metrics.json").is_file()


def failing_sweep(command: Command, folder: Path, *options: str) -> tuple[str, str]:
    """Run a sweep whose job 1 crashes and whose job 2 is refused: the lines about them."""
    crashing = folder / "sweep" / "usa-seed1-1"
    (crashing / "respondents.parquet").mkdir(parents=True)  # where a file should be
    done = command(folder, "-m", "+culture=usa", "seed=0,1,-1", *TINY, "hydra.sweep.dir=sweep", *options)
    assert done.returncode == 1, done.stderr
    crash, refusal = done.stderr.strip().splitlines()
    assert crash.startswith("evoprompt: job 1 (seed=1): IsADirectoryError: ")
    assert (folder / crash.split("the traceback is in ")[1]).read_text().startswith("Traceback")
    assert refusal == "evoprompt: job 2 (seed=-1): seed must be a whole number >= 0, got -1"
    return crash, refusal


@pytest.mark.system
@pytest.mark.parametrize("launcher", ["evoprompt_ray", "joblib", "submitit_local"])
def test_jobs_that_fail_elsewhere_are_listed_at_the_end_and_leave_the_others_alone(
    launcher: str, sweep: Path, command: Command, tmp_path: Path
) -> None:
    failing_sweep(command, tmp_path, f"hydra/launcher={launcher}")
    same_result(tmp_path / "sweep" / "usa-seed0-0", sweep / "usa-seed0-0")
    assert "evolved" in (tmp_path / "sweep" / "usa-seed0-0" / "log.txt").read_text()


@pytest.mark.system
def test_jobs_that_failed_are_told_in_the_report_and_tried_again(sweep: Path, command: Command, tmp_path: Path) -> None:
    crash, refusal = failing_sweep(command, tmp_path)
    report = command(tmp_path, "sweep", module="report")
    assert report.returncode == 0
    told = [line.replace("evoprompt: skipped: ", "evoprompt: ") for line in report.stderr.splitlines()]
    assert told == [crash, refusal]
    (tmp_path / "sweep" / "usa-seed1-1" / "respondents.parquet").rmdir()
    again = command(tmp_path, "resume=sweep")
    assert again.returncode == 2
    assert again.stderr.strip() == refusal
    assert "job 0 (seed=0): finished already" in again.stdout
    for run in ("usa-seed0-0", "usa-seed1-1"):
        same_result(tmp_path / "sweep" / run, sweep / run)


@pytest.mark.system
def test_a_killed_sweep_continues_where_it_was(sweep: Path, command: Command, tmp_path: Path) -> None:
    arguments = ["-m", "+culture=usa", "seed=range(2)", *TINY, "hydra.sweep.dir=sweep"]
    process = begin(tmp_path, *arguments)
    kill_in(tmp_path / "sweep" / "usa-seed1-1", process)
    process.communicate(timeout=600)
    before = {path: path.read_bytes() for path in (tmp_path / "sweep" / "usa-seed0-0").glob("*.parquet")}
    shutil.copytree(tmp_path / "sweep", tmp_path / "copy")
    report = command(tmp_path, "copy", module="report")
    assert "job 1 (seed=1): it is not finished" in report.stderr

    for folder, again in (("sweep", arguments), ("copy", ["resume=copy", RAY])):
        done = command(tmp_path, *again)
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stdout.splitlines() if "already" in line] == ["job 0 (seed=0): finished already"]
        for run in ("usa-seed0-0", "usa-seed1-1"):
            same_result(tmp_path / folder / run, sweep / run)
    assert before == {path: path.read_bytes() for path in before}


def test_a_sweep_is_continued_with_its_own_settings_only(sweep: Path, command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, f"resume={sweep}", "budget=24")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "leave budget=24 out" in done.stderr
    shutil.copytree(sweep, tmp_path / "sweep")
    done = command(tmp_path, "-m", "+culture=usa", "seed=range(2)", *TINY, "budget=24", "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    assert "holds a sweep with other settings, to which job 0" in done.stderr
    for name in ("sweep.json", "multirun.yaml", "usa-seed0-0/run.json", "usa-seed1-1/run.json"):
        assert (tmp_path / "sweep" / name).read_bytes() == (sweep / name).read_bytes()
    done = command(tmp_path, "-m", "+culture=usa", "seed=range(3)", *TINY, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished already") == 2


@pytest.mark.system
def test_the_same_command_beside_a_live_sweep_is_refused_and_does_it_no_harm(command: Command, tmp_path: Path) -> None:
    longer = ["-m", "+culture=usa", "seed=0", *TINY, "budget=96", "hydra.sweep.dir=sweep"]
    process = begin(tmp_path, *longer)
    run = tmp_path / "sweep" / "usa-seed0-0"
    while not len(Journal(run / "journal.bin").told()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)  # however fast it is, it is not over when the second one begins
    second = command(tmp_path, *longer)
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "another process is running in" in second.stderr
    _, said = process.communicate(timeout=900)
    assert (process.returncode, said) == (0, "")
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert "failure" not in record


@pytest.mark.system
def test_jobs_that_use_ray_themselves_find_room_beside_the_launcher(
    sweep: Path, command: Command, tmp_path: Path
) -> None:
    nested = ["executor=ray", "executor.workers=2", RAY, "hydra.sweep.dir=sweep"]
    done = command(tmp_path, "-m", "+culture=usa", "seed=range(2)", *TINY, *nested)
    assert done.returncode == 0, done.stderr
    for run in ("usa-seed0-0", "usa-seed1-1"):
        same_result(tmp_path / "sweep" / run, sweep / run)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("gpus_per_job=64", "no node of the Ray cluster can hold a job of 0 CPU and 64 GPU"),
        pytest.param(
            *("cpus_per_job=4096", "no node of the Ray cluster can hold a job of 4096 CPU and 0 GPU"),
            marks=pytest.mark.system,
        ),
        ("gpus_per_job=1.5", "hydra.launcher.gpus_per_job=1.5 must be a whole number or less than 1"),
        ("jobs_at_once=0", "hydra.launcher.jobs_at_once must be a number >= 1, got 0"),
        ("address=localhost:1", "nothing answers at the Ray address 'localhost:1'"),
        ("address=null executor.address=h:1", "executor.address=h:1 needs the launcher on that cluster too"),
    ],
)
def test_what_no_cluster_can_do_is_refused_in_one_line(
    option: str, said: str, command: Command, tmp_path: Path
) -> None:
    done = command(tmp_path, "-m", "+culture=usa", *TINY, RAY, *f"hydra.launcher.{option}".split(), timeout=600)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_hydra_looks_at_the_launcher_without_loading_ray() -> None:
    code = "import hydra_plugins.evoprompt_ray_launcher.launcher, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not {"ray", "torch", "evoprompt"} & set(done.stdout.split())
