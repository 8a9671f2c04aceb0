"""The report command: `evoprompt report <run directory, or a folder of runs>`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evoprompt.report import write_report


def main(arguments: Sequence[str]) -> int:
    """Write the report of a run, or of every run below a folder. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evoprompt report",
        description="Write report.html and plots of a finished run; or one table of all runs below a folder.",
    )
    parser.add_argument("folder", type=Path, help="a run directory, or a folder with run directories below it")
    folder = parser.parse_args(arguments).folder
    own = any((folder / name).is_file() for name in ("metrics.json", "config.yaml", "run.json"))
    if own or not folder.is_dir():
        print(write_report(folder))
    else:
        from evoprompt.report.sweep import write_sweep

        print(write_sweep(folder))
    return 0
