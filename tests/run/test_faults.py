"""Runs whose driver, workers or disk fail: nothing recorded is lost or repeated, and the result is the same."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from evoprompt.study.journal import Journal

from . import conftest
from .conftest import SMALL, Command, environment
from .test_run import same_result

BUDGET = 120
LONGER = [f"budget={BUDGET}", "optimizer.popsize=4", *SMALL[2:], "report=false"]


@pytest.fixture(scope="module")
def reference(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    done = command(folder.parent, "+culture=arab", *LONGER, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin the command; what it says goes to `said.txt` beside the run directory."""
    with (folder.parent / "said.txt").open("w") as said:
        return conftest.begin(folder.parent, *arguments, stderr=said)


def evaluated(folder: Path) -> int:
    return len(Journal(folder / "journal.bin").told())


def wait_for(process: subprocess.Popen[str], condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    over = False
    while not condition():
        assert not over, "the run ended without it"
        over = process.poll() is not None  # what it did last before its end counts, too
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trials(folder: Path) -> list[int]:
    return sorted(Journal(folder / "journal.bin").told()["trial"].tolist())


@pytest.mark.system
def test_a_driver_killed_at_twenty_random_moments_repeats_nothing_that_it_recorded(
    reference: Path, command: Command, tmp_path: Path
) -> None:
    folder, chance = tmp_path / "killed", random.Random(7)
    arguments = ["+culture=arab", *LONGER, f"hydra.run.dir={folder}"]
    recorded = 0
    for kill in range(20):
        process = begin(folder, *arguments)
        goal = max(1, recorded) if kill == 0 else min(recorded + chance.randrange(1, 7), 80)
        wait_for(process, lambda goal=goal: evaluated(folder) >= goal)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.wait(120)
        assert evaluated(folder) >= recorded, "what was recorded is there"
        recorded = evaluated(folder)
        arguments = [f"resume={folder}"]
    assert not (folder / "metrics.json").exists()
    done = command(tmp_path, f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert trials(folder) == list(range(BUDGET)), "each once"
    same_result(reference, folder)


@pytest.mark.system
def test_a_run_whose_workers_are_killed_ends_like_an_undisturbed_one(reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    process = begin(folder, "+culture=arab", *LONGER, "executor=ray", "executor.workers=2", f"hydra.run.dir={folder}")
    for goal in (8, 48):
        wait_for(process, lambda goal=goal: evaluated(folder) >= goal)
        children = psutil.Process(process.pid).children(recursive=True)
        victim = next(child for child in children if child.name().startswith("ray::RayActor"))
        os.kill(victim.pid, signal.SIGKILL)
    assert process.wait(timeout=900) == 0
    assert "worker ray-" in (tmp_path / "said.txt").read_text()
    assert trials(folder) == list(range(BUDGET))
    same_result(reference, folder)


@pytest.mark.system
def test_a_full_disk_stops_nothing_and_loses_nothing(reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    process = begin(folder, "+culture=arab", *LONGER, f"hydra.run.dir={folder}")
    wait_for(process, lambda: evaluated(folder) >= 8)
    size, (soft, hard) = (folder / "journal.bin").stat().st_size, resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))
    wait_for(process, lambda: "cannot write to" in (tmp_path / "said.txt").read_text())
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert process.wait(timeout=900) == 0
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert len([line for line in lines if "the search goes on" in line]) == 1
    assert all(line.startswith("evoprompt: ") for line in lines)
    assert trials(folder) == list(range(BUDGET))
    same_result(reference, folder)


@pytest.mark.system
def test_output_that_nobody_can_keep_ends_no_run(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "evoprompt.run", "+culture=arab", *SMALL, "report=false", "hydra.run.dir=run"],
            cwd=tmp_path, env=environment(), stdout=full, stderr=full, check=False, timeout=900,
        )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.system
def test_a_disk_that_stays_full_ends_the_run_with_words_and_it_can_go_on(
    reference: Path, command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "full"
    process = begin(folder, "+culture=arab", *LONGER, f"hydra.run.dir={folder}")
    wait_for(process, lambda: evaluated(folder) >= 8)
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, hard))
    assert process.wait(timeout=900) == 2
    said = (tmp_path / "said.txt").read_text()
    assert f"free some space and continue with resume={folder}" in said
    assert "Traceback" not in said
    done = command(tmp_path, f"resume={folder}")
    assert done.returncode == 0, done.stderr
    same_result(reference, folder)


@pytest.mark.system
def test_a_steady_run_on_ray_survives_its_driver_and_keeps_to_its_budget(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "steady"
    process = begin(
        folder, "+culture=arab", *LONGER, "loop=steady", "executor=ray", "executor.workers=2", f"hydra.run.dir={folder}"
    )
    wait_for(process, lambda: evaluated(folder) >= 30)
    process.kill()
    process.wait(120)
    kept = Journal(folder / "journal.bin").told()
    done = command(tmp_path, f"resume={folder}")
    assert done.returncode == 0, done.stderr
    told = Journal(folder / "journal.bin").told()
    assert sorted(told["trial"].tolist()) == list(range(BUDGET))
    assert told[: len(kept)].tobytes() == kept.tobytes()
