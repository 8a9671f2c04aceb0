"""Runs of the real command, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import forkserver
import pytest

REPOSITORY = Path(__file__).parents[2]
SHORT_SURVEY = REPOSITORY / "tests" / "short_survey.yaml"
SMALL = ["budget=40", "optimizer.popsize=8", "survey.respondents=2", "space=random_projection", "space.dimensions=16"]
SMALL += ["survey.constant=none", "survey.examples=1", f"survey.wording_file={SHORT_SURVEY}", "model.threads=1"]

Command = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    """The environment of a command that finds this checkout from any folder."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", "NO_COLOR": "1"}


@pytest.fixture(scope="session")
def command() -> Command:
    """Run `python -m evoprompt.<module>` with arguments in a folder and return what happened."""

    def run(
        folder: Path, *arguments: str, module: str = "run", timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        return forkserver.run(
            [sys.executable, "-m", f"evoprompt.{module}", *arguments],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


def begin(folder: Path, *arguments: str, stderr: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Begin `python -m evoprompt.run` with arguments in a folder."""
    return forkserver.Python(
        [sys.executable, "-m", "evoprompt.run", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
    )


@pytest.fixture(scope="session")
def finished(command: Command, made_once: Callable[[str, Callable[[Path], object]], Path]) -> tuple[Path, str]:
    """One small finished run of `+culture=arab` in an empty folder: its run directory and its output."""

    def make(folder: Path) -> None:
        (folder / "empty").mkdir()
        done = command(folder / "empty", "+culture=arab", *SMALL)
        assert done.returncode == 0, done.stderr
        (folder / "said.txt").write_text(done.stdout)

    folder = made_once("finished", make)
    (directory,) = (folder / "empty" / "outputs" / "arab").iterdir()
    return directory, (folder / "said.txt").read_text()
