"""The report command: `evoprompt report <run directory, or a folder of runs>`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evoprompt.commands.ending import refusing
from evoprompt.report import write_report


@refusing
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report of a run, or of every run below a folder. Returns the exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="evoprompt report",
        description="Write report.html and plots of a finished run; or one table of all runs below a folder.",
    )
    parser.add_argument("folder", type=Path, help="a run directory, or a folder with run directories below it")
    print(_write(parser.parse_args(arguments).folder))
    return 0


def _write(folder: Path) -> Path:
    """A folder that holds a run's own files is a run; any other is searched for runs."""
    is_run = any((folder / name).is_file() for name in ("metrics.json", "config.yaml", "run.json"))
    if is_run or not folder.is_dir():
        return write_report(folder)
    from evoprompt.report.sweep import write_sweep

    return write_sweep(folder)
